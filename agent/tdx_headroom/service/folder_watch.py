# SPDX-License-Identifier: Apache-2.0
"""Wakes the agent when something is put into a folder, by the kernel's dnotify (fcntl(2), F_NOTIFY).

Python's standard library has no inotify; for one folder into which files are renamed this does as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_CHANGES = fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_MODIFY | fcntl.DN_RENAME | fcntl.DN_MULTISHOT


class FolderWatch:
    """A watch of a folder that need not be there yet; a context manager, and the only user of SIGIO.

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

    def __enter__(self) -> Self:
        # Before there is a watch: the signal would end the process.
        self._loop.add_signal_handler(signal.SIGIO, self._wake)
        self.renew()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._loop.remove_signal_handler(signal.SIGIO)
        # One that is on its way must not end the process either.
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def renew(self) -> None:
        """Watch the folder that is there now; to be called now and then, since it may be another one."""
        with contextlib.suppress(OSError):
            if self._fd is not None and os.path.samestat(os.fstat(self._fd), os.stat(self._path)):  # noqa: PTH116
                return
        self._close()
        with contextlib.suppress(OSError):
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.fcntl(self._fd, fcntl.F_NOTIFY, _CHANGES)

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
