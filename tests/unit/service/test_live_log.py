# SPDX-License-Identifier: Apache-2.0
"""The followed log, on a pipe in place of the device: no test may write as the kernel."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service import daemon, live_log
from tdx_headroom.service.live_log import LiveLog
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.records import LogRecord
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.web.settings import Address, WebSettings

if TYPE_CHECKING:
    from pathlib import Path

KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
UP = "virt/tdx: module initialized"
Entry = tuple[int, int, str]


class Device:
    """Stands in for the device: records, or an error, come out of read() one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.records: list[bytes] = []
        self.error: int | None = None
        self.endless = False
        self.at = 0
        (path / "dev").mkdir()
        os.mkfifo(path / "dev" / "kmsg")
        self.root = Root(path)
        self._read = os.read
        monkeypatch.setattr(kmsg, "is_device", lambda _: True)
        monkeypatch.setattr(os, "lseek", self._rewind)
        monkeypatch.setattr(os, "read", self._next)

    def add(self, *records: tuple[int, str]) -> None:
        self.records += [f"6,{seq},{seq * 10},-;{text}\n".encode() for seq, text in records]

    def _rewind(self, _fd: int, offset: int, _whence: int) -> int:
        self.at = 0
        return offset

    def _next(self, fd: int, size: int) -> bytes:
        if size != kmsg.MAX_RECORD:
            return self._read(fd, size)
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        if self.endless and self.at == len(self.records):
            self.add((self.at, "more"))
        if self.at == len(self.records):
            raise BlockingIOError
        self.at += 1
        return self.records[self.at - 1]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Device:
    return Device(monkeypatch, tmp_path)


