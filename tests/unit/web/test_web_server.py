# SPDX-License-Identifier: Apache-2.0
"""The server in this process, with limits that are short enough to wait for."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import logging
import resource
import socket
import struct
import termios
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import bcrypt
import pytest
from prometheus_client import CollectorRegistry
from tests.integration.certificates import make_authority
from tests.tools.scrape import EVERYTHING

from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.web import library_log
from tdx_headroom.web.server import WebServer
from tdx_headroom.web.settings import Address, Limits, UnixAddress, WebSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from prometheus_client.core import Metric

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.output.metric_families import Collector

GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
HOSTS = Path(__file__).parents[2] / "hosts"
SETTINGS = WebSettings(addresses=(Address("127.0.0.1", 0),))


class View:
    def __init__(self) -> None:
        self.assessment: Assessment | None = assess(HostFacts(host=None, kernel_release=None))
        self.stale = False
        self.assessed_at: float | None = None
        self.records: tuple[BootRecord, ...] = ()
        self.version = 0

    def collect(self, wanted: frozenset[Collector]) -> Iterable[Metric]:  # noqa: ARG002  a view has it
        return ()


@pytest.fixture(autouse=True)
def _keep_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_log, "LOGGERS", ("tornado",))


class Served:
    def __init__(self, server: WebServer, urls: list[str]) -> None:
        self.server = server
        self.urls = urls
        self.port = int(urls[0].rstrip("/").rpartition(":")[2]) if urls[0].startswith("http") else 0

    async def say(self, data: bytes, seconds: float = 5) -> bytes:
        """Everything that comes back until the server closes or is silent for a while."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(seconds):
                return await reader.read()
        finally:
            writer.close()

    async def get(
        self, path: str = "/metrics", *headers: str, host: str = "x", source: str = "127.0.0.1"
    ) -> tuple[int, dict[str, str], bytes]:
        connection = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        return await fetch(connection, path, *headers, host=host)

    async def metric(self, line: str) -> float:
        text = (await self.get(EVERYTHING))[2].decode()
        return float(next(row.split()[-1] for row in text.splitlines() if row.startswith(line + " ")))


async def fetch(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, *headers: str, host: str = "x"
) -> tuple[int, dict[str, str], bytes]:
    reader, writer = connection
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", "")
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(30):
        data = await reader.read()
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    status, *rows = head.decode().split("\r\n")
    return int(status.split()[1]), dict(row.split(": ", 1) for row in rows), body


def serve(
    test: Callable[[Served], Awaitable[None]],
    settings: WebSettings = SETTINGS,
    assessment: Assessment | None = None,
) -> None:
    """Run a test against a server."""

    @asynccontextmanager
    async def serving() -> AsyncIterator[Served]:
        view = View()
        view.assessment = assessment or view.assessment
        server = WebServer(view, CollectorRegistry(auto_describe=False), settings)
        try:
            yield Served(server, server.listen())
        finally:
            await server.stop()

    async def run() -> None:
        async with serving() as served:
            await test(served)

    asyncio.run(run())


def basic(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def protected(tmp_path: Path, max_requests: int = 40) -> WebSettings:
    config = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    config.write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
    return replace(SETTINGS, config_file=config, max_requests=max_requests)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (b"", Limits(request_seconds=0.2)),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", Limits(request_seconds=0.2)),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", Limits(request_seconds=0.2)),
        (GET % b"/-/healthy", Limits(idle_seconds=0.2)),
        (GET % b"/-/healthy" + b"GET /", Limits(idle_seconds=0.2)),
    ],
    ids=["silent", "half a header", "no body", "idle", "half a second request"],
)
def test_who_keeps_it_waiting_is_closed(data: bytes, limits: Limits) -> None:
    """Silence before, within and after a request ends the connection at its deadline, not before."""

    async def test(served: Served) -> None:
        began = time.monotonic()
        answer = await served.say(data)
        assert 0.15 < time.monotonic() - began < 5
        assert answer.count(b"HTTP/1.1 200") == data.count(b"/-/healthy")

    serve(test, replace(SETTINGS, limits=limits))


