# SPDX-License-Identifier: Apache-2.0
"""The running kernel's log: followed as it grows, and completed from the journal where it was overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import SourceError
from tdx_headroom.journal import read_journal
from tdx_headroom.reading import Reading
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.book import LogBook
from tdx_headroom.sources.kernel_log.follow import Follower
from tdx_headroom.sources.kernel_log.reader import SOURCE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tdx_headroom.root import Root
    from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord


class LiveLog:
    """Follows ``/dev/kmsg`` where there is one; else it stays out of the way, and the log is a file.

    Args:
        root: of the host.
        restored: what was kept of this boot's log, and the newest sequence number in it.
    """

    def __init__(self, root: Root, restored: tuple[tuple[LogRecord, ...], int | None] = ((), None)) -> None:
        self._root = root
        self.book = LogBook()
        self.book.restore(*restored)
        self._restored = restored[1] is not None
        self._follower: Follower | None = None
        self._error: SourceError | None = None
        try:
            self._follower = Follower(self.book, root)
        except SourceError as error:
            self._error = error

    async def start(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Read what is there, then call ``changed`` whenever a line says something about TDX."""
        if self._follower is None:
            return
        while self._read()[1]:
            pass
        await self._complete()
        if self._follower is not None:
            loop.add_reader(self._follower.fd, self._on_readable, changed)

    def reading(self) -> Reading[KernelLog] | None:
        """The log as it is now; None where nothing is followed and the log has to be read as a file."""
        if self._follower is None and not self.book.records:
            return None
        origin = self._root.locate(kmsg.PATH)
        if self._error is not None and not self.book.records:
            return Reading(SOURCE, origin, error=self._error)
        return Reading(SOURCE, origin, value=self.book.log())

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop to follow."""
        if self._follower is not None:
            loop.remove_reader(self._follower.fd)
            self._follower.close()
            self._follower = None

    def _read(self) -> tuple[bool, bool]:
        if self._follower is None:
            return False, False
        try:
            return self._follower.read()
        except SourceError as error:
            log.get().error("the kernel's log cannot be followed any more", error=str(error))
            self._error = error
            return True, False

    def _on_readable(self, changed: Callable[[], None]) -> None:
        if self._read()[0]:
            changed()

    async def _complete(self) -> None:
        """Take the beginning of the boot from the journal, when the ring buffer has forgotten it."""
        first = self.book.first
        if self._restored or first is None or first[0] == 0:
            return
        try:
            entries = await read_journal()
        except SourceError as error:
            log.get().warning("the journal cannot be read", error=str(error))
            entries = None
        earlier = LogBook()
        for number, (priority, time, text) in enumerate(entries or ()):
            if time < first[1]:
                earlier.add(priority, number, time, text)
        if earlier.records:
            self.book.prepend(earlier.records)
            log.get().info("the beginning of this boot's log is from the journal")
        else:
            self.book.lost += first[0]
