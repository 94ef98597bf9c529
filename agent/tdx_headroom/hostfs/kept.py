# SPDX-License-Identifier: Apache-2.0
"""A captured tree that is looked at again and again: what has not changed is not read anew.

It lies on a disk, unlike /proc and /sys. Where its pages have been dropped, each file that is read again
waits for the disk.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.hostfs.files import MAX_FILE
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_KEPT = 4 << 20
"""Bytes of all files that are kept."""

SETTLED_NS = 2_000_000_000
"""A file that has changed within this time may change again without its times telling: it is not kept."""


class _Kept(NamedTuple):
    """A file as it was read: what tells it from any other, and its bytes."""

    mark: tuple[int, ...]
    data: bytes


class KeptRoot(Root):
    """The same as its base, for a tree that is no running host's.

    A file system that is mounted in the tree, as /proc of the host is in a container, is read each time:
    there a file changes without its inode.
    """

    def __init__(
        self, path: str | os.PathLike[str] = "/", descriptors: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(path, descriptors)
        self._kept: dict[str, _Kept] = {}
        self._size = 0

    def holding(self, descriptors: Mapping[str, int]) -> KeptRoot:
        """The same root, with these descriptors to read too."""
        return KeptRoot(self.path, {**self._descriptors, **descriptors})

    def read_bytes(self, source: str, relative: str, *, limit: int = MAX_FILE) -> bytes:
        """As the base does, or what was read before where the inode says that it is the same.

        Raises:
            SourceError: as there.
        """
        if relative in self._descriptors:
            return super().read_bytes(source, relative, limit=limit)
        mark = self._mark(source, relative)
        kept = self._kept.get(relative)
        if kept is not None and kept.mark == mark and len(kept.data) <= limit:
            return kept.data
        data = super().read_bytes(source, relative, limit=limit)
        if mark is not None and mark == self._mark(source, relative):
            self._keep(relative, _Kept(mark, data))
        return data

    def _mark(self, source: str, relative: str) -> tuple[int, ...] | None:
        """What tells this file from any other, and from itself once it has changed; None: nothing does."""
        try:
            found = os.stat(self._inside(source, relative))  # noqa: PTH116  no Path a file and look
            top = os.stat(self.path)  # noqa: PTH116
        except OSError:
            return None
        settled = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED_NS
        if not settled or not stat.S_ISREG(found.st_mode) or found.st_dev != top.st_dev:
            return None
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _keep(self, relative: str, kept: _Kept) -> None:
        before = self._kept.pop(relative, None)
        self._size += len(kept.data) - (0 if before is None else len(before.data))
        self._kept[relative] = kept
        while self._size > MAX_KEPT:
            oldest = next(iter(self._kept))
            self._size -= len(self._kept.pop(oldest).data)
