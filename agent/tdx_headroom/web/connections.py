# SPDX-License-Identifier: Apache-2.0
"""Open connections: how many, how long, and which one has to go when there is no room."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

from tdx_headroom.web.connection import Leaving

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tdx_headroom.web.connection import ClientStream
    from tdx_headroom.web.settings import Limits


class Dropped(StrEnum):
    """Why the server has closed a connection by itself."""

    SILENT = "silent"
    IDLE = "idle"
    SLOW = "slow"
    CROWDED = "crowded"


class Peer:
    """One connection.

    Args:
        origin: see :func:`tdx_headroom.web.connection.origin_of`.
        private: see :class:`tdx_headroom.web.listen.Listener`.
    """

    __slots__ = ("origin", "private", "since", "stream")

    stream: ClientStream
    """To the client."""

    def __init__(self, origin: bytes, *, private: bool) -> None:
        self.origin = origin
        self.private = private
        self.since = 0.0

    def __str__(self) -> str:
        return "client"

    def close(self) -> None:
        """Close it; the client gets what was sent before."""
        self.stream.close()

    def abort(self) -> None:
        """Close it, and drop what the client has not taken."""
        self.stream.abort()


Crowd = dict[Any, None]
"""Peers, or those that are leaving, in the order in which they came into this state."""


class Connections:
    """All peers, each in the state that it is in, in the order in which they came into it.

    A peer is *new* until its first request is there, then *busy* until that is answered, *sending* until the
    answer has left the process, and *idle* until the next request is there. One that is closed is *leaving*
    until its client has taken the last answer. Only busy peers are work; all others wait for their client,
    have a deadline, and can be dropped when somebody else needs the room.

    Who has to go comes from where most connections come from, so that a crowd of one party pushes out its
    own; among these it is the one that has kept the server waiting longest.

    Args:
        limits: how many, and how long.
        sending: how many may be sending at once.
        clock: seconds.
        waiting: told when to look again, by that clock, whenever a peer begins to wait for its client.
    """

    def __init__(
        self,
        limits: Limits,
        sending: int,
        clock: Callable[[], float],
        waiting: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._most_sending = sending
        self._clock = clock
        self._waiting = waiting
        self._new: dict[Peer, None] = {}
        self._idle: dict[Peer, None] = {}
        self._sending: dict[Peer, None] = {}
        self._leaving: dict[Leaving, None] = {}
        self._busy: dict[Peer, None] = {}
        self._all: tuple[Crowd, ...] = (self._new, self._idle, self._sending, self._busy, self._leaving)
        self._origins = Counter[bytes]()
        self._patience: tuple[tuple[Crowd, float, Dropped], ...] = (
            (self._new, limits.request_seconds, Dropped.SILENT),
            (self._idle, limits.idle_seconds, Dropped.IDLE),
            (self._sending, limits.send_seconds, Dropped.SLOW),
            (self._leaving, limits.send_seconds, Dropped.SLOW),
        )
        self.dropped = dict.fromkeys(Dropped, 0)
        self.most = limits.connections

    def __len__(self) -> int:
        return sum(map(len, self._all))

    def add(self, peer: Peer) -> None:
        """A client has connected; if there are too many, another one goes."""
        if len(self) >= self.most:
            self.make_room()
        self._enter(peer, self._new)

    def make_room(self) -> None:
        """Drop a connection of the larger crowd.

        So those who never say a word do not push out those who have said something, nor the other way round.
        """
        crowds: tuple[Crowd, ...] = (self._new, self._idle, self._sending, self._leaving)
        self._drop_one(*sorted(crowds, key=len, reverse=True), reason=Dropped.CROWDED)

    def busy(self, peer: Peer) -> None:
        """Its request is there."""
        self._move(peer, self._busy)

    def sending(self, peer: Peer) -> None:
        """The client does not take the answer as fast as it is sent; the slowest ones make room for it."""
        self._move(peer, self._sending)
        while len(self._sending) > self._most_sending:
            self._drop_one(self._sending, reason=Dropped.SLOW)

    def idle(self, peer: Peer) -> None:
        """Its answer is on its way."""
        self._move(peer, self._idle)

    def leave(self, peer: Peer, connection: socket.socket) -> None:
        """It is closed, and its client has yet to take the end of an answer."""
        self.remove(peer)
        self._enter(Leaving(connection, peer.origin, self._gone), self._leaving)

    def remove(self, peer: Peer | Leaving) -> bool:
        """Forget a connection; whether it was known."""
        for group in self._all:
            if peer in group:
                del group[peer]
                self._origins[peer.origin] -= 1
                if not self._origins[peer.origin]:
                    del self._origins[peer.origin]
                return True
        return False

    def sweep(self) -> None:
        """Close what has waited for its client too long, and what has left."""
        now = self._clock()
        for peer in [peer for peer in self._leaving if peer.is_over()]:
            self._gone(peer)
        for group, seconds, reason in self._patience:
            while group and (first := next(iter(group))).since + seconds <= now:
                self._drop(first, reason)
            if group:
                self._waiting(next(iter(group)).since + seconds)

    def close_all(self) -> None:
        """Close every connection, answered or not."""
        for group in self._all:  # the last one gets what is left of the others
            while group:
                self._gone(next(iter(group)))

    def _enter(self, peer: Peer | Leaving, group: Crowd) -> None:
        self._origins[peer.origin] += 1
        self._put(peer, group)

    def _move(self, peer: Peer, group: Crowd) -> None:
        """To another state, unless it has gone."""
        for current in self._all:
            if peer in current:
                del current[peer]
                self._put(peer, group)
                return

    def _put(self, peer: Peer | Leaving, group: Crowd) -> None:
        peer.since = self._clock()
        group[peer] = None
        for waiting, seconds, _reason in self._patience:
            if group is waiting:
                self._waiting(peer.since + seconds)

    def _drop_one(self, *crowds: Crowd, reason: Dropped) -> None:
        most = max(self._origins.values(), default=0)
        for peer in chain(*crowds):
            if self._origins[peer.origin] == most:
                break
        else:  # whose peers are all busy
            peer = max(chain(*crowds), key=lambda peer: self._origins[peer.origin], default=None)
        if peer is not None:
            self._drop(peer, reason)

    def _drop(self, peer: Peer | Leaving, reason: Dropped) -> None:
        self.dropped[reason] += 1
        self.remove(peer)
        if reason in (Dropped.SLOW, Dropped.CROWDED):
            peer.abort()
        else:
            peer.close()

    def _gone(self, peer: Peer | Leaving) -> None:
        self.remove(peer)
        peer.close()
