# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tdx_headroom.service import notify
from tdx_headroom.service.notify import Notifier

pytestmark = pytest.mark.usefixtures("told")

if TYPE_CHECKING:
    from collections.abc import Iterator


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.socket.settimeout(5)

    def message(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@tdx-headroom-test-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    made = Manager(address)
    yield made
    made.socket.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes what notifiers have opened."""
    made: list[Notifier] = []
    original = Notifier.__init__

    def init(self: Notifier, environment: dict[str, str] | None = None) -> None:
        original(self, environment)
        made.append(self)

    monkeypatch.setattr(Notifier, "__init__", init)
    yield
    for notifier in made:
        notifier.close()


def test_a_life(manager: Manager, address: str) -> None:
    """Every message as sd_notify(3) has it, over a path and over an abstract address."""
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("all is well")
    assert manager.message() == ["READY=1", "STATUS=all is well"]
    notifier.status("worse")
    assert manager.message() == ["STATUS=worse"]
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    reloading, stamp = manager.message()
    assert reloading == "RELOADING=1"
    assert stamp.startswith("MONOTONIC_USEC=")
    assert before <= int(stamp.partition("=")[2]) <= time.monotonic_ns() // 1000
    notifier.reloaded("as before")
    assert manager.message() == ["READY=1", "STATUS=as before"]
    notifier.watchdog()
    assert manager.message() == ["WATCHDOG=1"]
    notifier.stopping()
    assert manager.message() == ["STOPPING=1"]
    assert manager.silent()


def test_without_a_service_manager() -> None:
    """Started by hand, every call does nothing and says nothing."""
    with capture_logs() as logs:
        notifier = Notifier({"WATCHDOG_USEC": "1000000"})
        for call in (
            notifier.ready,
            notifier.reloading,
            notifier.reloaded,
            notifier.watchdog,
            notifier.stopping,
        ):
            call()
        notifier.status("x")
    assert logs == []
    assert notifier.watchdog_interval is None
    assert not notifier.connected


def test_reloaded_only_after_reloading(manager: Manager, address: str) -> None:
    """A refresh that no SIGHUP asked for is not told as the end of a reload."""
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.reloaded("x")
    assert manager.silent()


def test_the_variables_are_taken_away() -> None:
    """No child tells the service manager anything."""
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "OTHER": "stays"}
    Notifier(environment)
    assert environment == {"OTHER": "stays"}


def test_a_manager_that_has_gone(tmp_path: Path) -> None:
    """One line when it goes, none for each message after it, and again it is told when it is back."""
    address = str(tmp_path / "notify")
    manager = Manager(address)
    notifier = Notifier({"NOTIFY_SOCKET": address})
    manager.socket.close()
    Path(address).unlink()
    with capture_logs() as logs:
        for _ in range(3):
            notifier.watchdog()
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert logs[0]["message"] == "WATCHDOG=1"
    lost = notifier.connected
    assert not lost
    manager = Manager(address)
    with capture_logs() as logs:
        notifier.watchdog()
    assert manager.message() == ["WATCHDOG=1"]
    assert logs == []
    assert notifier.connected
    manager.socket.close()


def test_a_manager_that_does_not_read(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its queue full a message is dropped within the time allowed, and the agent goes on."""
    monkeypatch.setattr(notify, "SEND_SECONDS", 0.05)
    notifier = Notifier({"NOTIFY_SOCKET": address})
    with capture_logs() as logs:
        for _ in range(5000):
            notifier.watchdog()
            if logs:
                break
    assert len(logs) == 1
    assert manager.message() == ["WATCHDOG=1"]


@pytest.mark.parametrize("address", ["relative", "@", "vsock:2:3", "\n"])
def test_an_address_of_no_use(address: str) -> None:
    """An address of another kind is one warning, and nothing is sent."""
    with capture_logs() as logs:
        Notifier({"NOTIFY_SOCKET": address}).ready()
    assert len(logs) == 1
    assert "no AF_UNIX address" in logs[0]["problem"]


def test_an_address_that_is_too_long() -> None:
    """A path longer than the kernel takes is one warning."""
    with capture_logs() as logs:
        Notifier({"NOTIFY_SOCKET": "/" + "x" * 200}).ready()
    assert len(logs) == 1


def test_a_status_is_one_line(manager: Manager, address: str) -> None:
    """A line break in a status does not become a message of its own."""
    Notifier({"NOTIFY_SOCKET": address}).status("x\nREADY=1")
    assert manager.message() == ["STATUS=x\\x0aREADY=1"]


def test_half_the_watchdog_time() -> None:
    """The interval is half of what the service manager waits for, in seconds."""
    notifier = Notifier(
        {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    )
    assert notifier.watchdog_interval == 15.0


@pytest.mark.parametrize(
    ("environment", "warnings"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "0"}, 1),
        ({"WATCHDOG_USEC": "soon"}, 1),
        ({"WATCHDOG_USEC": "-1"}, 1),
        ({"WATCHDOG_USEC": "9" * 30}, 1),
    ],
)
def test_no_watchdog(environment: dict[str, str], warnings: int) -> None:
    """Not asked for, asked of another process, or a time that is none: no watchdog."""
    with capture_logs() as logs:
        assert Notifier({"NOTIFY_SOCKET": "@x", **environment}).watchdog_interval is None
    assert len(logs) == warnings


def test_descriptors_are_stored(manager: Manager, address: str, tmp_path: Path) -> None:
    """A descriptor goes with its name, and without polling, which would throw a file of /proc out."""
    (tmp_path / "file").write_text("x")
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.unstore("iomem")
    with (tmp_path / "file").open() as file:
        notifier.store("iomem", file.fileno())
    assert manager.message() == ["FDSTOREREMOVE=1", "FDNAME=iomem"]
    data, fds, _, _ = socket.recv_fds(manager.socket, 4096, 4)
    assert data.decode().split("\n") == ["FDSTORE=1", "FDNAME=iomem", "FDPOLL=0"]
    assert stat.S_ISREG(os.fstat(fds[0]).st_mode)
    os.close(fds[0])


def test_a_barrier(manager: Manager, address: str) -> None:
    """The barrier ends when the service manager closes its end, and gives up after the time allowed."""
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert notifier.barrier(0.05) is False
    socket.recv_fds(manager.socket, 4096, 4)  # not closed

    def answer() -> None:
        data, fds, _, _ = socket.recv_fds(manager.socket, 4096, 4)
        assert data == b"BARRIER=1"
        os.close(fds[0])

    thread = Thread(target=answer)
    thread.start()
    assert notifier.barrier(5) is True
    thread.join()
