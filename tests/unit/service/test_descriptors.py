# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tdx_headroom.hostfs.root import Root
from tdx_headroom.service import descriptors
from tdx_headroom.sources.kernel_log.reader import read_kernel_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST = 300
"""Where the tests put descriptors: 3 and up belong to pytest."""

IOMEM = "00100000-3fffffff : System RAM\n"


class Handover:
    """Puts descriptors where systemd would, and has them taken."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.warnings: list[dict[str, object]] = []
        self.count = 0

    def give(self, *given: tuple[int, str], pid: str | None = None, count: str | None = None) -> None:
        for number, (fd, _) in enumerate(given):
            if fd >= 0:
                os.dup2(fd, FIRST + number)
        self.count = len(given)
        self.environment |= {
            "LISTEN_PID": pid or str(os.getpid()),
            "LISTEN_FDS": count or str(len(given)),
            "LISTEN_FDNAMES": ":".join(name for _, name in given),
            "OTHER": "stays",
        }

    def take(self) -> descriptors.Inherited:
        with capture_logs() as logs:
            taken = descriptors.take(self.environment)
        self.warnings = [dict(entry) for entry in logs]
        return taken

    def problems(self) -> list[object]:
        return [entry["problem"] for entry in self.warnings]

    def is_open(self, number: int) -> bool:
        try:
            os.fstat(FIRST + number)
        except OSError:
            return False
        return True


@pytest.fixture
def handover(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handover]:
    monkeypatch.setattr(descriptors, "FIRST", FIRST)
    made = Handover()
    yield made
    for number in range(made.count):
        with suppress(OSError):
            os.close(FIRST + number)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Opens a file with this content."""
    fds: list[int] = []

    def make(content: str) -> int:
        path = tmp_path / str(len(fds))
        path.write_text(content)
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_nothing_without_the_variables() -> None:
    """Started by hand there is nothing to take, and nothing to warn of."""
    with capture_logs() as logs:
        assert descriptors.take({"OTHER": "x"}) == descriptors.Inherited()
    assert logs == []


def test_sockets_and_files_go_by_name(
    handover: Handover, opened: Callable[[str], int], listening: socket.socket
) -> None:
    """A socket becomes a socket, each known name becomes the path that it stands for."""
    null = os.open("/dev/null", os.O_RDONLY)
    handover.give(
        (listening.fileno(), "http"),
        (opened("a"), "memblock-reserved"),
        (opened(IOMEM), "iomem"),
        (null, "kmsg"),
    )
    os.close(null)
    taken = handover.take()
    assert handover.warnings == []
    assert [s.getsockname() for s in taken.sockets] == [listening.getsockname()]
    assert taken.files == {
        "sys/kernel/debug/memblock/reserved": FIRST + 1,
        "proc/iomem": FIRST + 2,
        "dev/kmsg": FIRST + 3,
    }
    root = Root("/", taken.files)
    assert [root.read("iomem", "proc/iomem") for _ in range(2)] == [IOMEM, IOMEM]
    taken.sockets[0].detach()


def test_what_is_taken_never_blocks_and_is_not_inherited(
    handover: Handover, listening: socket.socket
) -> None:
    """Sockets and kmsg are set to O_NONBLOCK, and no child gets any of them."""
    null = os.open("/dev/null", os.O_RDONLY)
    handover.give((listening.fileno(), "http"), (null, "kmsg"))
    os.close(null)
    for number in range(2):
        os.set_inheritable(FIRST + number, True)
        os.set_blocking(FIRST + number, True)
    taken = handover.take()
    for number in range(2):
        assert not os.get_blocking(FIRST + number)
        assert not os.get_inheritable(FIRST + number)
    taken.sockets[0].detach()


def test_the_variables_are_taken_away(handover: Handover, opened: Callable[[str], int]) -> None:
    """A child, or a second call, finds nothing."""
    handover.give((opened(IOMEM), "iomem"))
    assert handover.take().files
    assert handover.environment == {"OTHER": "stays"}
    assert handover.take() == descriptors.Inherited()


