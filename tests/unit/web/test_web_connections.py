# SPDX-License-Identifier: Apache-2.0
"""Which connection is closed, and when."""

from __future__ import annotations

from tdx_headroom.web.connections import Connections, DropReason
from tdx_headroom.web.settings import Limits

LIMITS = Limits(request_seconds=10, idle_seconds=60, send_seconds=20, connections=4)


class Client:
    """A connection that notes how it is closed."""

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self.since = 0.0
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

    def client(self, origin: bytes = b"somewhere") -> Client:
        client = Client(origin)
        self.connections.add(client)
        return client

    def clients(self, *origins: bytes) -> list[Client]:
        return [self.client(origin) for origin in origins]

    def sending_client(self, origin: bytes) -> Client:
        client = self.client(origin)
        self.connections.busy(client)
        self.connections.sending(client)
        return client

    def sweep(self, now: float) -> None:
        self.now = now
        self.connections.sweep()


def is_open(client: Client) -> bool:
    return client.open


def test_next_look() -> None:
    """It is told when to look again for as long as a client is waited for, and no more after that."""
    room = Room()
    silent, idle = room.client(), room.client()
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
    silent, idle, slow, busy = (room.client() for _ in range(4))
    for client in (idle, slow, busy):
        room.connections.busy(client)
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
    assert [silent.aborted, idle.aborted, slow.aborted] == [False, False, True]
    assert room.connections.dropped == {
        DropReason.SILENT: 1,
        DropReason.IDLE: 1,
        DropReason.SLOW: 1,
        DropReason.CROWDED: 0,
    }
    assert len(room.connections) == 1


def test_a_drip_of_bytes_does_not_extend_a_deadline() -> None:
    """Only a whole request counts: who sends a byte now and then is closed as one who sends none."""
    room = Room()
    client = room.client()
    for now in range(1, 11):
        room.sweep(now)
    assert not is_open(client)


def test_the_one_silent_longest_makes_room() -> None:
    """When it is full, the oldest of the larger crowd goes, and the newcomer stays."""
    room = Room()
    first, second, third = (room.client() for _ in range(3))
    known = room.client()
    room.connections.busy(known)
    room.connections.idle(known)
    newcomer = room.client()
    assert [is_open(p) for p in (first, second, third, known, newcomer)] == [False, True, True, True, True]
    assert len(room.connections) == 4


def test_the_crowd_of_one_address_pushes_out_its_own() -> None:
    """Who has most connections loses one, however long the others keep the server waiting."""
    room = Room()
    lone, *crowd = room.clients(b"a", b"b", b"b", b"b")
    for _ in range(3):
        crowd.append(room.client(b"b"))
    assert is_open(lone)
    assert list(map(is_open, crowd)) == [False] * 3 + [True] * 3
    room.connections.remove(crowd[3])
    room.connections.remove(crowd[4])
    *others, _ = room.clients(b"c", b"c", b"c")
    assert list(map(is_open, (lone, *crowd[5:], *others))) == [True, True, False, True]


def test_an_address_whose_clients_are_all_busy() -> None:
    """Where those of the address with most connections are all work, somebody else's goes."""
    room = Room()
    first, second, lone, other = room.clients(b"a", b"a", b"b", b"c")
    room.connections.busy(first)
    room.connections.busy(second)
    newcomer = room.client(b"d")
    assert list(map(is_open, (first, second, lone, other, newcomer))) == [True, True, False, True, True]


def test_work_is_never_dropped() -> None:
    """A request that waits for its answer is not what makes room, though nobody else is there."""
    room = Room()
    clients = [room.client() for _ in range(4)]
    for client in clients:
        room.connections.busy(client)
    extra = room.client()
    assert all(map(is_open, [*clients, extra]))


def test_slow_readers_push_out_each_other() -> None:
    """Of those that do not take their answers only so many stay: the oldest goes."""
    room = Room(sending=2)
    clients = [room.client() for _ in range(3)]
    for client in clients:
        room.connections.busy(client)
        room.connections.sending(client)
    assert list(map(is_open, clients)) == [False, True, True]
    assert room.connections.dropped[DropReason.SLOW] == 1


def test_slow_readers_of_one_address_push_out_their_own() -> None:
    """A lone client that takes its time is not dropped for a crowd that takes nothing."""
    room = Room(sending=2)
    lone, first, second = (room.sending_client(origin) for origin in (b"a", b"b", b"b"))
    assert list(map(is_open, (lone, first, second))) == [True, False, True]
    assert first.aborted


def test_who_is_gone_stays_gone() -> None:
    """A connection that was closed does not come back when its last answer turns out to be sent."""
    room = Room()
    client = room.client()
    room.connections.remove(client)
    room.connections.idle(client)
    assert len(room.connections) == 0
