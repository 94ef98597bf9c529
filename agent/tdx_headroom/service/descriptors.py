# SPDX-License-Identifier: Apache-2.0
"""Sockets and files that systemd opened for the agent: sd_listen_fds(3), by the names in LISTEN_FDNAMES.

Sockets are those of the ``.socket`` unit. Files come from ``OpenFile=``, or from the unit's descriptor store
where systemd is too old for it (:mod:`tdx_headroom.service.descriptor_store`).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import SourceError
from tdx_headroom.sources.registry import HANDED_OVER, PRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from tdx_headroom.hostfs.files import HostFiles

FIRST = 3
MAX_DESCRIPTORS = 512

_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@dataclass(frozen=True, slots=True)
class Inherited:
    """What was handed over.

    Args:
        sockets: listening sockets, non-blocking.
        files: descriptors by path, for ``Root(path, descriptors=...)``; the one of kmsg is non-blocking.
    """

    sockets: tuple[socket.socket, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)


def take(environment: MutableMapping[str, str] | None = None) -> Inherited:
    """Take what was handed over, once: the variables are removed, so that no child believes them.

    What cannot be used is closed, with a warning that says which and why; it never fails.

    Args:
        environment: where the variables are; None: the process's own.
    """
    environment = os.environ if environment is None else environment
    given = {name: environment.pop(name) for name in _VARIABLES if name in environment}
    if not given.get("LISTEN_FDS"):
        return Inherited()
    count = _count(given)
    if count == 0:
        return Inherited()
    names = _names(given.get("LISTEN_FDNAMES"), count)
    sockets: list[socket.socket] = []
    files: dict[str, int] = {}
    for fd, name in zip(range(FIRST, FIRST + count), names, strict=True):
        problem = _take_one(fd, name, sockets, files)
        if problem is not None:
            log.get().warning("a descriptor from systemd cannot be used", fd=fd, name=name, problem=problem)
    return Inherited(tuple(sockets), files)


def open_privileged(root: HostFiles) -> dict[str, int | SourceError]:
    """Open as root what only root can, for an agent that will not be root.

    Args:
        root: of the running host.

    Returns:
        By name: the descriptor, or why there is none.
    """
    opened: dict[str, int | SourceError] = {}
    for name in PRIVILEGED:
        try:
            fd = root.open(name, HANDED_OVER[name])
        except SourceError as error:
            opened[name] = error
            continue
        problem = _file_problem(fd, os.fstat(fd).st_mode, name, {})
        if problem is None:
            opened[name] = fd
        else:
            os.close(fd)
            opened[name] = SourceError(name, problem)
    return opened


def _count(given: Mapping[str, str]) -> int:
    """How many descriptors are for this process; 0 when none can be told to be."""
    pid, text = given.get("LISTEN_PID", ""), given["LISTEN_FDS"]
    if pid != str(os.getpid()):
        problem = f"LISTEN_PID is {pid!r}, this process is {os.getpid()}"
    elif not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= MAX_DESCRIPTORS):
        problem = f"LISTEN_FDS is {text!r}, no number up to {MAX_DESCRIPTORS}"
    else:
        return int(text)
    log.get().warning("descriptors from systemd are ignored", problem=problem)
    return 0


def _names(text: str | None, count: int) -> list[str]:
    """A name for each descriptor; empty ones when the list of names cannot be used."""
    names = (text or "").split(":")
    if len(names) == count:
        return names
    # Sockets need no names. Files cannot be told apart without, and each of them gets its own warning.
    problem = f"{len(names)} names for {count} descriptors" if text else "not set"
    log.get().warning("LISTEN_FDNAMES is ignored", problem=problem)
    return [""] * count


def _take_one(fd: int, name: str, sockets: list[socket.socket], files: dict[str, int]) -> str | None:
    """Sort one descriptor in, or close it; what is wrong with it, if something is."""
    try:
        mode = os.fstat(fd).st_mode
        os.set_inheritable(fd, False)
        if stat.S_ISSOCK(mode):
            problem = _take_socket(fd, sockets)
        else:
            problem = _file_problem(fd, mode, name, files)
            if problem is None:
                files[HANDED_OVER[name]] = fd
        if problem is not None:
            os.close(fd)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return problem


def _take_socket(fd: int, sockets: list[socket.socket]) -> str | None:
    taken = socket.socket(fileno=fd)
    streams = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    try:
        if taken.family not in streams or taken.type != socket.SOCK_STREAM:
            problem = "a socket, but none of TCP or AF_UNIX streams"
        elif not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            problem = "a socket that does not listen; the socket unit must say Accept=no"
        else:
            taken.setblocking(False)
            sockets.append(taken)
            return None
    except OSError:
        taken.detach()
        raise
    taken.detach()
    return problem


def _file_problem(fd: int, mode: int, name: str, files: Mapping[str, int]) -> str | None:
    """Why this cannot be the file of that name; its reading must never block."""
    if name not in HANDED_OVER:
        return "its name is none that the agent knows"
    if HANDED_OVER[name] in files:
        return "there is another one of this name"
    wants_device = name == "kmsg"
    if wants_device and not stat.S_ISCHR(mode):
        return "not a character device"
    if not wants_device and not stat.S_ISREG(mode):
        return "not a regular file"
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE == os.O_WRONLY or flags & os.O_PATH:
        return "not opened for reading"
    if wants_device:
        # Shared with whoever opened it; systemd does not read from it.
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    return None
