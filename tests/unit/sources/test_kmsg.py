# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import socket
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.kmsg import (
    collect,
    is_device,
    parse_kmsg,
    parse_kmsg_record,
    read_kmsg_device,
)
from tdx_headroom.sources.kernel_log.records import LogRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def device() -> Iterator[tuple[socket.socket, int]]:
    """A descriptor that gives one record a read and then EAGAIN, as /dev/kmsg does; and its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs.fileno()


class Script:
    """Stands in for ``os.read`` where no real descriptor can be had that fails in this way."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)

    def __call__(self, _fd: int, _size: int) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("6,425,1630945,-;virt/tdx: module initialized", (6, 425, 1630945, "virt/tdx: module initialized")),
        ("3,1,0,c;text", (3, 1, 0, "text")),
        ("6,9,5,+;text", (6, 9, 5, "text")),
        ("6,9,5,-,caller=T1;text", (6, 9, 5, "text")),
        ("6,9,5,-,caller=C12,later=field;text", (6, 9, 5, "text")),
        ("6,9,5,-;a;b;c", (6, 9, 5, "a;b;c")),
        ("6,9,5,-;", (6, 9, 5, "")),
        ("12,9,5,-;from user space", (12, 9, 5, "from user space")),
        ("6,9,5,-;text\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n", (6, 9, 5, "text")),
        ("6,9,5,-;  node   0: [mem 0x1000-0x1fff]", (6, 9, 5, "  node   0: [mem 0x1000-0x1fff]")),
        ("6,18446744073709551615,5,-;text", (6, (1 << 64) - 1, 5, "text")),
    ],
)
def test_record(record: str, expected: tuple[int, int, int, str]) -> None:
    """A record gives priority, sequence number, time and its first line's text."""
    assert parse_kmsg_record(record) == expected


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"caf\xc3\xa9", "café"),
        (r"\xe2\x82\xac5", "€5"),
        (r"a\x0ab", r"a\x0ab"),
        (r"a\x0d\x0ab", r"a\x0d\x0ab"),
        (r"\x1b[31m", r"\x1b[31m"),
        (r"tab\x09", r"tab\x09"),
        (r"back\x5cslash", r"back\x5cslash"),
        (r"\xff\xfe", r"\xff\xfe"),
        (r"\xe2\x80\xa8", r"\xe2\x80\xa8"),
        (r"\x00", r"\x00"),
        (r"\xZZ", r"\xZZ"),
    ],
)
def test_escapes(escaped: str, text: str) -> None:
    """Escaped letters become letters; line breaks, control characters and broken bytes stay escaped."""
    assert parse_kmsg_record(f"6,1,2,-;{escaped}")[3] == text


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "6,1,2;text",
        "6,1;text",
        "6,1,2,-",
        ",1,2,-;x",
        "-6,1,2,-;x",
        "6,x,2,-;x",
        "<6>[ 1.0] text",
        "\u0666,1,2,-;x",
    ],
)
def test_no_record(line: str) -> None:
    """What is no record is an error with line number and text."""
    with pytest.raises(SourceError) as caught:
        parse_kmsg(f"6,1,2,-;good\n SUBSYSTEM=x\n{line}\n")
    error = caught.value
    assert (error.source, error.line, error.text) == ("kmsg", 3, line)
    assert error.reason == "not a record `prio,seq,time,flags;text`"


def test_captured_device() -> None:
    """A file of records: continuation lines and blank lines are no records, CRLF does not matter."""
    text = "6,1,2,-;one\n SUBSYSTEM=x\n DEVICE=y\n\n6,2,3,-;two\n12,3,4,-;three\n"
    log = parse_kmsg(text)
    assert log.records == (LogRecord("one", 1, 2), LogRecord("two", 2, 3))
    assert log.untrusted == ("three",)
    assert log.verified
    assert log.lost == 0
    assert parse_kmsg(text.replace("\n", "\r\n")) == log
    assert parse_kmsg(text.rstrip("\n")).untrusted == ("three",)


def test_empty_capture() -> None:
    """An empty file is an empty log."""
    assert parse_kmsg("").records == ()


@pytest.mark.parametrize("priority", [*range(10), 15, 16, 191, 1 << 20])
def test_only_facility_0_is_the_kernel(priority: int) -> None:
    """Levels 0 to 7 of facility 0 are the kernel's, all else was written by a process."""
    log = collect([(priority, 1, 0, "virt/tdx: module initialized")], 0)
    assert bool(log.records) is (priority < 8)
    assert bool(log.untrusted) is (priority >= 8)


