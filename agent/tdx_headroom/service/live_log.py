# SPDX-License-Identifier: Apache-2.0
"""The running kernel's log: followed as it grows, and completed from the journal where it was overwritten."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import SourceError
from tdx_headroom.service.journal import read_journal
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.book import LogBook
from tdx_headroom.sources.kernel_log.follow import Follower
from tdx_headroom.sources.kernel_log.records import SOURCE
from tdx_headroom.sources.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord


FIRST_SECONDS = 10.0
"""For the first reading of the log: one that grows faster than it is read has no end."""

AGAIN_SECONDS = 1.0
"""For reading it again after a failure: nobody is answered meanwhile. What is left comes when it can."""

CLOCK_SLACK = 1_000_000
"""Microseconds by which the clocks of two processors may differ."""


class _Newest(LogBook):
    """Keeps no record, only how far they go."""

    newest_time = 0

    def add(self, priority: int, seq: int, time: int, text: str) -> bool:  # noqa: ARG002
        """Note where the record stands."""
        self.last_seq = max(seq, self.last_seq or 0)
        self.newest_time = max(time, self.newest_time)
        return False


class LiveLog:
    """Follows ``/dev/kmsg`` where there is one; else it stays out of the way, and the log is a file.

    Args:
        root: of the host.
        restored: what was kept of this boot's log, and the newest sequence number in it.

    Attributes:
        mismatch: why what was kept cannot be of this boot, and is not used; None if nothing is wrong.
    """

    def __init__(
        self, root: HostFiles, restored: tuple[tuple[LogRecord, ...], int | None] = ((), None)
    ) -> None:
        self._root = root
        self.book = LogBook()
        self.book.restore(*restored)
        self._restored = restored
        self.mismatch: str | None = None
        self._follower: Follower | None = None
        self._error: SourceError | None = None
        self._watching: tuple[asyncio.AbstractEventLoop, Callable[[], None]] | None = None

    async def start(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Read what is there, then call ``changed`` whenever a line says something about TDX."""
        await self._check_restored()
        self._open()
        if self._follower is None:
            return
        end = loop.time() + FIRST_SECONDS
        while self._read()[1] and loop.time() < end:  # noqa: ASYNC110  signals are answered meanwhile
            await asyncio.sleep(0)
        await self._complete()
        self._watching = loop, changed
        self._watch()

    def refresh(self) -> None:
        """Try again to follow a log that could not be read any more."""
        if self._follower is None and self._watching is not None:
            self._open()
            end = monotonic() + AGAIN_SECONDS
            while self._read()[1] and monotonic() < end:
                pass
            self._watch()

    def snapshot(self) -> Reading[KernelLog] | None:
        """The log as it is now; None where nothing is followed and the log has to be read as a file.

        What was read before still counts while it cannot be read any more.
        """
        if self._follower is None and not self.book.records:
            return None if self._watching is None else Reading(SOURCE, self._origin, error=self._error)
        return Reading(SOURCE, self._origin, value=self.book.log(), error=self._error)

    def close(self) -> None:
        """Follow no longer."""
        self._drop()
        self._watching = None

    @property
    def _origin(self) -> str:
        return self._root.locate(kmsg.PATH)

    def _open(self) -> None:
        try:
            self._follower = Follower(self.book, self._root)
        except SourceError as error:
            self._error = error
        else:
            self._error = None

    def _watch(self) -> None:
        if self._follower is not None and self._watching is not None:
            loop, changed = self._watching
            loop.add_reader(self._follower.fd, self._on_readable, changed)

    def _drop(self) -> None:
        if self._follower is None:
            return
        if self._watching is not None:
            self._watching[0].remove_reader(self._follower.fd)
        self._follower.close()
        self._follower = None

    def _read(self) -> tuple[bool, bool]:
        if self._follower is None:
            return False, False
        try:
            return self._follower.read()
        except SourceError as error:
            # Its descriptor would stay readable, and the loop would do nothing else any more.
            log.get().error("the kernel's log cannot be followed, the timer tries again", error=str(error))
            self._error = error
            self._drop()
            return True, False

    def _on_readable(self, changed: Callable[[], None]) -> None:
        if self._read()[0]:
            changed()

    async def _check_restored(self) -> None:
        """Start from nothing if what was kept goes beyond the log: new records would be taken for known ones.

        So it is when a virtual machine is set back to a snapshot, or somebody has made a state up.
        """
        records, last_seq = self._restored
        if last_seq is None:
            return
        newest = _Newest()
        end = asyncio.get_running_loop().time() + FIRST_SECONDS
        try:
            reader = Follower(newest, self._root)
            try:
                while newest.last_seq is None or newest.last_seq < last_seq:
                    if not reader.read()[1] or asyncio.get_running_loop().time() > end:
                        break
                    await asyncio.sleep(0)
            finally:
                reader.close()
        except SourceError:
            return
        if newest.last_seq is None or newest.last_seq < last_seq:
            self.mismatch = f"it has record {last_seq}, the kernel's log ends with {newest.last_seq}"
        elif max((record.time or 0 for record in records), default=0) > newest.newest_time + CLOCK_SLACK:
            self.mismatch = "it has records of a time that has not come yet"
        if self.mismatch is not None:
            self.book = LogBook()
            self._restored = ((), None)

    async def _complete(self) -> None:
        """Take from the journal what the ring buffer has forgotten since the boot, or the last start."""
        records, last_seq = self._restored
        first = self.book.first
        missing = 0 if first is None else first[0] - (0 if last_seq is None else last_seq + 1)
        if first is None or missing <= 0:
            return
        since = max((record.time or 0 for record in records), default=-1)
        try:
            entries = await read_journal()
        except SourceError as error:
            log.get().warning("the journal cannot be read", error=str(error))
            entries = None
        earlier = LogBook()
        for number, (priority, time, text) in enumerate(entries or ()):
            if since < time < first[1]:
                earlier.add(priority, number, time, text)
        if earlier.records:
            self.book.insert(earlier.records, len(records))
            log.get().info("records that the ring buffer has forgotten are from the journal")
        if last_seq is None:
            self.book.lost += 0 if earlier.records else missing
        elif earlier.records:
            self.book.lost -= missing