@pytest.mark.program("openssl")
@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "half a hello"])
def test_who_does_not_shake_hands_is_closed(data: bytes, tmp_path: Path) -> None:
    """With TLS too the deadline runs from connecting; others are served meanwhile."""
    authority = make_authority(tmp_path / "ca")
    authority.issue("server", folder=tmp_path)
    config = tmp_path / "web.yml"
    config.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")

    async def test(served: Served) -> None:
        began = time.monotonic()
        silent = asyncio.create_task(served.say(data))
        await asyncio.sleep(0.02)
        secure = await asyncio.open_connection(
            "127.0.0.1", served.port, ssl=authority.client(), server_hostname="127.0.0.1"
        )
        assert (await fetch(secure, "/-/healthy"))[0] == 200
        assert await silent == b""
        assert 0.9 < time.monotonic() - began < 5

    # Long enough for a busy machine to shake hands with the other one.
    serve(test, replace(SETTINGS, config_file=config, limits=Limits(request_seconds=1)))


def test_a_check_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a password cannot be checked the client is told so, and does not wait for ever."""

    def broken(*_arguments: object) -> bool:
        raise MemoryError

    async def test(served: Served) -> None:
        monkeypatch.setattr(bcrypt, "checkpw", broken)
        assert (await served.get("/", basic("alice", "secret")))[0] == 500

    serve(test, protected(tmp_path))


def test_a_slow_reader_is_closed() -> None:
    """Who does not take an answer is closed at its deadline, and what was kept for it is let go."""

    async def test(served: Served) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", served.port))
            began = time.monotonic()
            client.sendall(GET % b"/" * 50)
            dropped = 'tdx_headroom_http_connections_dropped_total{reason="slow"}'
            async with asyncio.timeout(15):
                while not await served.metric(dropped):  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.02)
            assert time.monotonic() - began >= 0.3
            assert await served.metric(dropped) == 1

    serve(test, replace(SETTINGS, limits=Limits(send_seconds=0.3)))


@pytest.mark.parametrize("ending", ["closed", "open"])
def test_the_end_of_an_answer(ending: str) -> None:
    """Who takes its time gets all of the last answer, though the connection is closed after it.

    It is counted for as long as that lasts, also when the client has closed its own side.
    """

    async def test(served: Served) -> None:
        loop = asyncio.get_running_loop()
        whole = (await served.get("/"))[2]
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", served.port))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if ending == "closed":
                client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            await asyncio.sleep(0.3)
            assert await served.metric("tdx_headroom_http_connections") == 2
            taken = b""
            while data := await asyncio.wait_for(loop.sock_recv(client, 1000), 30):
                taken += data
                await asyncio.sleep(0)
            assert taken.partition(b"\r\n\r\n")[2] == whole
        await until_alone(served)
        assert await served.metric('tdx_headroom_http_connections_dropped_total{reason="slow"}') == 0

    serve(test, assessment=assess(read_facts(Root(HOSTS / "emerald-rapids"))))


@pytest.mark.parametrize("ending", ["closed", "open"])
def test_an_end_that_is_not_taken(ending: str) -> None:
    """It is dropped at its deadline: the client is told by a reset, and nothing is left."""

    async def test(served: Served) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", served.port))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if ending == "closed":
                client.shutdown(socket.SHUT_WR)
            await until_alone(served)
            with pytest.raises(ConnectionResetError):
                take_all(client)

    limits = Limits(send_seconds=0.5)
    host = assess(read_facts(Root(HOSTS / "emerald-rapids")))
    serve(test, replace(SETTINGS, limits=limits), host)


@pytest.mark.program("openssl")
def test_the_end_of_an_answer_over_tls(tmp_path: Path) -> None:
    """With TLS too all of the last answer comes, however slowly it is taken."""
    authority = make_authority(tmp_path / "ca")
    authority.issue("server", folder=tmp_path)
    config = tmp_path / "web.yml"
    config.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")

    def ask(port: int, seconds: float) -> bytes:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", port))
            with authority.client().wrap_socket(client, server_hostname="127.0.0.1") as secure:
                secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
                time.sleep(seconds)
                return take_all(secure)

    async def test(served: Served) -> None:
        whole, late = [await asyncio.to_thread(ask, served.port, seconds) for seconds in (0, 0.3)]
        assert whole.startswith(b"HTTP/1.1 200 ")
        assert late[-20_000:] == whole[-20_000:]

    host = assess(read_facts(Root(HOSTS / "emerald-rapids")))
    serve(test, replace(SETTINGS, config_file=config), host)


def take_all(client: socket.socket) -> bytes:
    taken = b""
    while data := client.recv(1000):
        taken += data
    return taken


async def until_alone(served: Served) -> None:
    """Until nobody is connected but who asks for the metrics."""
    async with asyncio.timeout(30):
        while await served.metric("tdx_headroom_http_connections") != 1:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.05)


def test_a_unix_client_that_does_not_read(tmp_path: Path) -> None:
    """What waits for it in the kernel stays small: closing the connection does not take that back."""

    async def test(served: Served) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "x.sock"))
            client.sendall(GET % b"/" * 100)
            dropped = 'tdx_headroom_http_connections_dropped_total{reason="slow"}'
            async with asyncio.timeout(15):
                while not await served.metric(dropped):  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.02)
            waiting = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, bytes(4)))[0]
            assert 0 < waiting <= 32 << 10

    addresses = (*SETTINGS.addresses, UnixAddress(str(tmp_path / "x.sock")))
    serve(test, replace(SETTINGS, addresses=addresses, limits=Limits(send_seconds=0.3)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Secret: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"y" * 2000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n" + b"y" * 1025,
        b"yyyy\r\n\r\n",
        b"GET / HTTP/1.1\r\nyyyy\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: yyyy\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"y" * 500 + b"\r\n\r\n",
    ],
)
def test_what_is_too_large_or_no_http(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """It is refused at once; nothing of it comes back or is logged."""

    async def test(served: Served) -> None:
        answer = await served.say(data)
        assert b"yy" not in answer
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")

    serve(test)
    out, err = capfd.readouterr()
    assert "yy" not in out + err
    assert "Traceback" not in out + err


def test_nothing_of_a_request_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither path, query, host nor headers show in an answer or in the log; every answer is guarded."""

    async def test(served: Served) -> None:
        mark = "zq9"
        for path in (
            f"/{mark}",
            f"/?{mark}",
            f"/metrics?name[]={mark}",
            f"/%00{mark}",
            f"/../{mark}",
            f"//{mark}/",
        ):
            status, headers, body = await served.get(path, f"X-{mark}: {mark}", f"Accept: {mark}", host=mark)
            assert status == (404 if "?" not in path else 200)
            assert mark not in str(headers)
            assert mark.encode() not in body
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert headers["Cache-Control"] == "no-store"

    serve(test)
    assert "zq9" not in "".join(capfd.readouterr())


