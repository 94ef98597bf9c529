# SPDX-License-Identifier: Apache-2.0
"""Wakes the agent when a file comes into a folder or goes: inotify(7), which Python has no module for."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Self

from tdx_headroom import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x4, 0x8, 0x40, 0x80
_DELETE, _ONLYDIR = 0x200, 0x1000000
_CHANGES = _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _ONLYDIR
_ROOM = 1 << 16
"""For many events at once: what they are does not matter."""


class FolderWatch:
    """A watch of a folder that need not be there yet; a context manager.

    Args:
        path: of the folder.
        loop: that runs.
        wake: called when something has changed in it.
    """

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._path = path
        self._loop = loop
        self._wake = wake
        self._fd: int | None = None
        self._watched: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            log.get().info("no inotify here: a new inventory is noticed by the timer", error=_error())
            return self
        self._add_watch = libc.inotify_add_watch
        self._fd = fd
        self._loop.add_reader(fd, self._on_readable)
        self.renew()
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def renew(self) -> None:
        """Watch the folder that is there now; to be called now and then, since it may be another one."""
        if self._fd is None:
            return
        try:
            status = os.stat(self._path)  # noqa: PTH116  a root in memory has no Path
        except OSError:
            self._watched = None
            return
        found = (status.st_dev, status.st_ino)
        if found == self._watched:
            return
        if self._add_watch(self._fd, os.fsencode(self._path), ctypes.c_uint32(_CHANGES)) < 0:
            log.get().info("a new inventory is noticed by the timer", error=_error())
        self._watched = found

    def _on_readable(self) -> None:
        try:
            while self._fd is not None and os.read(self._fd, _ROOM):
                pass
        except BlockingIOError:
            self._wake()


def _error() -> str:
    return os.strerror(ctypes.get_errno())
