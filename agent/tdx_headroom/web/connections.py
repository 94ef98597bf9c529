# SPDX-License-Identifier: Apache-2.0
"""Open connections: how many, how long, and which one has to go when there is no room."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from tdx_headroom.web.connection import Lingering

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tdx_headroom.web.settings import Limits


class DropReason(StrEnum):
    """Why the server has closed a connection of its own accord."""

    SILENT = "silent"
    IDLE = "idle"
    SLOW = "slow"
    CROWDED = "crowded"


class Held(Protocol):
    """A connection, or what is left of one: where it comes from, and since when it is in its state."""

    origin: bytes
    since: float

    def close(self) -> None:
        """Close it; the client still gets what was sent before."""

    def abort(self) -> None:
        """Close it, and drop what the client has not taken."""


Group = dict[Any, None]
"""The connections in one state, in the order in which they entered it."""


class Connections:
    """All connections by the state that each is in.

    One is *new* until its first request is there, then *busy* until that is answered, *sending* until the
    answer has left the process, and *idle* until the next request is there. A closed one is *lingering* until
    its client has taken the last answer. Only busy ones are work; all others wait for their client, have a
    deadline, and can be dropped when somebody else needs the room.

    The one to go is from the origin that has the most connections, so that whoever opens many crowds out its
    own; among these it is the one that has kept the server waiting longest.

    Args:
        limits: how many, and how long.
        max_sending: how many may be sending at once.
        clock: seconds.
        sweep_at: told by that clock when to call :meth:`sweep`, whenever a connection begins to wait for its
            client.
    """

    def __init__(
        self,
        limits: Limits,
        max_sending: int,
        clock: Callable[[], float],
        sweep_at: Callable[[float], None],
    ) -> None:
        self._max_sending = max_sending
        self._clock = clock
        self._sweep_at = sweep_at
        self._group_of: dict[Held, Group] = {}
        self._new: Group = {}
        self._idle: Group = {}
        self._sending: Group = {}
        self._lingering: dict[Lingering, None] = {}
        self._busy: Group = {}
        self._origins = Counter[bytes]()
        self._deadlines: tuple[tuple[Group, float, DropReason], ...] = (
            (self._new, limits.request_seconds, DropReason.SILENT),
            (self._idle, limits.idle_seconds, DropReason.IDLE),
            (self._sending, limits.send_seconds, DropReason.SLOW),
            (self._lingering, limits.send_seconds, DropReason.SLOW),
        )
        self.dropped = dict.fromkeys(DropReason, 0)
        self.max_connections = limits.connections

    def __len__(self) -> int:
        return len(self._group_of)

    def add(self, connection: Held) -> None:
        """A client has connected; if there are too many, another one goes."""
        if len(self) >= self.max_connections:
            self.make_room()
        self._enter(connection, self._new)

    def make_room(self) -> None:
        """Drop a connection of the largest group that waits.

        So those who never say a word do not crowd out those who have said something, nor the other way round.
        """
        groups = sorted((group for group, *_ in self._deadlines), key=len, reverse=True)
        self._drop_one(*groups, reason=DropReason.CROWDED)

    def busy(self, connection: Held) -> None:
        """Its request is there."""
        self._move(connection, self._busy)

    def sending(self, connection: Held) -> None:
        """The client does not take the answer as fast as it is sent; the slowest ones make room for it."""
        self._move(connection, self._sending)
        while len(self._sending) > self._max_sending:
            self._drop_one(self._sending, reason=DropReason.SLOW)

    def idle(self, connection: Held) -> None:
        """Its answer has left the process."""
        self._move(connection, self._idle)

    def linger(self, sock: socket.socket, origin: bytes) -> None:
        """Keep the socket of a closed connection until its client has taken the end of the last answer."""
        self._enter(Lingering(sock, origin, self._close), self._lingering)

    def remove(self, connection: Held) -> None:
        """Forget a connection, if it is still known."""
        group = self._group_of.pop(connection, None)
        if group is None:
            return
        del group[connection]
        self._origins[connection.origin] -= 1
        if not self._origins[connection.origin]:
            del self._origins[connection.origin]

    def sweep(self) -> None:
        """Close whatever has waited for its client too long, and forget what has finished lingering."""
        now = self._clock()
        for lingering in [lingering for lingering in self._lingering if lingering.is_over()]:
            self._close(lingering)
        for group, seconds, reason in self._deadlines:
            while group and (first := next(iter(group))).since + seconds <= now:
                self._drop(first, reason)
            if group:
                self._sweep_at(next(iter(group)).since + seconds)

    def close_all(self) -> None:
        """Close every connection, answered or not."""
        while self._group_of:  # one that is closed may linger, and is closed again
            self._close(next(iter(self._group_of)))

    def _enter(self, connection: Held, group: Group) -> None:
        self._origins[connection.origin] += 1
        self._put(connection, group)

    def _move(self, connection: Held, group: Group) -> None:
        """To another state, unless it has gone."""
        if connection in self._group_of:
            del self._group_of[connection][connection]
            self._put(connection, group)

    def _put(self, connection: Held, group: Group) -> None:
        connection.since = self._clock()
        self._group_of[connection] = group
        group[connection] = None
        for waiting, seconds, _reason in self._deadlines:
            if group is waiting:
                self._sweep_at(connection.since + seconds)

    def _drop_one(self, *groups: Group, reason: DropReason) -> None:
        """Drop one of these: of the origin with the most connections, else of the one with the most here."""
        most = max(self._origins.values(), default=0)
        for connection in chain(*groups):
            if self._origins[connection.origin] == most:
                break
        else:  # that origin's connections are all busy
            connection = max(chain(*groups), key=lambda held: self._origins[held.origin], default=None)
        if connection is not None:
            self._drop(connection, reason)

    def _drop(self, connection: Held, reason: DropReason) -> None:
        self.dropped[reason] += 1
        self.remove(connection)
        if reason in (DropReason.SLOW, DropReason.CROWDED):
            connection.abort()
        else:
            connection.close()

    def _close(self, connection: Held) -> None:
        self.remove(connection)
        connection.close()