def test_gaps_are_counted() -> None:
    """Sequence numbers that are skipped are records that were lost, those of processes count as seen."""
    log = collect(
        [
            (6, 10, 0, "a"),
            (6, 11, 0, "b"),
            (12, 12, 0, "user"),
            (6, 20, 0, "c"),
            (6, 21, 0, "d"),
            (6, 30, 0, "e"),
        ],
        0,
    )
    assert log.lost == 7 + 8
    assert [record.seq for record in log.records] == [10, 11, 20, 21, 30]


def test_records_before_the_first_are_not_lost() -> None:
    """Where the ring buffer begins is no loss that anybody could have avoided."""
    assert collect([(6, 100000, 0, "a")], 0).lost == 0


def test_overwritten_records_without_a_gap_are_a_loss() -> None:
    """The kernel's word that records are gone counts even when no later record shows the gap."""
    assert collect([(6, 10, 0, "a")], 2).lost == 2
    assert collect([(6, 10, 0, "a"), (6, 20, 0, "b")], 1).lost == 9


def test_reading_ends_when_there_is_no_more(device: tuple[socket.socket, int]) -> None:
    """Records are read one by one until the descriptor has none left for now."""
    ours, fd = device
    for i in range(3):
        ours.send(f"6,{i},0,-;line {i}\n DEVICE=x\n".encode())
    ours.send(b"14,3,0,-;user\n")
    log = read_kmsg_device(fd)
    assert [record.text for record in log.records] == ["line 0", "line 1", "line 2"]
    assert log.untrusted == ("user",)
    assert log.lost == 0
    assert read_kmsg_device(fd).records == ()


def test_record_that_is_not_utf_8(device: tuple[socket.socket, int]) -> None:
    """Raw bytes that are no text come escaped."""
    ours, fd = device
    ours.send(b"6,0,0,-;name \xff\xfe end\n")
    assert read_kmsg_device(fd).records[0].text == r"name \xff\xfe end"


def test_large_record(device: tuple[socket.socket, int]) -> None:
    """The longest record that the kernel can print fits the buffer."""
    ours, fd = device
    ours.send(b"6,0,0,-;" + b"x" * 8192 + b"\n")
    assert len(read_kmsg_device(fd).records[0].text) == 8192


def test_overwritten_records_are_read_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """EPIPE means that records are gone: the next read goes on after them."""
    script = Script(b"6,10,0,-;a\n", errno.EPIPE, b"6,15,0,-;b\n", errno.EPIPE, b"6,16,0,-;c\n", errno.EAGAIN)
    monkeypatch.setattr(os, "read", script)
    log = read_kmsg_device(-1)
    monkeypatch.undo()
    assert [record.text for record in log.records] == ["a", "b", "c"]
    assert log.lost == 4
    assert not script.answers


def test_end_of_file_ends_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that gives end of file is not read for ever."""
    monkeypatch.setattr(os, "read", Script(b"6,10,0,-;a\n", b""))
    log = read_kmsg_device(-1)
    monkeypatch.undo()
    assert len(log.records) == 1


@pytest.mark.parametrize(("bound", "value"), [("MAX_SECONDS", 0.05), ("MAX_READ", 100_000)])
def test_a_log_that_grows_faster_than_it_is_read(
    bound: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading ends, and that there was more is known: a failure may be in it."""
    numbers = count()
    monkeypatch.setattr(kmsg, bound, value)
    monkeypatch.setattr(os, "read", lambda *_: f"6,{next(numbers)},0,-;more\n".encode())
    log = read_kmsg_device(-1)
    monkeypatch.undo()
    assert log.records
    assert log.lost == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EPERM, errno.EBADF])
def test_other_errors_are_reported(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Any other error ends the reading and says which."""
    monkeypatch.setattr(os, "read", Script(b"6,10,0,-;a\n", number))
    with pytest.raises(SourceError) as caught:
        read_kmsg_device(-1)
    monkeypatch.undo()
    assert str(caught.value) == f"kmsg: /dev/kmsg: {os.strerror(number)}"


def test_device_or_file(tmp_path: Path) -> None:
    """A character device is told from a captured file."""
    (tmp_path / "kmsg").write_text("")
    for path, answer in (("/dev/null", True), (tmp_path / "kmsg", False)):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert is_device(fd) is answer
        finally:
            os.close(fd)


def test_this_machine(kernel_log: int) -> None:
    """The running kernel's own log is read to its end, and twice the same from the start."""
    first = read_kmsg_device(kernel_log)
    os.lseek(kernel_log, 0, os.SEEK_SET)
    second = read_kmsg_device(kernel_log)
    assert first.records
    assert first.verified
    common = set(first.records) & set(second.records)
    assert len(common) > len(first.records) // 2
