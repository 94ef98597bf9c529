# SPDX-License-Identifier: Apache-2.0
"""Writes a file that is always whole, in a folder that others may write to."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

_CHUNK = 1 << 20


def write_whole(path: str, data: Buffer, mode: int) -> None:
    """Put the data in place of the file, at once: a reader sees the old file or the new one.

    The temporary file is in the same folder, has a name that cannot be guessed, and is created by this call
    or not at all; no link is followed: the folder may be writable by others. SIGTERM and SIGHUP are held back
    until the temporary file is gone; after a SIGKILL it stays, and nobody removes it: another process may be
    writing it.

    Args:
        path: the file; it may exist, and may be a link, which is replaced and not followed.
        data: its new content.
        mode: its permissions, whatever the umask.

    Raises:
        AgentError: the folder cannot be written to, or is full; an old file stays as it is. Or what is there
            is a device, a pipe, or a link to one such as ``/dev/stdout``: root must not put a file there.
    """
    refuse_special(path)
    folder, name = os.path.split(path)
    try:
        folder_fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(folder or ".", error, os.EX_CANTCREAT) from None
    try:
        with _end_delayed():
            replace_in(folder_fd, name, data, mode)
            # The name is on disk only when the folder is.
            os.fsync(folder_fd)
    except OSError as error:
        raise _failed(path, error, os.EX_IOERR) from None
    finally:
        os.close(folder_fd)


def refuse_special(path: str) -> None:
    """Refuse a path at which there is a device, a pipe, or a link to one.

    Raises:
        AgentError: there is.
    """
    if _is_special(path):
        hint = "give a file's name, or - for standard output"
        raise AgentError(f"{path} is no regular file", hint=hint, status=os.EX_CANTCREAT)


def replace_in(
    folder_fd: int, name: str, data: Buffer, mode: int, owner: tuple[int, int] | None = None
) -> None:
    """Put the data in place of a file of an open folder, at once; nothing else stays there.

    Unless the process is killed meanwhile: see :func:`remove_leftovers`.

    Args:
        folder_fd: descriptor of the folder.
        name: of the file in it.
        data: its new content.
        mode: its permissions, whatever the umask.
        owner: user and group that it is to have; None: those of this process.

    Raises:
        OSError: it cannot be done; an old file stays as it is.
    """
    temporary = f".{name}.{secrets.token_hex(8)}"
    try:
        _write(folder_fd, temporary, data, mode, owner)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder_fd)


def is_leftover(found: str, name: str) -> bool:
    """Whether a file may be what a process left that was killed while it replaced the one of this name.

    Earlier versions put no point before the name.
    """
    return re.fullmatch(rf"\.?{re.escape(name)}\.[0-9a-f]{{16}}", found) is not None


def remove_leftovers(folder_fd: int, name: str) -> None:
    """Remove what killed processes left; nobody may be replacing the file of this name meanwhile."""
    for found in os.listdir(folder_fd):
        if is_leftover(found, name):
            with contextlib.suppress(OSError):
                os.unlink(found, dir_fd=folder_fd)


@contextlib.contextmanager
def _end_delayed() -> Iterator[None]:
    """Delay signals that would end the process without running ``finally``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_special(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return str(Path(path).readlink()).startswith(("/dev/", "/proc/"))
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write(folder_fd: int, name: str, data: Buffer, mode: int, owner: tuple[int, int] | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
    try:
        with memoryview(data) as whole:
            written = 0
            while written < len(whole):
                with whole[written : written + _CHUNK] as left:
                    written += os.write(fd, left)
        # Not by the mode of open(): the umask would have its say.
        os.fchmod(fd, mode)
        if owner is not None:
            os.fchown(fd, *owner)
        os.fsync(fd)
    finally:
        os.close(fd)


def _failed(path: str, error: OSError, status: int) -> AgentError:
    hint = None
    if isinstance(error, PermissionError):
        hint = "run as a user that may write there"
    elif isinstance(error, FileNotFoundError):
        hint = "make this folder, or name another"
    return AgentError(f"{path} cannot be written: {error.strerror}", hint=hint, status=status)
