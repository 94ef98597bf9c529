# SPDX-License-Identifier: Apache-2.0
"""A host's files, wherever they are: on the live host, in a captured tree, in memory, or noted while read."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FILE = 16 << 20
"""No file that is read whole is larger on a sane host; a larger one is refused, not cut."""


class NameKind(Enum):
    """What a capture keeps of a path of which nothing but the name is read."""

    NAME = "name"
    DIRECTORY = "directory"
    UNKEPT = "nothing"


class Selection(NamedTuple):
    """Which files of a host are read, by their paths.

    Args:
        text: whether a path's text is.
        name: whether only its name is, and what a capture keeps of that; None: it is not.
        limit: the most bytes of a text.
    """

    text: Callable[[str], bool]
    name: Callable[[str], NameKind | None]
    limit: Callable[[str], int]


class FileStatus(NamedTuple):
    """What an inode says.

    Args:
        size: in bytes.
        mtime_ns: time of the last change, in ns since the epoch.
        directory: whether it is one.
        owner: number of the user; None: it has none, as in an archive.
        others_write: whether others than that user may write to it.
    """

    size: int
    mtime_ns: int
    directory: bool
    owner: int | None = None
    others_write: bool = False


class HostFiles(Protocol):
    """What readers of sources ask a host's files; paths are relative to what stands for ``/``."""

    @property
    def path(self) -> str:
        """What stands for ``/`` in messages."""

    @property
    def live(self) -> bool:
        """Whether these are the running host's own."""

    def locate(self, relative: str) -> str:
        """The absolute path of ``relative``."""

    def descriptor(self, relative: str) -> int | None:
        """The descriptor that was handed in for this file, if any."""

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or directory that may be looked at."""

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        """The whole of a regular file as text; a :class:`SourceError` says why it cannot be read."""

    def read_bytes(self, source: str, relative: str, *, limit: int = MAX_FILE) -> bytes:
        """The same as bytes."""

    def open(self, source: str, relative: str) -> int:
        """A read-only descriptor; a :class:`SourceError` says why there is none."""

    def status(self, source: str, relative: str, *, follow: bool = True) -> FileStatus:
        """Of the file that a path leads to, or of a link itself; a :class:`SourceError` says why not."""

    def entries(self, source: str, relative: str) -> list[str]:
        """Names in a directory, sorted; a :class:`SourceError` says why it cannot be listed."""
