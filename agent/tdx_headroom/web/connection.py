# SPDX-License-Identifier: Apache-2.0
"""A client's socket: where it comes from, what the kernel may hold for it, and how it is let go."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream, SSLIOStream

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

SEND_BUFFER = 64 << 10
"""Bytes of answers that the kernel may hold for a client. It takes twice that, for its own records."""

UNIX_SEND_BUFFER = 8 << 10
"""The same on a unix socket, where nothing is on its way for long. What its client has not taken stays for as
long as the client has its descriptor: closing this side does not take it back."""

RECEIVE_BUFFER = 16 << 10
"""Bytes that a client may send before they are wanted; the same goes for it. It holds any request."""

REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""The one answer that the HTTP library gives by itself."""

GRACE = 1.2
"""The kernel's deadline for an answer, by that of this process."""

_MAPPED = bytes(10) + b"\xff\xff"
_RESET = struct.pack("ii", 1, 0)
_CREDENTIALS = struct.Struct("3i")
_DISCARD = 64 << 10


def origin_of(connection: socket.socket, address: Any) -> bytes:  # noqa: ANN401  as accept() gives it
    """Where a client comes from: what one party can have many connections from.

    That is an IPv4 address, or the first 64 bits of an IPv6 address, since a single host has all addresses
    that begin with them. On a unix socket it is a user.
    """
    if connection.family == socket.AF_UNIX:
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return b"user %d" % _CREDENTIALS.unpack(data)[1]
    if connection.family == socket.AF_INET:
        return socket.inet_pton(socket.AF_INET, address[0])
    packed = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed[:8]


def bound(connection: socket.socket, send_seconds: float) -> None:
    """Limit what the kernel holds for a client, and for how long.

    Without that its buffers grow up to many MiB for a client that asks and does not read. An answer that has
    left this process is dropped by the kernel: a little after `send_seconds`, so that it is seen and counted
    here first when it has not.
    """
    if connection.family == socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_SEND_BUFFER)
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    milliseconds = max(1, int(send_seconds * 1000 * GRACE))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class ClientStream(IOStream):
    """A stream that leaves nothing behind in the kernel that nobody counts.

    Args:
        connection: to the client.
        refuse: gives what the client gets when the HTTP library finds that it does not speak HTTP.
        leave: takes the socket when the stream is closed before the client has taken all of an answer.
        options: of the library's stream.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        refuse: Callable[[], bytes],
        leave: Callable[[socket.socket], None],
        **options: Any,  # noqa: ANN401  the library's
    ) -> None:
        self._refuse = refuse
        self._leave = leave
        self._aborted = False
        super().__init__(connection, **options)

    def write(self, data: bytes | memoryview) -> Future[None]:
        """Send; the library's own answer is replaced by one that is counted and guarded as all others."""
        if data == REFUSAL and not self.closed():
            data = self._refuse()
        return super().write(data)

    def abort(self) -> None:
        """Close at once, and drop what the client has not taken."""
        self._aborted = True
        self.close()

    def close_fd(self) -> None:
        """Let go of the socket; called by the library."""
        connection, leave = self.socket, self._leave
        self.socket = None  # type: ignore[assignment]  # as the library does
        # It leads back here by way of the peer: memory of many clients would wait for the collector.
        del self._leave
        if self._aborted:
            reset(connection)
        elif _unsent(connection):
            leave(connection)
        else:
            connection.close()


class SecureClientStream(ClientStream, SSLIOStream):
    """The same with TLS."""


class Leaving:
    """A connection that is closed but for the rest of an answer, which the client has yet to take.

    Closed in full it would be the kernel's: counted by nobody, dropped by nobody.

    Args:
        connection: to the client.
        origin: see :func:`origin_of`.
        gone: told when the client has taken all, or has gone.
    """

    __slots__ = ("_connection", "_gone", "_loop", "origin", "since")

    def __init__(self, connection: socket.socket, origin: bytes, gone: Callable[[Leaving], object]) -> None:
        self.origin = origin
        self.since = 0.0
        self._connection = connection
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._read)
        with contextlib.suppress(OSError):  # reset by the client: the next read says so
            connection.shutdown(socket.SHUT_WR)

    def is_over(self) -> bool:
        """Whether the client has taken all."""
        return not _unsent(self._connection)

    def close(self) -> None:
        """Let the kernel do what is left to do."""
        self._loop.remove_reader(self._connection)
        self._connection.close()

    def abort(self) -> None:
        """Drop what the client has not taken."""
        self._loop.remove_reader(self._connection)
        reset(self._connection)

    def _read(self) -> None:
        """Drop what the client still sends, until it closes its side too."""
        try:
            if self._connection.recv(_DISCARD):
                return
        except BlockingIOError:
            return
        except OSError:  # reset by the client
            self._gone(self)
            return
        if self.is_over():
            self._gone(self)
        else:  # it has only closed its side: it may read on, or not
            self._loop.remove_reader(self._connection)


def reset(connection: socket.socket) -> None:
    """Close, and have the kernel drop at once what the client has not taken."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()


def _unsent(connection: socket.socket) -> int:
    """Bytes that the client's host has not taken yet."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
