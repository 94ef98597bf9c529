# SPDX-License-Identifier: Apache-2.0
"""The real agent among clients that mean no good: whoever behaves is answered, and memory stays bounded.

Run with -s to see latencies and sizes.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import bcrypt
import psutil
import pytest

from tests.integration.agent import SECONDS, Running, agent
from tests.integration.certificates import make_authority
from tests.integration.recorded import record
from tests.tools.scrape import EVERYTHING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

SOCKET_MEMORY = re.compile(r"skmem:\(r(\d+),rb\d+,t(\d+),tb\d+,f(\d+),w(\d+),")

MOST = 512
"""Connections that the agent keeps."""

PAGES_ANSWERED = 'tdx_headroom_http_requests_total{code="200"}'

SCRAPE_TIMEOUT = 10.0
"""Seconds: Prometheus' default. An answer that comes later is none."""


@pytest.fixture(autouse=True, scope="module")
def _many_sockets() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Scraper:
    """Asks now and then, as Prometheus does, on a new connection each time."""

    running: Running
    context: ssl.SSLContext | None = None
    authorization: str = ""
    path: str = EVERYTHING

    def scrape(self, timeout: float = SECONDS) -> tuple[int, str]:
        port = self.running.port
        connection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
            if self.context is None
            else http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=self.context)
        )
        with closing(connection):
            headers = {"Authorization": self.authorization} if self.authorization else {}
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def latencies(self, times: int, gap: float = 0.02) -> list[float]:
        """Seconds of so many scrapes, sorted; each must be answered in full."""
        seconds = []
        for _ in range(times):
            began = time.monotonic()
            status, body = self.scrape()
            seconds.append(time.monotonic() - began)
            assert status == 200
            assert "tdx_headroom_build_info" in body
            time.sleep(gap)
        return sorted(seconds)

    def value(self, line: str) -> float:
        rows = self.scrape()[1].splitlines()
        return float(next(row.split()[-1] for row in rows if row.startswith(line + " ")))


