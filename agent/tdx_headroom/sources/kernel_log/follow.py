# SPDX-License-Identifier: Apache-2.0
"""``/dev/kmsg``, followed: records as they are logged."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log import kmsg

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.book import LogBook

BATCH = 2000
"""Records taken at one go: a flood must not keep the event loop from answering scrapes."""


class Follower:
    """Feeds a book from the kernel's log.

    Args:
        book: what takes the records.
        root: of the running host.

    Raises:
        SourceError: the log cannot be opened, or is no ``/dev/kmsg``.
    """

    def __init__(self, book: LogBook, root: HostFiles) -> None:
        self._book = book
        inherited = root.descriptor(kmsg.PATH)
        self._own = inherited is None
        self.fd = root.open(kmsg.SOURCE, kmsg.PATH) if inherited is None else inherited
        problem = self._rewind()
        if problem is not None:
            self.close()
            raise SourceError(kmsg.SOURCE, problem)

    def _rewind(self) -> str | None:
        """Go to the oldest record; what is wrong, if that cannot be done."""
        try:
            if not kmsg.is_device(self.fd):
                return "the kernel's log is no character device"
            os.lseek(self.fd, 0, os.SEEK_SET)
        except OSError as error:
            return os.strerror(error.errno or 0)
        return None

    def read(self, limit: int = BATCH) -> tuple[bool, bool]:
        """Take what is there; whether it says something about TDX, and whether more may be there.

        Raises:
            SourceError: the log cannot be read any more.
        """
        matters = False
        for _ in range(limit):
            try:
                data = os.read(self.fd, kmsg.MAX_RECORD)
            except BlockingIOError:
                return matters, False
            except OSError as error:
                if error.errno == errno.EPIPE:
                    # Records are gone; how many, the next one's sequence number tells.
                    continue
                raise SourceError(kmsg.SOURCE, f"/dev/kmsg: {os.strerror(error.errno or 0)}") from None
            if not data:
                return matters, False
            with contextlib.suppress(SourceError):  # none of the kernel's records has another form
                record = kmsg.parse_kmsg_record(data.decode("utf-8", "backslashreplace"))
                matters = self._book.add(*record) or matters
        return matters, True

    def close(self) -> None:
        """Close the descriptor, unless it was handed in."""
        if self._own:
            os.close(self.fd)
