# SPDX-License-Identifier: Apache-2.0
"""Opens every file of a host: the live one, a captured tree, or descriptors that somebody else opened."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from tdx_headroom.address import show_size
from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.hostfs.files import MAX_FILE, FileStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ENTRIES = 1 << 17

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_PRIVILEGE_HINT = "run as root, or let systemd open the file for the agent"


def host_root(path: str) -> Root:
    """The root of a host that a user names.

    Raises:
        AgentError: there is no such directory, or it is only there under a link of the kernel's.
    """
    root = Root(path)
    if not os.path.isdir(root.path):
        raise AgentError(
            f"{path} is no directory", hint="give what stands for the host's /", status=os.EX_NOINPUT
        )
    # /proc/PID/root leads into that process's mounts but reads as a name in them, often just /: as a path
    # that would be this machine.
    if not os.path.samefile(path, root.path):
        raise AgentError(
            f"{path} leads to other mounts than ours", hint="run it there: nsenter", status=os.EX_NOINPUT
        )
    return root


class Root:
    """A host's file system, from ``/`` or from a directory that mirrors it.

    Args:
        path: the directory that stands for ``/``.
        descriptors: descriptors to read instead of opening, by path relative to the root. They are read
            from offset 0 each time and never closed.
    """

    def __init__(
        self, path: str | os.PathLike[str] = "/", descriptors: Mapping[str, int] | None = None
    ) -> None:
        self.path = os.path.realpath(path)
        self._descriptors = dict(descriptors or {})

    def holding(self, descriptors: Mapping[str, int]) -> Root:
        """The same root, with these descriptors to read too."""
        return Root(self.path, {**self._descriptors, **descriptors})

    @property
    def live(self) -> bool:
        """Whether this is the running host itself."""
        return self.path == "/"

    def locate(self, relative: str) -> str:
        """The absolute path of ``relative``."""
        return os.path.join(self.path, relative)

    def descriptor(self, relative: str) -> int | None:
        """The descriptor that was handed in for this file, if any."""
        return self._descriptors.get(relative)

    def exists(self, relative: str) -> bool:
        """Whether there is such a file or directory that may be looked at."""
        if relative in self._descriptors:
            return True
        try:
            return os.path.exists(self._inside("root", relative))
        except SourceError:
            return False

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        r"""The whole of a regular file as text.

        Bytes that are not UTF-8 come as ``\xNN``. The size that the file claims is not trusted, unless it is
        too large already: files of /proc and /sys claim 0 or 4096.

        Raises:
            SourceError: missing, not permitted, no regular file, too large, or unreadable.
        """
        return self.read_bytes(source, relative, limit=limit).decode("utf-8", "backslashreplace")

    def read_bytes(self, source: str, relative: str, *, limit: int = MAX_FILE) -> bytes:
        """The same as bytes.

        Raises:
            SourceError: as :meth:`read`.
        """
        if relative in self._descriptors:
            return self._read_all(source, self._descriptors[relative], relative, limit)
        fd = self.open(source, relative)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SourceError(source, f"{self.locate(relative)} is not a regular file")
            # Its size says nothing: in sysfs it is a page, whatever there is to read.
            return self._read_all(source, fd, relative, limit)
        finally:
            os.close(fd)

    def open(self, source: str, relative: str) -> int:
        """A read-only descriptor that never blocks on opening and is not inherited.

        In a captured tree a symbolic link must not lead out of the tree.

        Raises:
            SourceError: the file cannot be opened.
        """
        path = self.locate(relative)
        try:
            if self.live:
                return os.open(path, _READ)
            return self._open_inside(source, relative, path)
        except OSError as error:
            raise _os_error(source, path, error) from None

    def _open_inside(self, source: str, relative: str, path: str) -> int:
        """In a captured tree: what was found is looked at and opened, whatever is at its path then."""
        try:
            found = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise _os_error(source, self._inside(source, relative), error) from None
        try:
            place = f"/proc/self/fd/{found}"
            try:
                real = os.readlink(place)
            except OSError:
                # There is no /proc, or it is not ours to see, as after giving root up.
                return os.open(self._inside(source, relative), _READ)
            if not f"{real}/".startswith(f"{self.path}/"):
                raise SourceError(source, f"{path} is a link that leads out of {self.path}")
            return os.open(place, _READ)
        finally:
            os.close(found)

    def status(self, source: str, relative: str, *, follow: bool = True) -> FileStatus:
        """Of the file that a path leads to; of a link itself, if its name is not to be followed.

        Raises:
            SourceError: it cannot be looked at.
        """
        folder, name = os.path.split(relative)
        path = self._inside(source, relative) if follow else f"{self._inside(source, folder)}/{name}"
        try:
            found = os.stat(path, follow_symlinks=follow)
        except OSError as error:
            raise _os_error(source, path, error) from None
        return FileStatus(
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            directory=stat.S_ISDIR(found.st_mode),
            owner=found.st_uid,
            others_write=bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)),
        )

    def entries(self, source: str, relative: str) -> list[str]:
        """Names in a directory, sorted.

        Raises:
            SourceError: the directory cannot be listed, or is absurdly large.
        """
        path = self._inside(source, relative)
        try:
            names = os.listdir(path)
        except OSError as error:
            raise _os_error(source, path, error) from None
        if len(names) > MAX_ENTRIES:
            raise SourceError(source, f"{path} has {len(names)} entries, more than {MAX_ENTRIES}")
        return sorted(names)

    def _inside(self, source: str, relative: str) -> str:
        """The absolute path with links followed; in a captured tree none may lead out of the tree."""
        path = self.locate(relative)
        if self.live or self._has_no_link(relative):
            return path
        real = os.path.realpath(path)
        if os.path.commonpath((self.path, real)) != self.path:
            raise SourceError(source, f"{path} is a link that leads out of {self.path}")
        return real

    def _has_no_link(self, relative: str) -> bool:
        """Whether no part of a path is a link; resolving those of the root as well, each time, takes long."""
        if relative.startswith("/"):
            return False
        at = self.path
        for part in relative.split("/"):
            if part == "..":
                return False
            at = f"{at}/{part}"
            try:
                if stat.S_ISLNK(os.lstat(at).st_mode):
                    return False
            except OSError:
                # What lies below is not there either.
                return True
        return True

    def _read_all(self, source: str, fd: int, relative: str, limit: int) -> bytes:
        chunks = []
        size = 0
        try:
            while chunk := os.pread(fd, 1 << 16, size):
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    where = self.locate(relative)
                    raise SourceError(source, f"{where} is larger than {show_size(limit)}")
        except OSError as error:
            raise _os_error(source, self.locate(relative), error) from None
        return b"".join(chunks)


def _os_error(source: str, path: str, error: OSError) -> SourceError:
    hint = _PRIVILEGE_HINT if error.errno in (errno.EACCES, errno.EPERM) else None
    reason = f"{path}: {os.strerror(error.errno or 0)}"
    return SourceError(source, reason, hint=hint, absent=error.errno == errno.ENOENT)
