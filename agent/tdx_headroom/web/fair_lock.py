# SPDX-License-Identifier: Apache-2.0
"""A lock whose waiters take turns by where they come from."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future


class FairLock:
    """One holds it at a time; origins take turns, and within one origin it is first come, first served.

    So a crowd from one origin makes its own wait longer, and anybody else's by no more than one turn. When
    too many wait, the last to come of the origin that has the most has to go.

    Args:
        max_waiting: how many may wait or hold it.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._held = False
        self._queues: dict[bytes, deque[Future[bool]]] = {}

    def __len__(self) -> int:
        return self._held + sum(map(len, self._queues.values()))

    def enter(self, origin: bytes) -> Future[bool] | None:
        """A place in the queue, to :meth:`wait` for; None: there is no room."""
        place: Future[bool] = asyncio.get_running_loop().create_future()
        if not self._held:
            self._held = True
            place.set_result(True)
            return place
        if len(self) >= self._max_waiting and not self._make_room(origin):
            return None
        self._queues.setdefault(origin, deque()).append(place)
        return place

    async def wait(self, place: Future[bool], seconds: float) -> bool:
        """Wait for the lock; whether it was got. Whoever has it calls :meth:`release` when done."""
        try:
            async with asyncio.timeout(seconds):
                return await place
        except TimeoutError:
            return self._withdraw(place)
        except asyncio.CancelledError:
            if self._withdraw(place):
                self.release()
            raise

    def release(self) -> None:
        """Hand the lock to the next one."""
        while self._queues:
            origin, queue = next(iter(self._queues.items()))
            del self._queues[origin]
            place = queue.popleft()
            if queue:
                self._queues[origin] = queue  # behind all others
            if not place.done():
                place.set_result(True)
                return
        self._held = False

    def _make_room(self, origin: bytes) -> bool:
        """Turn somebody away, unless one more of this origin would be as many as any origin has."""
        largest = max(self._queues, key=lambda key: len(self._queues[key]), default=origin)
        if len(self._queues.get(origin, ())) + 1 >= len(self._queues.get(largest, ())):
            return False
        last = self._queues[largest].pop()
        if not last.done():
            last.set_result(False)
        return True

    def _withdraw(self, place: Future[bool]) -> bool:
        """Give up a place; whether the lock was got at that very moment."""
        if place.done() and not place.cancelled():
            return place.result()
        for origin, queue in self._queues.items():
            if place in queue:
                queue.remove(place)
                if not queue:
                    del self._queues[origin]
                break
        return False