def test_methods() -> None:
    """GET and HEAD are answered, HEAD without a body; all others are told so."""

    async def test(served: Served) -> None:
        for method, code in (("POST", 405), ("PUT", 405), ("OPTIONS", 405), ("TRACE", 405), ("zq9", 405)):
            answer = await served.say(
                f"{method} /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            assert answer.startswith(f"HTTP/1.1 {code} ".encode())
            assert b"\r\nAllow: GET, HEAD\r\n" in answer
            assert b"zq9" not in answer
        answer = await served.say(b"HEAD /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nContent-Length: 3\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    serve(test)


def test_requests_are_counted() -> None:
    """Every status is counted, from zero."""

    async def test(served: Served) -> None:
        line = 'tdx_headroom_http_requests_total{code="%d"}'
        assert await served.metric(line % 404) == 0
        await served.get("/none")
        assert await served.metric(line % 404) == 1
        assert await served.metric(line % 200) == 2

    serve(test)


@pytest.mark.parametrize(
    "data",
    [
        b"yyyy\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n" + b"y" * 1025,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
    ],
)
def test_bad_requests_are_answered_and_counted(data: bytes) -> None:
    """Whether the library or the agent finds the fault: 400 with all that other answers have, and an end."""

    async def test(served: Served) -> None:
        answer = await served.say(data)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        for header in (b"Connection: close", b"Date: ", b"Content-Length: ", b"X-Frame-Options: DENY"):
            assert answer.count(b"\r\n" + header) == 1, header
        assert await served.metric('tdx_headroom_http_requests_total{code="400"}') == 1

    serve(test)


def test_bad_requests_get_the_configured_headers(tmp_path: Path) -> None:
    """Also what is not even HTTP."""
    config = tmp_path / "web.yml"
    config.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}\n")

    async def test(served: Served) -> None:
        assert b"\r\nX-Frame-Options: sameorigin\r\n" in await served.say(b"yyyy\r\n\r\n")

    serve(test, replace(SETTINGS, config_file=config))


@pytest.mark.parametrize("target", ["http://x:1/-/healthy", "HTTP://y/-/healthy?a=b"])
def test_a_whole_url_as_target(target: str) -> None:
    """As a proxy would be asked: its path counts."""

    async def test(served: Served) -> None:
        assert (await served.get(target))[0] == 200

    serve(test)


def test_answers_have_a_date() -> None:
    """In the form that HTTP wants, and of now."""

    async def test(served: Served) -> None:
        for path in ("/", "/none"):
            date = (await served.get(path))[1]["Date"]
            assert date.endswith(" GMT")
            assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60

    serve(test)


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", "keep-alive, TE", True),
        ("1.1", "keep-alive, close", False),
        ("1.1", "close, TE", False),
        ("1.1", "CLOSE", False),
        ("1.0", "keep-alive", True),
        ("1.0", "close, keep-alive", False),
        ("1.0", "TE", False),
    ],
)
def test_lists_in_connection(version: str, connection: str, *, kept: bool) -> None:
    """`close` in a list closes after the answer, which says so; a second request is not looked at."""
    request = f"GET /-/healthy HTTP/{version}\r\nHost: x\r\nConnection: {connection}\r\n\r\n".encode()

    async def test(served: Served) -> None:
        answer = await served.say(request * 2 + b"GET / HTTP/1.0\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200 ") == (3 if kept else 1)
        assert (b"\r\nConnection: close\r\n" in answer) is (
            (version == "1.1" and not kept) or "close" in connection
        )

    serve(test)


