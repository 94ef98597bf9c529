# SPDX-License-Identifier: Apache-2.0
"""Which connection is closed, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tdx_headroom.web.connections import Connections, Dropped, Peer
from tdx_headroom.web.settings import Limits

if TYPE_CHECKING:
    from tdx_headroom.web.connection import ClientStream

LIMITS = Limits(request_seconds=10, idle_seconds=60, send_seconds=20, connections=4)


class Stream:
    def __init__(self) -> None:
        self.open = True
        self.aborted = False

    def close(self) -> None:
        self.open = False

    def abort(self) -> None:
        self.open = False
        self.aborted = True


class Room:
    """Connections with a clock that stands still unless it is set."""

    def __init__(self, sending: int = 2) -> None:
        self.now = 0.0
        self.looks: list[float] = []
        self.connections = Connections(LIMITS, sending, lambda: self.now, self.looks.append)

    def peer(self, origin: bytes = b"somewhere") -> Peer:
        peer = Peer(origin, private=False)
        peer.stream = cast("ClientStream", Stream())
        self.connections.add(peer)
        return peer

    def peers(self, *origins: bytes) -> list[Peer]:
        return [self.peer(origin) for origin in origins]

    def sending_peer(self, origin: bytes) -> Peer:
        peer = self.peer(origin)
        self.connections.busy(peer)
        self.connections.sending(peer)
        return peer

    def sweep(self, now: float) -> None:
        self.now = now
        self.connections.sweep()


def is_open(peer: Peer) -> bool:
    return cast("Stream", peer.stream).open


def is_aborted(peer: Peer) -> bool:
    return cast("Stream", peer.stream).aborted


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
    assert list(map(is_aborted, (silent, idle, slow))) == [False, False, True]
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


def test_the_crowd_of_one_address_pushes_out_its_own() -> None:
    """Who has most connections loses one, however long the others keep the server waiting."""
    room = Room()
    lone, *crowd = room.peers(b"a", b"b", b"b", b"b")
    for _ in range(3):
        crowd.append(room.peer(b"b"))
    assert is_open(lone)
    assert list(map(is_open, crowd)) == [False] * 3 + [True] * 3
    room.connections.remove(crowd[3])
    room.connections.remove(crowd[4])
    *others, _ = room.peers(b"c", b"c", b"c")
    assert list(map(is_open, (lone, *crowd[5:], *others))) == [True, True, False, True]


def test_an_address_whose_peers_are_all_busy() -> None:
    """Where those of the address with most connections are all work, somebody else's goes."""
    room = Room()
    first, second, lone, other = room.peers(b"a", b"a", b"b", b"c")
    room.connections.busy(first)
    room.connections.busy(second)
    newcomer = room.peer(b"d")
    assert list(map(is_open, (first, second, lone, other, newcomer))) == [True, True, False, True, True]


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


def test_slow_readers_of_one_address_push_out_their_own() -> None:
    """A lone client that takes its time is not dropped for a crowd that takes nothing."""
    room = Room(sending=2)
    lone, first, second = (room.sending_peer(origin) for origin in (b"a", b"b", b"b"))
    assert list(map(is_open, (lone, first, second))) == [True, False, True]
    assert is_aborted(first)


def test_who_is_gone_stays_gone() -> None:
    """A connection that was closed does not come back when its last answer turns out to be sent."""
    room = Room()
    peer = room.peer()
    room.connections.remove(peer)
    room.connections.idle(peer)
    assert len(room.connections) == 0
