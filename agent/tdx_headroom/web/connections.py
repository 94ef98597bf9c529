# SPDX-License-Identifier: Apache-2.0
"""Open connections: how many, how long, and which one has to go when there is no room."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.iostream import IOStream

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
        stream: to the client.
        private: see :class:`tdx_headroom.web.listen.Listener`.
    """

    __slots__ = ("private", "since", "stream")

    def __init__(self, stream: IOStream, *, private: bool) -> None:
        self.stream = stream
        self.private = private
        self.since = 0.0

    def __str__(self) -> str:
        return "client"


class Connections:
    """All peers, each in the state that it is in, in the order in which they came into it.

    A peer is *new* until its first request is there, then *busy* until that is answered, *sending* until the
    answer has left the process, and *idle* until the next request is there. Only busy peers are work; all
    others wait for their client, have a deadline, and can be dropped when somebody else needs the room.

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
        self._busy: dict[Peer, None] = {}
        self._patience = (
            (self._new, limits.request_seconds, Dropped.SILENT),
            (self._idle, limits.idle_seconds, Dropped.IDLE),
            (self._sending, limits.send_seconds, Dropped.SLOW),
        )
        self.dropped = dict.fromkeys(Dropped, 0)
        self.most = limits.connections

    def __len__(self) -> int:
        return len(self._new) + len(self._idle) + len(self._sending) + len(self._busy)

    def add(self, peer: Peer) -> None:
        """A client has connected; if there are too many, another one goes."""
        if len(self) >= self.most:
            self.make_room()
        self._put(peer, self._new)

    def make_room(self) -> None:
        """Drop the connection whose client has kept it waiting longest.

        It is taken from the larger crowd, so those who never say a word do not push out those who have said
        something, nor the other way round.
        """
        crowd = max((self._new, self._idle, self._sending), key=len)
        if crowd:
            self._drop(next(iter(crowd)), Dropped.CROWDED)

    def busy(self, peer: Peer) -> None:
        """Its request is there."""
        self._put(peer, self._busy)

    def sending(self, peer: Peer) -> None:
        """The client does not take the answer as fast as it is sent; the slowest ones make room for it."""
        self._put(peer, self._sending)
        while len(self._sending) > self._most_sending:
            self._drop(next(iter(self._sending)), Dropped.SLOW)

    def idle(self, peer: Peer) -> None:
        """Its answer is on its way."""
        if self.remove(peer):
            self._put(peer, self._idle)

    def remove(self, peer: Peer) -> bool:
        """Forget a connection; whether it was known."""
        for group in (self._new, self._idle, self._sending, self._busy):
            if peer in group:
                del group[peer]
                return True
        return False

    def sweep(self) -> None:
        """Close what has waited for its client too long."""
        now = self._clock()
        for group, seconds, reason in self._patience:
            while group and (first := next(iter(group))).since + seconds <= now:
                self._drop(first, reason)
            if group:
                self._waiting(next(iter(group)).since + seconds)

    def close_all(self) -> None:
        """Close every connection, answered or not."""
        for group in (self._new, self._idle, self._sending, self._busy):
            while group:
                self._close(next(iter(group)))

    def _put(self, peer: Peer, group: dict[Peer, None]) -> None:
        self.remove(peer)
        peer.since = self._clock()
        group[peer] = None
        for waiting, seconds, _reason in self._patience:
            if group is waiting:
                self._waiting(peer.since + seconds)

    def _drop(self, peer: Peer, reason: Dropped) -> None:
        self.dropped[reason] += 1
        self._close(peer)

    def _close(self, peer: Peer) -> None:
        self.remove(peer)
        peer.stream.close()