def test_accept() -> None:
    """What a client refuses by q=0 it does not get."""

    async def test(served: Served) -> None:
        refused = ("Accept: application/openmetrics-text;q=0, text/plain", "Accept-Encoding: gzip;q=0, *")
        headers = (await served.get("/metrics", *refused))[1]
        assert headers["Content-Type"].startswith("text/plain")
        assert "Content-Encoding" not in headers
        wanted = ("Accept: application/openmetrics-text", "Accept-Encoding: br, gzip;q=0.1")
        headers = (await served.get("/metrics", *wanted))[1]
        assert headers["Content-Type"].startswith("application/openmetrics-text")

    serve(test)


def test_passwords(tmp_path: Path) -> None:
    """Without valid credentials every path gives 401 and is counted; with them all is as ever."""

    async def test(served: Served) -> None:
        for path in ("/", "/metrics", "/api/v1/plan", "/-/healthy", "/none"):
            for headers in (
                (),
                (basic("alice", "wrong"),),
                (basic("mallory", "secret"),),
                ("Authorization: x",),
            ):
                status, answer, body = await served.get(path, *headers)
                assert (status, body) == (401, b"401\n")
                assert answer["Www-Authenticate"].startswith("Basic realm=")
        good = basic("alice", "secret")
        assert (await served.get("/none", good))[0] == 404
        text = (await served.get(EVERYTHING, good))[2]
        assert b"tdx_headroom_http_auth_failures_total 20.0\n" in text
        assert b'tdx_headroom_http_requests_total{code="401"} 20.0\n' in text

    serve(test, protected(tmp_path))


