# SPDX-License-Identifier: Apache-2.0
"""Who may do next what only one may do at a time: fair by where they come from."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future


class Turns:
    """One at a time; those who wait take turns by their origin, and those of one origin in their order.

    So a crowd from one place makes its own wait longer, and nobody else more than by one turn. When there are
    too many, the last one from the place that has most of them has to go.

    Args:
        most: who may wait or have the turn.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = False
        self._queues: dict[bytes, deque[Future[bool]]] = {}

    def __len__(self) -> int:
        return self._taken + sum(map(len, self._queues.values()))

    def enter(self, origin: bytes) -> Future[bool] | None:
        """A place in the queue, to :meth:`wait` in; None: there is none."""
        place: Future[bool] = asyncio.get_running_loop().create_future()
        if not self._taken:
            self._taken = True
            place.set_result(True)
            return place
        if len(self) >= self._most and not self._make_room(origin):
            return None
        self._queues.setdefault(origin, deque()).append(place)
        return place

    async def wait(self, place: Future[bool], seconds: float) -> bool:
        """Wait for the turn; whether it has come. Who has it calls :meth:`leave` when done."""
        try:
            async with asyncio.timeout(seconds):
                return await place
        except TimeoutError:
            return self._withdraw(place)
        except asyncio.CancelledError:
            if self._withdraw(place):
                self.leave()
            raise

    def leave(self) -> None:
        """Let the next one have the turn."""
        while self._queues:
            origin, queue = next(iter(self._queues.items()))
            del self._queues[origin]
            place = queue.popleft()
            if queue:
                self._queues[origin] = queue  # behind all others
            if not place.done():
                place.set_result(True)
                return
        self._taken = False

    def _make_room(self, origin: bytes) -> bool:
        """Send somebody away, unless one more of this origin would be as many as anybody has."""
        largest = max(self._queues, key=lambda key: len(self._queues[key]), default=origin)
        if len(self._queues.get(origin, ())) + 1 >= len(self._queues.get(largest, ())):
            return False
        last = self._queues[largest].pop()
        if not last.done():
            last.set_result(False)
        return True

    def _withdraw(self, place: Future[bool]) -> bool:
        """Give up a place; whether the turn had come in the very moment."""
        if place.done() and not place.cancelled():
            return place.result()
        for origin, queue in self._queues.items():
            if place in queue:
                queue.remove(place)
                if not queue:
                    del self._queues[origin]
                break
        return False
