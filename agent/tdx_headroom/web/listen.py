# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: TCP, in the file system, and those that somebody else has bound."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError
from tdx_headroom.web.settings import Address, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKLOG = 4096
"""As many clients as the kernel lets wait: the one more that a flood keeps out tries again after a second."""

MAX_UNIX_PATH = 107
NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_HINT = "choose another address with --web.listen-address"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket.

    Args:
        socket: does not block.
        name: for people, as on the command line.
        private: only its owner and group can connect: their requests need no TLS and no password, and are
            shown full addresses.
        owned: the socket file to remove when done, with its device and inode; None: there is none, or it
            is somebody else's.
    """

    socket: socket.socket
    name: str
    private: bool = False
    owned: tuple[Path, int, int] | None = None

    def close(self) -> None:
        """Stop listening; remove the socket file, unless another one has taken its place."""
        self.socket.close()
        if self.owned is None:
            return
        path, *identity = self.owned
        try:
            status = os.lstat(path)
            if [status.st_dev, status.st_ino] == identity:
                path.unlink()
        except OSError:
            pass  # it is gone, or its directory is: nothing is left to do


def open_listeners(
    addresses: Iterable[Address | UnixAddress], given: Iterable[socket.socket]
) -> list[Listener]:
    """Listen on all of them, or on none.

    Args:
        addresses: to bind.
        given: sockets that are bound and listen already.

    Raises:
        AgentError: one cannot be listened on.
    """
    opened = [_adopt(sock) for sock in given]
    try:
        for address in addresses:
            opened += [_unix(address)] if isinstance(address, UnixAddress) else _tcp(address)
    except AgentError:
        for listener in opened:
            listener.close()
        raise
    if not opened:
        raise AgentError(
            "there is nothing to listen on",
            hint="--web.systemd-socket needs a socket unit; without one use --web.listen-address",
            status=os.EX_UNAVAILABLE,
        )
    return opened


def _tcp(address: Address) -> list[Listener]:
    """Bind all that the host's name stands for; without a name all addresses, of each family there is."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise _cannot(address, getattr(error, "strerror", None) or "no such host") from None
    listeners: list[Listener] = []
    port = address.port
    missing: OSError | None = None
    for family, *_, place in dict.fromkeys(found):
        try:
            sock = _bind(family, (place[0], port, *place[2:]))
        except OSError as error:
            if error.errno in NO_SUCH_FAMILY:  # IPv6 is switched off here
                missing = error
                continue
            for listener in listeners:
                listener.close()
            raise _cannot(address, error.strerror or str(error)) from None
        port = sock.getsockname()[1]  # port 0: whatever was free for the first one
        listeners.append(Listener(sock, str(Address(address.host, port))))
    if not listeners:
        raise _cannot(address, missing.strerror if missing and missing.strerror else "no such host")
    return listeners


def _bind(family: int, place: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _unix(address: UnixAddress) -> Listener:
    """Bind under another name and rename: there is no moment without a socket or with a wrong mode."""
    path = Path(address.path)
    # Not to be guessed: who may write to the folder could put something else there first.
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    if max(len(os.fsencode(path)), len(os.fsencode(temporary))) > MAX_UNIX_PATH:
        raise _cannot(address, f"the path has more than {MAX_UNIX_PATH} bytes")
    _refuse_taken(address, path)
    sock = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o117)  # 0660 from the start
    bound = False
    try:
        sock.bind(os.fspath(temporary))
        bound = True
        sock.listen(BACKLOG)
        sock.setblocking(False)
        status = os.lstat(temporary)
        temporary.rename(path)
    except OSError as error:
        sock.close()
        if bound:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise _cannot(address, error.strerror or str(error)) from None
    finally:
        os.umask(mask)
    return Listener(sock, str(address), private=True, owned=(path, status.st_dev, status.st_ino))


def _refuse_taken(address: UnixAddress, path: Path) -> None:
    """Only a socket on which nobody listens any more may be replaced.

    Raises:
        AgentError: something else is there.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(address, error.strerror or str(error)) from None
    if not stat.S_ISSOCK(mode):
        raise _cannot(address, "there is something else than a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise _cannot(address, error.strerror or str(error)) from None
    raise _cannot(address, "somebody listens there")


def _adopt(sock: socket.socket) -> Listener:
    sock.setblocking(False)
    name = sock.getsockname()
    if sock.family != socket.AF_UNIX:
        return Listener(sock, str(Address(name[0], name[1])))
    path = os.fsdecode(name)
    return Listener(sock, f"unix:{path}", private=_is_private(path))


def _is_private(path: str) -> bool:
    """Whether a socket file keeps others out: connecting takes the right to write.

    systemd gives it to everybody unless the socket unit has SocketMode=. An abstract socket has no mode.
    """
    try:
        return path.startswith("/") and not Path(path).stat().st_mode & stat.S_IWOTH
    except (OSError, ValueError):
        return False


def _cannot(address: Address | UnixAddress, reason: str) -> AgentError:
    return AgentError(f"cannot listen on {address}: {reason}", hint=_HINT, status=os.EX_UNAVAILABLE)