class HeldChecks:
    """Password checks that take as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self._go_on = Event()
        self._check = bcrypt.checkpw
        monkeypatch.setattr(bcrypt, "checkpw", self._held)

    def go_on(self) -> None:
        self._go_on.set()

    def _held(self, given: bytes, against: bytes) -> bool:
        self.begun += 1
        self._go_on.wait(60)
        return self._check(given, against)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)


def test_above_max_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that would have to wait behind too many others get 503 at once; who is known gets by."""

    async def test(served: Served) -> None:
        assert (await served.get("/-/healthy", basic("alice", "secret")))[0] == 200
        checks = HeldChecks(monkeypatch)

        async def ask(user: str) -> int:
            status, headers, _ = await served.get("/-/healthy", basic(user, "wrong"))
            assert (headers.get("Retry-After") == "1") is (status == 503)
            return status

        attackers = {asyncio.create_task(ask(f"user{i}")) for i in range(20)}
        try:
            refused = set[asyncio.Task[int]]()
            while len(refused) < 17:
                done, attackers = await asyncio.wait(attackers, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            assert [task.result() for task in refused] == [503] * 17
            assert (await served.get("/metrics", basic("alice", "secret")))[0] == 200
            await until(lambda: checks.begun == 1)
        finally:
            checks.go_on()
        assert await asyncio.gather(*attackers) == [401] * 3

    limits = Limits(auth_seconds=60)
    serve(test, replace(protected(tmp_path, max_requests=3), limits=limits))


def test_a_crowd_of_one_address_waits_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside as many guessers as may wait, who comes from elsewhere is next; also with new passwords."""

    async def besieged(served: Served, password: str) -> None:
        with monkeypatch.context() as patch:
            checks = HeldChecks(patch)
            guesses = [
                asyncio.create_task(served.get("/", basic(f"user{i}", "x"), source="127.0.0.2"))
                for i in range(60)
            ]
            try:
                await until(lambda: sum(task.done() for task in guesses) == 20)
                scrape = asyncio.create_task(served.get("/-/healthy", basic("alice", password)))
                await until(lambda: sum(task.done() for task in guesses) == 21)
            finally:
                checks.go_on()
            assert (await scrape)[0] == 200
            codes = [code for code, *_ in await asyncio.gather(*guesses)]
        assert (codes.count(503), codes.count(401)) == (21, 39)

    async def test(served: Served) -> None:
        await besieged(served, "secret")
        hashed = bcrypt.hashpw(b"changed", bcrypt.gensalt(4)).decode()
        (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
        await besieged(served, "changed")

    serve(test, replace(protected(tmp_path), limits=Limits(auth_seconds=60)))


def test_gone_before_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests whose clients have gone are not checked: a flood of them does not hold up who comes after."""
    settings = protected(tmp_path)
    with (tmp_path / "web.yml").open("a") as config:
        config.write("basic_auth_excluded_paths: [/metrics]\n")

    async def test(served: Served) -> None:
        async def until_connected(number: int) -> None:
            async with asyncio.timeout(30):
                while await served.metric("tdx_headroom_http_connections") != number:  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.01)

        checks = HeldChecks(monkeypatch)
        try:
            first = asyncio.create_task(served.get("/", basic("first", "x")))
            await until(lambda: checks.begun == 1)
            gone = []
            for i in range(30):
                _, writer = await asyncio.open_connection("127.0.0.1", served.port)
                writer.write(f"GET / HTTP/1.1\r\nHost: x\r\n{basic(f'user{i}', 'x')}\r\n\r\n".encode())
                gone.append(writer)
            # Who asks for the metrics after them is answered after all of them have been read.
            await until_connected(1 + 30 + 1)
            known = asyncio.create_task(served.get("/-/healthy", basic("alice", "secret")))
            await until_connected(1 + 30 + 1 + 1)
            for writer in gone:
                writer.close()
            await until_connected(1 + 1 + 1)
        finally:
            checks.go_on()
        assert ((await first)[0], (await known)[0]) == (401, 200)
        assert checks.begun == 2
        answered = 'tdx_headroom_http_requests_total{code="%d"}'
        assert [await served.metric(answered % code) for code in (401, 503)] == [1, 0]

    serve(test, replace(settings, limits=Limits(auth_seconds=60)))


