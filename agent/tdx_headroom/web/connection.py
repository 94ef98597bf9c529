# SPDX-License-Identifier: Apache-2.0
"""A client's connection: where it comes from, what the kernel may hold for it, and how it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream, SSLIOStream

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Mapping

    from tdx_headroom.web.connections import Connections

SEND_BUFFER = 64 << 10
"""Bytes of answers that the kernel may hold for a client. It takes twice that, for its own records."""

UNIX_SEND_BUFFER = 8 << 10
"""The same on a unix socket, where nothing is in flight for long. What its client has not taken stays for as
long as the client has its descriptor: closing this side does not take it back."""

RECEIVE_BUFFER = 16 << 10
"""Bytes that a client may send before they are wanted; the kernel doubles it too. It holds any request."""

LIBRARY_REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""The one answer that the HTTP library gives by itself."""

GRACE = 1.2
"""The kernel's deadline for an answer, as a multiple of this process's."""

NAME_KINDS = ("DNS", "email", "URI")

_IPV4_MAPPED = bytes(10) + b"\xff\xff"
_RESET = struct.pack("ii", 1, 0)
_CREDENTIALS = struct.Struct("3i")
_DISCARD = 64 << 10


def origin_of(sock: socket.socket, address: Any) -> bytes:  # noqa: ANN401  as accept() gives it
    """Where a client comes from: what one party can have many connections from.

    That is an IPv4 address, or the first 64 bits of an IPv6 address, since a single host has all addresses
    that begin with them. On a unix socket it is a user.
    """
    if sock.family == socket.AF_UNIX:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return b"user %d" % _CREDENTIALS.unpack(data)[1]
    if sock.family == socket.AF_INET:
        return socket.inet_pton(socket.AF_INET, address[0])
    packed = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
    return packed[12:] if packed.startswith(_IPV4_MAPPED) else packed[:8]


def limit_buffers(sock: socket.socket, send_seconds: float) -> None:
    """Limit what the kernel holds for a client, and for how long.

    Without this its buffers grow to many MiB for a client that asks and does not read. An answer that has
    left this process is dropped by the kernel a little after `send_seconds`, so that one that has not is seen
    and counted here first.
    """
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_SEND_BUFFER)
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    milliseconds = max(1, int(send_seconds * 1000 * GRACE))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class Connection(IOStream):
    """A stream that leaves nothing behind in the kernel that nobody counts.

    Args:
        sock: to the client.
        connections: that it is counted among.
        origin: see :func:`origin_of`.
        private: see :class:`tdx_headroom.web.listen.Listener`.
        refuse: gives what the client gets when the HTTP library finds that it does not speak HTTP.
        options: of the library's stream.
    """

    def __init__(
        self,
        sock: socket.socket,
        connections: Connections,
        *,
        origin: bytes,
        private: bool,
        refuse: Callable[[], bytes],
        **options: Any,  # noqa: ANN401  the library's
    ) -> None:
        self.origin = origin
        self.private = private
        self.since = 0.0
        self._connections = connections
        self._refuse = refuse
        self._aborted = False
        super().__init__(sock, **options)

    def is_admitted(self) -> bool:
        """Whether the client may ask at all; known once its first request is there."""
        return True

    def write(self, data: bytes | memoryview) -> Future[None]:
        """Send; the library's own answer is replaced by one that is counted and guarded like all others."""
        if data == LIBRARY_REFUSAL and not self.closed():
            data = self._refuse()
        return super().write(data)

    def abort(self) -> None:
        """Close at once, and drop what the client has not taken."""
        self._aborted = True
        self.close()

    def close_fd(self) -> None:
        """Let go of the socket; called by the library."""
        sock = self.socket
        self.socket = None  # type: ignore[assignment]  # as the library does
        self._connections.remove(self)
        if self._aborted:
            _reset(sock)
        elif _unsent(sock):
            self._connections.linger(sock, self.origin)
        else:
            sock.close()


class TlsConnection(Connection, SSLIOStream):
    """The same with TLS.

    Args:
        client_names: of which the client's certificate must have one; None: any certificate will do, or none.
        arguments: of the connection.
    """

    def __init__(self, *arguments: Any, client_names: frozenset[str] | None, **options: Any) -> None:  # noqa: ANN401  as above
        self._client_names = client_names
        super().__init__(*arguments, **options)

    def is_admitted(self) -> bool:
        """Whether the client's certificate has one of the names, where names are asked for."""
        if self._client_names is None:
            return True
        certificate = None if self.closed() else self.socket.getpeercert()
        return bool(certificate and names_of(certificate) & self._client_names)


def names_of(certificate: Mapping[str, Any]) -> set[str]:
    """All alternative names of a certificate, as Go writes them."""
    found = set()
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in NAME_KINDS:
            found.add(name)
        elif kind == "IP Address":
            with contextlib.suppress(ValueError):  # bytes that are no address are nobody's name
                found.add(str(ipaddress.ip_address(name)))
    return found


class Lingering:
    """What is left of a closed connection: the rest of an answer, which the client has yet to take.

    Were the socket closed too, that rest would be the kernel's: counted by nobody, dropped by nobody.

    Args:
        sock: to the client.
        origin: see :func:`origin_of`.
        done: told when the client has taken all, or has gone.
    """

    __slots__ = ("_done", "_loop", "_socket", "origin", "since")

    def __init__(self, sock: socket.socket, origin: bytes, done: Callable[[Lingering], object]) -> None:
        self.origin = origin
        self.since = 0.0
        self._socket = sock
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        with contextlib.suppress(OSError):  # reset by the client: the next read says so
            sock.shutdown(socket.SHUT_WR)

    def is_over(self) -> bool:
        """Whether the client has taken all."""
        return not _unsent(self._socket)

    def close(self) -> None:
        """Let the kernel do what is left to do."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def abort(self) -> None:
        """Drop what the client has not taken."""
        self._loop.remove_reader(self._socket)
        _reset(self._socket)

    def _read(self) -> None:
        """Discard what the client still sends, until it closes its side too."""
        try:
            if self._socket.recv(_DISCARD):
                return
        except BlockingIOError:
            return
        except OSError:  # reset by the client
            self._done(self)
            return
        if self.is_over():
            self._done(self)
        else:  # it has only closed its side: it may read on, or not
            self._loop.remove_reader(self._socket)


def _reset(sock: socket.socket) -> None:
    """Close, and have the kernel drop at once what the client has not taken."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _unsent(sock: socket.socket) -> int:
    """Bytes that the client's host has not taken yet."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
