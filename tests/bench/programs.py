# SPDX-License-Identifier: Apache-2.0
"""The agent and its peers as processes, and what they cost."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
HOST = CHECKOUT / "tests" / "hosts" / "emerald-rapids"
THIS_HOST = ("--path.rootfs", "/")
PYTHON = sys.executable

BARE = (
    "import sys, signal, prometheus_client as p;"
    " p.start_http_server(int(sys.argv[1]), '127.0.0.1'); signal.pause()"
)
"""The smallest program with prometheus_client: no metrics but those of its own process."""

IMPORTS = "import prometheus_client, psutil, structlog, sys; print('ready', flush=True); sys.stdin.read()"

ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
REQUEST = (
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Prometheus/2.42.0\r\n"
    f"Accept: {ACCEPT}\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
).encode()
"""As Prometheus asks: over a connection that stays open, compressed."""


class Cost(NamedTuple):
    """What a program took, in seconds."""

    cpu: float
    wall: float


def cost(command: Sequence[str]) -> Cost:
    """What a program takes that ends by itself, its children included."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


@functools.cache
def as_nobody() -> list[str]:
    """What to put before a command so that it runs as a unit would run it: not as root.

    The right to read stays, for checkouts and interpreters in root's home. Empty when this is not root.
    """
    if os.geteuid() != 0:
        return []
    ids = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def agent(port: int, *arguments: str) -> list[str]:
    """The command of an agent that shows a captured host with TDX."""
    root = [] if "--path.rootfs" in arguments else ["--path.rootfs", str(HOST)]
    return [
        PYTHON,
        "-m",
        "tdx_headroom",
        "serve",
        "--log.level",
        "error",
        "--web.listen-address",
        f"127.0.0.1:{port}",
        *root,
        *arguments,
    ]


def bare(port: int) -> list[str]:
    return [PYTHON, "-c", BARE, str(port)]


def node_exporter(port: int) -> list[str]:
    return ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]


def has_node_exporter() -> bool:
    return shutil.which("prometheus-node-exporter") is not None


class Client:
    """A scraper with one connection, which it opens anew when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def scrape(self, request: bytes = REQUEST) -> bytes:
        """One answer, headers and all."""
        try:
            return self._ask(request)
        except ConnectionError:
            self.close()
            return self._ask(request)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, request: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 10)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(request)
        data = b""
        while not _whole(data):
            chunk = self._socket.recv(1 << 18)
            if not chunk:
                if not data:
                    raise ConnectionResetError
                self.close()
                break
            data += chunk
        return data


def _whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    head = head.lower()
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    _, found, length = head.partition(b"content-length: ")
    # Without a length the answer ends with the connection.
    return bool(found) and len(body) >= int(length.split(b"\r\n")[0])


@dataclass
class Program:
    """A running server, and the seconds from its start to its first answer."""

    process: subprocess.Popen[bytes]
    port: int
    ready_seconds: float

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)


@contextmanager
def running(command: Sequence[str], port: int, *, root: bool = False) -> Iterator[Program]:
    """The server, answering; as nobody, or with `root` as oneself."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [*([] if root else as_nobody()), *command],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                if b" 200 " in Client(port).scrape()[:20]:
                    break
            except OSError:
                if process.poll() is not None or time.perf_counter() > began + 30:
                    raise RuntimeError(f"{command[:4]} does not start") from None
                time.sleep(0.002)
        yield Program(process, port, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def fleet(*names: str) -> Iterator[dict[str, Program]]:
    """Several of `agent`, `bare` and `node_exporter`, all running at once."""
    commands = {"agent": agent, "bare": bare, "node_exporter": node_exporter}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(commands[name](port := free_port()), port)) for name in names
        }


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, those that have ended too (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def status(pid: int, key: str) -> int:
    """A number of /proc/PID/status; memory in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    raise KeyError(key)


def wakeups(pid: int) -> int:
    """How often any thread of a process has waited and gone on."""
    return sum(
        status(int(task.name), "voluntary_ctxt_switches") for task in Path(f"/proc/{pid}/task").iterdir()
    )