def in_time(seconds: list[float]) -> bool:
    """Whether no scrape came too late, and the one in the middle was answered at once."""
    return seconds[-1] < SCRAPE_TIMEOUT and seconds[len(seconds) // 2] < SCRAPE_TIMEOUT / 5


def rss(running: Running) -> float:
    """MiB."""
    return float(psutil.Process(running.process.pid).memory_info().rss) / (1 << 20)


def kernel_memory(port: int) -> tuple[float, int]:
    """MiB that the kernel holds for the agent's TCP sockets of this port, those without a process included.

    Counted a socket at a time: /proc/net/sockstat has the sum of the whole machine.
    """
    words = ["ss", "--tcp", "--numeric", "--memory", "--no-header", f"sport = :{port}"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    sockets = [tuple(map(int, found)) for found in SOCKET_MEMORY.findall(text)]
    size = sum(received + max(sent, queued) + ahead for received, sent, ahead, queued in sockets)
    return size / (1 << 20), len(sockets)


def tell(what: str, seconds: list[float], before: float, after: float) -> None:
    median, worst = seconds[len(seconds) // 2] * 1000, seconds[-1] * 1000
    print(f"\n{what}: median {median:.0f} ms, worst {worst:.0f} ms, {before:.1f} -> {after:.1f} MiB")


@contextmanager
def served(tmp_path: Path, *, tls: bool) -> Iterator[Scraper]:
    if not tls:
        with agent(command="demo") as running:
            yield Scraper(running)
        return
    authority = make_authority(tmp_path / "ca")
    authority.issue("server", folder=tmp_path)
    config = tmp_path / "web.yml"
    config.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    with agent("--web.config.file", str(config), command="demo") as running:
        yield Scraper(running, authority.client())


@contextmanager
def connections(port: int, number: int, *, receive_buffer: int = 0) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            client = stack.enter_context(socket.socket())
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.connect(("127.0.0.1", port))
            opened.append(client)
        yield opened


@contextmanager
def silent_flood(port: int, a_second: int, source: str) -> Iterator[None]:
    """A process that connects so often from this address, and says nothing."""
    words = ("-m", "tests.integration.silent", str(port), str(a_second), source)
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield
        finally:
            process.kill()


@dataclass
class Flood:
    """Processes that ask as fast as they can, and afterwards their answers by status."""

    processes: list[subprocess.Popen[str]]
    answers: list[dict[str, int]] = field(default_factory=list)

    def wait_for(self, status: str) -> None:
        """Until the first process has had one more answer of this status, which it is to tell."""
        assert self.processes[0].stdout is not None
        assert self.processes[0].stdout.readline() == f"{status}\n"


@contextmanager
def flood(port: int, connections: int, *more: str, processes: int = 2) -> Iterator[Flood]:
    """Processes that ask as fast as they can."""
    words = ("-m", "tests.integration.flood", str(port), str(connections // processes), *more)
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(processes)
        ]
        found = Flood(running)
        try:
            for process in running:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
            yield found
            for process in running:
                assert process.stdin is not None
                process.stdin.close()
            for process in running:
                assert process.stdout is not None
                found.answers.append(json.loads(process.stdout.read().splitlines()[-1])["answers"])
        finally:
            for process in running:
                process.kill()


@pytest.mark.program("openssl")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_thousand_silent_clients(tmp_path: Path, *, tls: bool) -> None:
    """Beside 1000 clients that never say a word a scraper is answered at once; few of them are kept."""
    with served(tmp_path, tls=tls) as scraper:
        scraper.latencies(5)
        before = rss(scraper.running)
        with connections(scraper.running.port, 1000) as silent:
            seconds = scraper.latencies(20)
            kept = scraper.value("tdx_headroom_http_connections")
            after = rss(scraper.running)
            tell(f"{len(silent)} silent clients, {'TLS' if tls else 'plain'}", seconds, before, after)
        assert kept <= MOST
        assert in_time(seconds), seconds
        assert after - before < 48
    what = "that never shake hands (TLS)" if tls else "that never send"
    record(f"1000 clients {what}", f"keeps at most {MOST} of them, answers a scraper within its timeout")


def test_a_hundred_slow_readers(tmp_path: Path) -> None:
    """Beside 100 clients that ask for much and take nothing a scraper is answered at once."""
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with served(tmp_path, tls=False) as scraper:
        scraper.latencies(5)
        before = rss(scraper.running)
        with connections(scraper.running.port, 100, receive_buffer=1024) as slow:
            for client in slow:
                client.sendall(request)
            time.sleep(0.5)
            seconds = scraper.latencies(20)
            after = rss(scraper.running)
            tell("100 slow readers", seconds, before, after)
            # No more than --web.max-requests may wait for their readers; their buffers take a while to fill.
            dropped = 'tdx_headroom_http_connections_dropped_total{reason="slow"}'
            end = time.monotonic() + 60
            while scraper.value(dropped) < 60:
                assert time.monotonic() < end, f"{scraper.value(dropped)} slow readers were dropped"
                time.sleep(0.1)
        assert in_time(seconds), seconds
        assert after - before < 48
    record(
        "100 clients that never read",
        "drops all but --web.max-requests, answers a scraper within its timeout",
    )


@pytest.mark.program("ss")
@pytest.mark.parametrize(
    ("clients", "pages", "header", "what"),
    [
        (100, 100, "X: x", "100 clients that ask for 100 pages each and read none"),
        (300, 1, "Connection: close", "300 clients that want a page and the end, and read neither"),
    ],
    ids=["many pages", "closing"],
)
def test_what_is_not_read(tmp_path: Path, clients: int, pages: int, header: str, what: str) -> None:
    """The kernel holds little for clients that take nothing, and soon nothing, though they stay.

    Nothing is left without a process either: those are counted as well.
    """
    request = f"GET / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode() * pages
    with served(tmp_path, tls=False) as scraper:
        scraper.latencies(5)
        asked = scraper.value(PAGES_ANSWERED)
        port = scraper.running.port
        with connections(port, clients, receive_buffer=1024) as slow:
            began = time.monotonic()
            for client in slow:
                client.sendall(request)
            most = 0.0
            size, number = kernel_memory(port)
            while size > 1 or time.monotonic() < began + 5:
                most = max(most, size)
                assert time.monotonic() < began + SECONDS, f"{size:.1f} MiB in {number} sockets"
                time.sleep(0.05)
                size, number = kernel_memory(port)
            took = time.monotonic() - began
            assert scraper.value(PAGES_ANSWERED) - asked > clients
            print(f"\n{what}: at most {most:.1f} MiB in the kernel, {size:.1f} after {took:.0f} s")
        assert 1 < most < 32
    record(what, "lets the kernel hold at most 32 MiB for them, and nothing once their 20 s are over")


def test_silent_clients_of_one_address(tmp_path: Path) -> None:
    """Beside it a client of another address that needs 0.3 s to ask is answered, every time."""
    with served(tmp_path, tls=False) as scraper:
        port = scraper.running.port
        with silent_flood(port, 2000, "127.0.0.2"):
            dropped = 'tdx_headroom_http_connections_dropped_total{reason="crowded"}'
            begun = scraper.value(dropped)
            asked = 0
            end = time.monotonic() + 2 * SECONDS
            # As often as 12 are crowded out, however slow the machine is to connect so many.
            while asked < 12 or scraper.value(dropped) - begun <= 12:
                assert time.monotonic() < end, "nobody was crowded out"
                asked += 1
                with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                    for piece in (
                        b"GET /-/healthy HTTP/1.1\r\n",
                        b"Host: x\r\n",
                        b"Connection: close\r\n\r\n",
                    ):
                        time.sleep(0.1)
                        client.sendall(piece)
                    assert client.recv(100).startswith(b"HTTP/1.1 200 ")
            crowded = scraper.value(dropped) - begun
    print(f"\n2000 silent connects a second: {crowded:.0f} dropped meanwhile")
    record(
        "2000 silent connects a second from one address",
        "drops these, and no client of another address, however long it takes to ask",
    )


@pytest.mark.parametrize("how", ["kept", "reconnecting"])
def test_a_flood(tmp_path: Path, how: str) -> None:
    """Beside 2000 clients of another address, as fast as they can, a scraper has its turn as each of them.

    How long a turn of all of them takes is a matter of the machine, and of what else it does. They crowd out
    one another: from the scraper's own address, now and then the scraper too.
    """
    clients = 2000
    more = [] if how == "kept" else ["--reconnect"]
    with served(tmp_path, tls=False) as scraper:
        scraper.latencies(5)
        before = rss(scraper.running)
        began = time.monotonic()
        with flood(
            scraper.running.port, clients, "--until", "200=101", "--source", "127.0.0.2", *more
        ) as crowd:
            seconds = scraper.latencies(3)
            after = rss(scraper.running)
        lasted = time.monotonic() - began
        tell(f"{clients} {how} clients, answers {crowd.answers}", seconds, before, after)
        answered = sum(sum(found.values()) for found in crowd.answers)
        assert answered > 100
        assert seconds[-1] < 5 * clients * lasted / answered
        assert after - before < 48
        end = time.monotonic() + SECONDS
        while scraper.latencies(5)[-1] > 1:
            assert time.monotonic() < end, "it must be over when the flood is"
    record(
        f"{clients} {how} clients of one address that ask as fast as they can",
        "gives a scraper of another its turn as each of them",
    )


def test_a_flood_of_wrong_passwords(tmp_path: Path) -> None:
    """Beside it, who is known is answered as ever; most of the flood gets 503 without a password check."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(10)).decode()
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
    wrong = "Authorization: Basic " + base64.b64encode(b"alice:guess").decode()
    with agent("--web.config.file", str(config), command="demo") as running:
        scraper = Scraper(running, authorization="Basic " + base64.b64encode(b"alice:secret").decode())
        scraper.latencies(5)
        before = rss(running)
        with flood(running.port, 200, "--header", wrong, "--until", "401=1") as crowd:
            seconds = scraper.latencies(5)
            after = rss(running)
        tell(f"200 clients that guess, answers {crowd.answers}", seconds, before, after)
        assert all(set(found) <= {"401", "503"} for found in crowd.answers)
        refused, checked = (sum(found.get(code, 0) for found in crowd.answers) for code in ("503", "401"))
        assert refused > 10 * checked > 0
        assert in_time(seconds), seconds
        assert after - before < 24
    record(
        "200 clients that guess passwords",
        "checks one at a time, gives the others 503, answers whom it knows",
    )


def test_the_first_scrape_beside_guessers(tmp_path: Path) -> None:
    """Who has not proved itself yet has its turn beside a crowd that guesses from one other address.

    So it is at the start, and when the passwords have changed.
    """
    config = tmp_path / "web.yml"

    def write(password: bytes) -> str:
        hashed = bcrypt.hashpw(password, bcrypt.gensalt(10)).decode()
        new = tmp_path / "new"
        new.write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
        new.rename(config)
        return "Basic " + base64.b64encode(b"alice:" + password).decode()

    wrong = "Authorization: Basic " + base64.b64encode(b"alice:guess").decode()
    right = write(b"secret")
    took = []
    more = ("--header", wrong, "--tell", "401", "--source", "127.0.0.2")
    with (
        agent("--web.config.file", str(config), command="demo") as running,
        flood(running.port, 60, *more, processes=1) as crowd,
    ):
        for password in (b"secret", b"changed", b"changed again"):
            right = write(password)
            crowd.wait_for("401")
            began = time.monotonic()
            status, _ = Scraper(running, authorization=right).scrape(SCRAPE_TIMEOUT)
            took.append(time.monotonic() - began)
            assert status == 200
    print(f"\nfirst scrapes beside 60 guessers: {', '.join(f'{s:.2f} s' for s in took)}, {crowd.answers}")
    record(
        "60 guessers of one address, before a scraper of another has proved itself",
        "checks by turns of addresses: answers the first scrape, also after a change of passwords",
    )
