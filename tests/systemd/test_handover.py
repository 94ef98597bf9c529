# SPDX-License-Identifier: Apache-2.0
"""The real agent, started as systemd starts it: a socket and files handed over, and somebody to tell."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = Path(__file__).parents[1] / "hosts" / "emerald-rapids"
SECONDS = 60
KEEP_ROOT = ["--user", "root"] if os.geteuid() == 0 else []


class Manager:
    """The service manager's end: a listening socket, and what the agent says."""

    def __init__(self, folder: Path) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(SECONDS)
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify")}

    def wait_for(self, text: str) -> list[str]:
        """The next message that begins with this."""
        while True:
            message = self.notify.recv(4096).decode().split("\n")
            if message[0].startswith(text):
                return message

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS) as answer:
            body: bytes = answer.read()
        return body.decode()

    def close(self) -> None:
        self.listening.close()
        self.notify.close()


@contextmanager
def started(
    manager: Manager, *arguments: str, files: dict[str, Path] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The agent with the socket as descriptor 3 and files from 4 on."""
    files = files or {}
    script = f"exec 3<&{manager.listening.fileno()}"
    for number, path in enumerate(files.values(), 4):
        script += f" {number}<{path}"
    environment = os.environ | manager.environment
    environment |= {"LISTEN_FDS": str(1 + len(files)), "LISTEN_FDNAMES": ":".join(["http", *files])}
    command = [
        "bash",
        "-c",
        f'{script}; LISTEN_PID=$$ exec "$@"',
        "bash",
        sys.executable,
        "-m",
        "tdx_headroom",
    ]
    process = subprocess.Popen(
        [*command, "serve", "--web.systemd-socket", *KEEP_ROOT, *arguments],
        env=environment,
        pass_fds=[manager.listening.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def test_a_life_under_systemd(manager: Manager) -> None:
    """Ready with the verdict as status, reloading and ready again on SIGHUP, stopping at the end."""
    with started(manager, "--path.rootfs", str(HOST)) as process:
        ready = manager.wait_for("READY=1")
        assert ready[1].startswith("STATUS=")
        assert "tdx_tdmrs" in manager.get("/metrics")
        process.send_signal(signal.SIGHUP)
        assert manager.wait_for("RELOADING=1")[1].startswith("MONOTONIC_USEC=")
        manager.wait_for("READY=1")
        process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert process.wait(SECONDS) == 0


def test_ready_means_ready(manager: Manager) -> None:
    """When it says so, it has assessed the host and answers."""
    with started(manager, "--path.rootfs", str(HOST)):
        manager.wait_for("READY=1")
        assert manager.get("/-/ready") == "ok\n"


def test_the_watchdog_is_fed(manager: Manager) -> None:
    """With WATCHDOG_USEC= it reports more often than asked for."""
    manager.environment["WATCHDOG_USEC"] = "3000000"
    with started(manager, "--path.rootfs", str(HOST)):
        manager.wait_for("READY=1")
        manager.notify.settimeout(3)
        for _ in range(3):
            manager.wait_for("WATCHDOG=1")


def test_files_of_systemd_are_read(manager: Manager, tmp_path: Path) -> None:
    """A file that was handed over is read in place of the one at its path."""
    (tmp_path / "iomem").write_text("00100000-3fffffff : System RAM\n")
    (tmp_path / "host").mkdir()
    with started(manager, "--path.rootfs", str(tmp_path / "host"), files={"iomem": tmp_path / "iomem"}):
        manager.wait_for("READY=1")
        families = text_string_to_metric_families(manager.get("/metrics"))
        values = {sample.name: sample.value for family in families for sample in family.samples}
        assert values["tdx_memory_bytes"] == (1 << 30) - (1 << 20)
        regions = json.loads(manager.get("/api/v1/plan"))["strategies"]["memory-regions"]["tdmrs"]
        assert [tdmr["size"] for tdmr in regions] == [1 << 30]


def test_the_socket_outlives_the_agent(manager: Manager) -> None:
    """Started again it answers on the same socket."""
    for _ in range(2):
        with started(manager, "--path.rootfs", str(HOST)) as process:
            manager.wait_for("READY=1")
            assert "tdx_tdmrs" in manager.get("/metrics")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0


def test_without_a_socket() -> None:
    """Asked to listen on systemd's sockets and given none, it ends with one line and EX_UNAVAILABLE."""
    command = [sys.executable, "-m", "tdx_headroom", "serve", "--web.systemd-socket", *KEEP_ROOT]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert run.returncode == os.EX_UNAVAILABLE
    assert run.stderr.splitlines()[-1] == (
        "tdx-headroom: systemd has handed over no socket;"
        " start tdx-headroom.socket, or leave --web.systemd-socket out"
    )