def test_a_unix_socket_shows_all_and_asks_for_nothing(tmp_path: Path) -> None:
    """Over the unix socket there is no password; TCP beside it keeps its rules."""

    async def test(served: Served) -> None:
        assert served.urls[1] == f"unix:{tmp_path}/x.sock"
        assert (await served.get("/"))[0] == 401
        connection = await asyncio.open_unix_connection(str(tmp_path / "x.sock"))
        status, _, body = await fetch(connection, "/api/v1/plan")
        assert status == 200
        assert json.loads(body)["observed"]["cmrs"]
        body = (await served.get("/api/v1/plan", basic("alice", "secret")))[2]
        assert json.loads(body)["observed"]["cmrs"] is None

    addresses = (*SETTINGS.addresses, UnixAddress(str(tmp_path / "x.sock")))
    host = assess(read_facts(Root(HOSTS / "emerald-rapids")))
    serve(test, replace(protected(tmp_path), addresses=addresses), host)
    assert not (tmp_path / "x.sock").exists()


def test_configured_headers(tmp_path: Path) -> None:
    """A header from the web configuration takes the place of the built-in one, on errors too."""
    config = tmp_path / "web.yml"
    config.write_text(
        "http_server_config: {headers: {Strict-Transport-Security: max-age=9, X-Frame-Options: sameorigin}}\n"
    )

    async def test(served: Served) -> None:
        for path in ("/", "/none"):
            headers = (await served.get(path))[1]
            assert headers["Strict-Transport-Security"] == "max-age=9"
            assert headers["X-Frame-Options"] == "sameorigin"
            assert headers["X-Content-Type-Options"] == "nosniff"

    serve(test, replace(SETTINGS, config_file=config))


def test_sockets_of_others_are_served() -> None:
    """A listening socket that was handed over is served beside the addresses."""
    given = socket.socket(socket.AF_INET6)
    try:
        given.bind(("::1", 0))
    except OSError:
        given.close()
        pytest.skip("there is no IPv6 here")
    given.listen()

    async def test(served: Served) -> None:
        port = given.getsockname()[1]
        assert served.urls == [f"http://[::1]:{port}/"]
        connection = await asyncio.open_connection("::1", port)
        assert (await fetch(connection, "/-/healthy"))[0] == 200

    serve(test, WebSettings(sockets=(given,)))


def test_out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """When descriptors run out silent clients make room for the next ones, without a busy loop."""

    async def test(served: Served) -> None:
        loop = asyncio.get_running_loop()
        clients = [socket.socket() for _ in range(20)]  # made before: client and server share the limit here
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(c.fileno() for c in clients) + 6, hard))
        try:
            for client in clients:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", served.port))
            await loop.sock_sendall(clients[-1], GET % b"/-/healthy")
            async with asyncio.timeout(8):
                answer = await loop.sock_recv(clients[-1], 1000)
            assert answer.startswith(b"HTTP/1.1 200 ")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()
        assert 1 <= len(lines) <= 20

    lines: list[str] = []

    class Log:
        def warning(self, text: str, **_values: object) -> None:
            lines.append(text)

    monkeypatch.setattr("tdx_headroom.web.server.log.get", Log)
    serve(test)
    assert set(lines) == {"out of file descriptors"}


def test_the_library_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """What the HTTP library logs is cut down to place and kind, once in a while; warnings are left out."""
    logger = logging.getLogger("tornado.general")
    library_log.install()
    for i in range(3):
        try:
            int(f"zq9 {i}")
        except ValueError:
            logger.exception("Malformed zq9 %s", "zq9")
        logger.warning("SSL error from zq9")
    said = "".join(capfd.readouterr())
    assert "zq9" not in said
    assert said.count("internal error") == 1
    assert "ValueError" in said
    assert "test_web_server.py" in said
