# SPDX-License-Identifier: Apache-2.0
"""Which connection is closed, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tdx_headroom.web.connections import Connections, Dropped, Peer
from tdx_headroom.web.settings import Limits

if TYPE_CHECKING:
    from tornado.iostream import IOStream

LIMITS = Limits(request_seconds=10, idle_seconds=60, send_seconds=20, connections=4)


class Stream:
    def __init__(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


class Room:
    """Connections with a clock that stands still unless it is set."""

    def __init__(self, sending: int = 2) -> None:
        self.now = 0.0
        self.looks: list[float] = []
        self.connections = Connections(LIMITS, sending, lambda: self.now, self.looks.append)

    def peer(self) -> Peer:
        peer = Peer(cast("IOStream", Stream()), private=False)
        self.connections.add(peer)
        return peer

    def sweep(self, now: float) -> None:
        self.now = now
        self.connections.sweep()


def is_open(peer: Peer) -> bool:
    return cast("Stream", peer.stream).open


def test_next_look() -> None:
    """It is told when to look again for as long as a client is waited for, and no more after that."""
    room = Room()
    silent, idle = room.peer(), room.peer()
    assert room.looks == [10, 10]
    room.now = 5
    room.connections.busy(idle)
    assert room.looks == [10, 10]
    room.connections.idle(idle)
    assert room.looks == [10, 10, 65]
    room.sweep(10)
    assert room.looks == [10, 10, 65, 65]
    assert not is_open(silent)
    room.sweep(65)
    assert room.looks == [10, 10, 65, 65]
    assert not is_open(idle)


def test_deadlines() -> None:
    """Without a request 10 s, between two 60 s, for an answer to be taken 20 s; work has no deadline here."""
    room = Room()
    silent, idle, slow, busy = (room.peer() for _ in range(4))
    for peer in (idle, slow, busy):
        room.connections.busy(peer)
    room.connections.idle(idle)
    room.connections.sending(slow)
    for now, expected in (
        (9, (True, True, True, True)),
        (10, (False, True, True, True)),
        (20, (False, True, False, True)),
        (60, (False, False, False, True)),
        (1e6, (False, False, False, True)),
    ):
        room.sweep(now)
        assert tuple(map(is_open, (silent, idle, slow, busy))) == expected, now
    assert room.connections.dropped == {
        Dropped.SILENT: 1,
        Dropped.IDLE: 1,
        Dropped.SLOW: 1,
        Dropped.CROWDED: 0,
    }
    assert len(room.connections) == 1


def test_a_drip_of_bytes_does_not_extend_a_deadline() -> None:
    """Only a whole request counts: who sends a byte now and then is closed as one who sends none."""
    room = Room()
    peer = room.peer()
    for now in range(1, 11):
        room.sweep(now)
    assert not is_open(peer)


def test_the_one_silent_longest_makes_room() -> None:
    """When it is full, the oldest of the larger crowd goes, and the newcomer stays."""
    room = Room()
    first, second, third = (room.peer() for _ in range(3))
    known = room.peer()
    room.connections.busy(known)
    room.connections.idle(known)
    newcomer = room.peer()
    assert [is_open(p) for p in (first, second, third, known, newcomer)] == [False, True, True, True, True]
    assert len(room.connections) == 4


def test_work_is_never_dropped() -> None:
    """A request that waits for its answer is not what makes room, though nobody else is there."""
    room = Room()
    peers = [room.peer() for _ in range(4)]
    for peer in peers:
        room.connections.busy(peer)
    extra = room.peer()
    assert all(map(is_open, [*peers, extra]))


def test_slow_readers_push_out_each_other() -> None:
    """Of those that do not take their answers only so many stay: the oldest goes."""
    room = Room(sending=2)
    peers = [room.peer() for _ in range(3)]
    for peer in peers:
        room.connections.busy(peer)
        room.connections.sending(peer)
    assert list(map(is_open, peers)) == [False, True, True]
    assert room.connections.dropped[Dropped.SLOW] == 1


def test_who_is_gone_stays_gone() -> None:
    """A connection that was closed does not come back when its last answer turns out to be sent."""
    room = Room()
    peer = room.peer()
    room.connections.remove(peer)
    room.connections.idle(peer)
    assert len(room.connections) == 0