def journal(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    async def read() -> list[Entry]:
        await asyncio.sleep(0)
        return list(entries)

    monkeypatch.setattr(live_log, "read_journal", read)


def started(live: LiveLog) -> None:
    async def start() -> None:
        await live.start(asyncio.get_running_loop(), lambda: None)
        live.close()

    asyncio.run(start())


def texts(live: LiveLog) -> list[str]:
    return [record.text for record in live.book.records if record.text]


def test_a_gap_since_the_last_start_is_filled_from_the_journal(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was logged while the agent was down, and was overwritten since, is not lost."""
    device.add((500, "later"))
    journal(monkeypatch, (6, 30, KEYIDS), (6, 2000, UP), (6, 2010, "x"), (12, 2020, UP), (6, 5000, "later"))
    live = LiveLog(device.root, ((LogRecord(KEYIDS, 3, 30),), 7))
    started(live)
    assert texts(live) == [KEYIDS, UP]
    assert live.book.lost == 0
    assert read_report(live.book.log()).state is ModuleState.INITIALIZED


def test_a_gap_that_no_journal_fills_is_counted(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records between the last start and the oldest one of the ring buffer are lost, and counted."""
    device.add((500, "later"))
    journal(monkeypatch)
    live = LiveLog(device.root, ((LogRecord(KEYIDS, 3, 30),), 7))
    started(live)
    assert live.book.lost == 492


@pytest.mark.parametrize(("entries", "lost"), [(((6, 30, KEYIDS),), 0), ((), 500)])
def test_the_beginning_of_the_boot(
    entries: tuple[Entry, ...], lost: int, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a state the journal has the beginning; without a journal it is lost."""
    device.add((500, "later"))
    journal(monkeypatch, *entries)
    live = LiveLog(device.root)
    started(live)
    assert live.book.lost == lost
    assert texts(live) == [text for _, _, text in entries]


@pytest.mark.parametrize(
    ("last_seq", "time", "mismatch"),
    [
        (2, 20, None),
        (3, 20, "it has record 3, the kernel's log ends with 2"),
        (10**9, 20, "it has record 1000000000, the kernel's log ends with 2"),
        (2, 10**8, "it has records of a time that has not come yet"),
    ],
)
def test_a_state_of_another_log(last_seq: int, time: int, mismatch: str | None, device: Device) -> None:
    """A state that goes beyond the log is not of this boot: with it, all that comes would pass for known."""
    device.add((0, KEYIDS), (1, "x"), (2, "x"))
    live = LiveLog(device.root, ((LogRecord(KEYIDS, 0, 0), LogRecord(UP, 1, time)), last_seq))
    started(live)
    assert live.mismatch == mismatch
    assert texts(live) == ([KEYIDS, UP] if mismatch is None else [KEYIDS])
    assert live.book.last_seq == 2
    assert live.book.lost == 0


def test_no_log_to_check_a_state_with(tmp_path: Path) -> None:
    """Where the log cannot be read, what was kept of it is all there is."""
    live = LiveLog(Root(tmp_path), ((LogRecord(KEYIDS, 0, 0),), 10**9))
    started(live)
    assert (live.mismatch, texts(live)) == (None, [KEYIDS])


JOURNALCTLS = {
    "does not end": "exec sleep 60",
    "leaves a child behind": "sleep 60 & sleep 60",
    "says too much": "exec yes '{}'",
}


@pytest.mark.parametrize("kind", JOURNALCTLS)
def test_a_signal_during_the_first_reading(
    kind: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end does not wait for the journal; and what is half read is not kept as if it were all."""
    (tmp_path / "bin").mkdir()
    begun = tmp_path / "begun"
    program = tmp_path / "bin" / "journalctl"
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n: > {begun}\n{JOURNALCTLS[kind]}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    boot_id = tmp_path / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    (tmp_path / "state").mkdir()
    device.add((500, "later"))
    ended_after = []

    def end_it() -> None:
        while not begun.exists():
            time.sleep(0.01)
        ended_after.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    ender = Thread(target=end_it)
    ender.start()
    web = WebSettings(addresses=(Address("127.0.0.1", 0),))
    daemon.serve(device.root, daemon.Settings(web, state_directory=str(tmp_path / "state")))
    took = time.monotonic() - ended_after[0]
    ender.join()
    # It takes 1 s at most on a machine that has nothing else to do; the journal would have taken 20.
    assert took < 10
    assert list((tmp_path / "state").iterdir()) == []


def test_a_log_that_cannot_be_read_any_more(device: Device) -> None:
    """Its error is shown, what was read still counts, nothing spins, and it recovers with the fault."""
    device.add((0, KEYIDS), (1, "x"))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        live = LiveLog(device.root)
        await live.start(loop, lambda: None)
        assert live.snapshot() is not None
        device.error = errno.EIO
        live._on_readable(lambda: None)
        reading = live.snapshot()
        assert reading is not None
        assert "Input/output error" in str(reading.error)
        assert reading.value is not None
        assert read_report(reading.value).keyids == (32, 64)
        live.refresh()
        assert "Input/output error" in str(getattr(live.snapshot(), "error", None))
        device.error = None
        device.add((2, UP), (3, "x"))
        live.refresh()
        reading = live.snapshot()
        assert reading is not None
        assert reading.error is None
        assert reading.value is not None
        assert read_report(reading.value).state is ModuleState.INITIALIZED
        assert live.book.lost == 0
        live.close()

    asyncio.run(run())


def test_a_log_that_grows_faster_than_it_is_read_after_a_failure(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others get their turn: what is left is read as it comes, and nothing of it is lost."""
    monkeypatch.setattr(live_log, "AGAIN_SECONDS", 0.05)
    device.add((0, KEYIDS), (1, "x"))

    async def run() -> None:
        live = LiveLog(device.root)
        await live.start(asyncio.get_running_loop(), lambda: None)
        device.error = errno.EIO
        live._on_readable(lambda: None)
        device.error, device.endless = None, True
        live.refresh()
        read = live.book.last_seq or 0
        assert read > 1
        device.endless = False
        device.add((device.at, UP), (device.at + 1, "x"))
        changed: list[int] = []
        live._on_readable(lambda: changed.append(1))
        assert changed
        assert live.book.lost == 0
        live.close()

    asyncio.run(run())


def test_a_record_of_another_form_is_passed_over(device: Device) -> None:
    """One record that cannot be read hides none of those after it."""
    device.add((0, KEYIDS))
    device.records.append(b"nonsense\n")
    device.add((1, UP), (2, "x"))
    live = LiveLog(device.root)
    started(live)
    assert texts(live) == [KEYIDS, UP]
