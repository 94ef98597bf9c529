# SPDX-License-Identifier: Apache-2.0
"""A host's files in memory: a tree that was read once, or what an archive holds."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.files import MAX_FILE, FileStatus
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOURCE = "captured tree"
MAX_DEPTH = 20


class MemoryRoot:
    """A root whose files are in memory.

    Args:
        label: what stands for ``/`` in messages: the tree's or the archive's name.
        files: texts by path.
        names: more paths that are there; nothing but their names is ever asked for.
        refused: paths that are there and cannot be read, with the reason.
    """

    live = False

    def __init__(
        self,
        label: str,
        files: Mapping[str, str],
        names: Iterable[str] = (),
        refused: Mapping[str, str] | None = None,
    ) -> None:
        self.path = label
        self._files = dict(files)
        self._refused = dict(refused or {})
        folders: dict[str, set[str]] = {"": set()}
        for path in (*self._files, *self._refused, *names):
            _add(folders, path)
        self._folders = folders

    @property
    def files(self) -> Mapping[str, str]:
        """The texts by path."""
        return self._files

    def holding(self, descriptors: Mapping[str, int]) -> MemoryRoot:  # noqa: ARG002
        """Itself: the running host's files have no place in a captured tree."""
        return self

    def locate(self, relative: str) -> str:
        """The path of ``relative`` as messages show it."""
        return f"{self.path}/{relative}"

    def descriptor(self, relative: str) -> int | None:  # noqa: ARG002
        """None: all files are in memory."""
        return None

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or directory."""
        path = _plain(relative)
        return not path or self._is_named(path)

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        """The whole of a file as text.

        Raises:
            SourceError: there is none, or it is too large.
        """
        path = _plain(relative)
        text = self._files.get(path)
        if path in self._refused:
            raise SourceError(source, f"{self.locate(path)} {self._refused[path]}")
        if text is None and self._is_named(path):
            raise SourceError(source, f"{self.locate(path)}: only its name is kept")
        if text is None:
            raise self._missing(source, relative)
        if len(text) > limit:
            raise SourceError(source, f"{self.locate(relative)} is larger than {limit} bytes")
        return text

    def read_bytes(self, source: str, relative: str, *, limit: int = MAX_FILE) -> bytes:
        """The same as bytes; what was no UTF-8 is not as it was.

        Raises:
            SourceError: as :meth:`read`.
        """
        return self.read(source, relative, limit=limit).encode()

    def status(self, source: str, relative: str, *, follow: bool = True) -> FileStatus:  # noqa: ARG002
        """Of a file or directory; there are no links here, and when it was changed is given as 0.

        Raises:
            SourceError: there is none, or it cannot be read.
        """
        path = _plain(relative)
        if path in self._folders:
            return FileStatus(0, 0, directory=True)
        if self._is_named(path) and path not in self._files and path not in self._refused:
            return FileStatus(0, 0, directory=False)
        return FileStatus(len(self.read_bytes(source, path, limit=1 << 40)), 0, directory=False)

    def open(self, source: str, relative: str) -> int:
        """A descriptor of a copy.

        Raises:
            SourceError: there is no such file.
        """
        left = memoryview(self.read(source, relative, limit=1 << 40).encode())
        fd = os.memfd_create("captured", os.MFD_CLOEXEC)
        while left:
            left = left[os.write(fd, left) :]
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
        return sorted(names)

    def _is_named(self, path: str) -> bool:
        """Whether it is in its directory: a file, a directory, or a name alone."""
        folder, _, name = path.rpartition("/")
        return bool(name) and name in self._folders.get(folder, ())

    def _missing(self, source: str, relative: str) -> SourceError:
        return SourceError(source, f"{self.locate(relative)}: {os.strerror(errno.ENOENT)}", absent=True)


def load_tree(path: str | os.PathLike[str]) -> MemoryRoot:
    """A captured tree, read whole: its files may be root's alone when root is no more.

    Links in it are followed like those of any captured tree.

    Raises:
        SourceError: a file or directory in it cannot be read.
    """
    disk = Root(path)
    files: dict[str, str] = {}
    names: list[str] = []
    _load(disk, "", files, names)
    return MemoryRoot(disk.path, files, names)


def _load(disk: Root, folder: str, files: dict[str, str], names: list[str]) -> None:
    if folder.count("/") > MAX_DEPTH:
        raise SourceError(SOURCE, f"{disk.locate(folder)} lies too deep; is there a link to its parent?")
    for name in disk.entries(SOURCE, folder):
        path = f"{folder}/{name}".lstrip("/")
        fd = disk.open(SOURCE, path)
        try:
            mode = os.fstat(fd).st_mode
        finally:
            os.close(fd)
        if stat.S_ISDIR(mode):
            names.append(f"{path}/")
            _load(disk, path, files, names)
        elif stat.S_ISREG(mode):
            files[path] = disk.read(SOURCE, path)


def _add(folders: dict[str, set[str]], path: str) -> None:
    """Enter a path, and the directories that it lies in; one that ends with a slash is a directory."""
    if path.endswith("/"):
        path = path.rstrip("/")
        folders.setdefault(path, set())
    while path:
        parent, _, name = path.rpartition("/")
        known = folders.setdefault(parent, set())
        if name in known:
            return
        known.add(name)
        path = parent


def _plain(relative: str) -> str:
    return relative.strip("/")
