# SPDX-License-Identifier: Apache-2.0
"""A captured tree that is read once and kept: the demo's files may be root's alone when root is no more."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.root import MAX_FILE, Root

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = "captured tree"
MAX_DEPTH = 20


class MemoryRoot(Root):
    """A root whose files are in memory; nothing in it changes any more.

    Args:
        path: a captured tree. Links in it are followed like those of any captured tree.

    Raises:
        SourceError: a file or directory in it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._files: dict[str, str] = {}
        self._folders: dict[str, list[str]] = {}
        self._load(Root(path), "")

    def holding(self, descriptors: Mapping[str, int]) -> Root:  # noqa: ARG002
        """Itself: the running host's files have no place in a captured tree."""
        return self

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or directory."""
        return _plain(relative) in self._files or _plain(relative) in self._folders

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        """The whole of a file as text.

        Raises:
            SourceError: there is none, or it is too large.
        """
        text = self._files.get(_plain(relative))
        if text is None:
            raise self._missing(source, relative)
        if len(text) > limit:
            raise SourceError(source, f"{self.locate(relative)} is larger than {limit} bytes")
        return text

    def open(self, source: str, relative: str) -> int:
        """A descriptor of a copy.

        Raises:
            SourceError: there is no such file.
        """
        data = self.read(source, relative).encode()
        fd = os.memfd_create("captured", os.MFD_CLOEXEC)
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def entries(self, source: str, relative: str) -> list[str]:
        """Names in a directory, sorted.

        Raises:
            SourceError: there is no such directory.
        """
        names = self._folders.get(_plain(relative))
        if names is None:
            raise self._missing(source, relative)
        return names

    def _load(self, disk: Root, relative: str) -> None:
        if relative.count("/") > MAX_DEPTH:
            raise SourceError(
                SOURCE, f"{self.locate(relative)} lies too deep; is there a link to its parent?"
            )
        self._folders[relative] = names = disk.entries(SOURCE, relative)
        for name in names:
            path = f"{relative}/{name}".lstrip("/")
            fd = disk.open(SOURCE, path)
            try:
                mode = os.fstat(fd).st_mode
            finally:
                os.close(fd)
            if stat.S_ISDIR(mode):
                self._load(disk, path)
            elif stat.S_ISREG(mode):
                self._files[path] = disk.read(SOURCE, path)

    def _missing(self, source: str, relative: str) -> SourceError:
        return SourceError(source, f"{self.locate(relative)}: {os.strerror(errno.ENOENT)}")


def _plain(relative: str) -> str:
    return relative.strip("/")