def test_a_unix_socket_is_taken(handover: Handover, tmp_path: Path) -> None:
    """A socket in the file system is as good as a TCP one."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen()
        handover.give((made.fileno(), "http"))
        taken = handover.take()
    assert [s.family for s in taken.sockets] == [socket.AF_UNIX]
    taken.sockets[0].detach()


@pytest.mark.parametrize("pid", ["1", "", "x", "-5"])
def test_for_another_process(handover: Handover, opened: Callable[[str], int], pid: str) -> None:
    """Descriptors for another process are not touched: one warning."""
    handover.give((opened(IOMEM), "iomem"))
    handover.environment["LISTEN_PID"] = pid
    assert handover.take() == descriptors.Inherited()
    assert len(handover.warnings) == 1
    assert "LISTEN_PID" in str(handover.problems()[0])
    assert handover.is_open(0)


@pytest.mark.parametrize("count", ["x", "-1", "1.5", "99999999999999999999", "513", " 1", "²"])
def test_a_bad_number(handover: Handover, opened: Callable[[str], int], count: str) -> None:
    """A number that is none gets one warning and nothing is taken."""
    handover.give((opened(IOMEM), "iomem"), count=count)
    assert handover.take() == descriptors.Inherited()
    assert handover.problems() == [f"LISTEN_FDS is {count!r}, no number up to 512"]


def test_a_number_of_zero(handover: Handover) -> None:
    """A socket unit without sockets is nothing to warn of."""
    handover.give(count="0")
    assert handover.take() == descriptors.Inherited()
    assert handover.warnings == []


def test_closed_descriptors(handover: Handover, opened: Callable[[str], int]) -> None:
    """Of descriptors that are not there each gets a warning; the others are taken."""
    handover.give((-1, "iomem"), (opened("x"), "zoneinfo"), (-1, "kmsg"))
    assert handover.take().files == {"proc/zoneinfo": FIRST + 1}
    assert handover.problems() == ["Bad file descriptor"] * 2
    assert [entry["fd"] for entry in handover.warnings] == [FIRST, FIRST + 2]


def test_fifos_and_directories(handover: Handover, tmp_path: Path) -> None:
    """What is no file is closed with a warning: reading it might never end."""
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR)
    folder = os.open(tmp_path, os.O_RDONLY)
    handover.give((fifo, "iomem"), (folder, "cmdline"), (fifo, "kmsg"))
    os.close(fifo)
    os.close(folder)
    assert handover.take() == descriptors.Inherited()
    assert handover.problems() == ["not a regular file"] * 2 + ["not a character device"]
    assert not any(handover.is_open(number) for number in range(3))


def test_a_plain_file_is_no_kmsg(handover: Handover, opened: Callable[[str], int]) -> None:
    """The log must be the device: a file would be read as if it were one."""
    handover.give((opened("6,0,0,-;x\n"), "kmsg"))
    assert handover.take().files == {}
    assert handover.problems() == ["not a character device"]


def test_a_file_that_cannot_be_read(handover: Handover, tmp_path: Path) -> None:
    """Opened for writing only, or as a path only: a warning, not an error at each reading."""
    (tmp_path / "f").write_text(IOMEM)
    writing = os.open(tmp_path / "f", os.O_WRONLY)
    path = os.open(tmp_path / "f", os.O_PATH)
    handover.give((writing, "iomem"), (path, "zoneinfo"))
    os.close(writing)
    os.close(path)
    assert handover.take().files == {}
    assert handover.problems() == ["not opened for reading"] * 2


def test_an_unknown_name_and_a_double_one(handover: Handover, opened: Callable[[str], int]) -> None:
    """The first of a name counts; a name that nobody knows is closed."""
    handover.give((opened("1"), "iomem"), (opened("2"), "iomem"), (opened("3"), "shadow"))
    taken = handover.take()
    assert taken.files == {"proc/iomem": FIRST}
    assert handover.problems() == [
        "there is another one of this name",
        "its name is none that the agent knows",
    ]
    assert [handover.is_open(number) for number in range(3)] == [True, False, False]


@pytest.mark.parametrize("names", [None, "http", "http:iomem:kmsg"])
def test_names_that_do_not_fit(
    handover: Handover, opened: Callable[[str], int], listening: socket.socket, names: str | None
) -> None:
    """Without a name for each, sockets are taken all the same and files are not."""
    handover.give((listening.fileno(), "http"), (opened(IOMEM), "iomem"))
    if names is None:
        del handover.environment["LISTEN_FDNAMES"]
    else:
        handover.environment["LISTEN_FDNAMES"] = names
    taken = handover.take()
    assert len(taken.sockets) == 1
    assert taken.files == {}
    assert len(handover.warnings) == 2
    taken.sockets[0].detach()


def test_sockets_that_do_not_listen(handover: Handover) -> None:
    """A connection (Accept=yes) and a datagram socket are closed with a warning."""
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        handover.give((one.fileno(), "connection"), (datagrams.fileno(), "http"))
        taken = handover.take()
    assert taken.sockets == ()
    assert handover.problems() == [
        "a socket that does not listen; the socket unit must say Accept=no",
        "a socket, but none of TCP or AF_UNIX streams",
    ]
    assert not handover.is_open(0)
    assert not handover.is_open(1)


def test_as_systemd_does_it(tmp_path: Path, listening: socket.socket) -> None:
    """In a real process, from descriptor 3 on, with the process's own environment."""
    (tmp_path / "iomem").write_text(IOMEM)
    program = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from tdx_headroom.service.descriptors import take\n"
        "taken = take(); left = 'LISTEN_FDS' in os.environ\n"
        "print([s.fileno() for s in taken.sockets], dict(taken.files), left)"
    )
    script = (
        f"exec {listening.fileno()}<&{listening.fileno()} 3<&{listening.fileno()} 4<{tmp_path}/iomem; exec"
    )
    command = ["bash", "-c", f'{script} "$@"', "bash", sys.executable, "-c", program]
    environment = os.environ | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:iomem"}
    run = subprocess.run(
        command, env=environment, pass_fds=[listening.fileno()], capture_output=True, text=True, timeout=30
    )
    assert run.stdout.strip() == "[3] {'proc/iomem': 4} False", run.stderr


def test_kmsg_is_read_again_and_again(kernel_log: int) -> None:
    """The real log through a descriptor: non-blocking, and from the oldest record each time."""
    root = Root("/", {"dev/kmsg": kernel_log})
    first, second = read_kernel_log(root).value, read_kernel_log(root).value
    assert first is not None
    assert second is not None
    assert first.records[:1] == second.records[:1] != ()
