# SPDX-License-Identifier: Apache-2.0
"""Whose password is checked next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tdx_headroom.web.fair_lock import FairLock

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Coroutine
    from typing import Any


class Queue:
    """Some who wait, each named by where it comes from and a number; notes in which order they had a turn."""

    def __init__(self, most: int = 40) -> None:
        self.lock = FairLock(most)
        self.had: list[str] = []
        self.lost: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    def come(self, *names: str, seconds: float = 60) -> None:
        for name in names:
            place = self.lock.enter(name[0].encode())
            if place is None:
                self.lost.append(name)
            else:
                self._tasks.append(asyncio.create_task(self._wait(name, place, seconds)))

    async def _wait(self, name: str, place: Future[bool], seconds: float) -> None:
        if await self.lock.wait(place, seconds):
            self.had.append(name)
        else:
            self.lost.append(name)

    async def go_on(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)
            self.lock.release()
        await asyncio.sleep(0.001)

    def cancel(self, at: int) -> None:
        self._tasks[at].cancel()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_turns_go_round() -> None:
    """Each origin has one turn before any has the next, whenever it came; within one, the first is first."""

    async def test() -> None:
        queue = Queue()
        queue.come("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        await queue.go_on(2)
        assert queue.had == ["a1", "a2", "b1"]
        queue.come("d1", "a5")
        await queue.go_on(7)
        assert queue.had == ["a1", "a2", "b1", "c1", "a3", "b2", "d1", "a4", "a5"]
        assert len(queue.lock) == 0

    run(test())


def test_a_crowd_loses_its_own() -> None:
    """When it is full, who comes from elsewhere takes the last place of the largest crowd."""

    async def test() -> None:
        queue = Queue(most=4)
        queue.come("a1", "a2", "a3", "a4", "a5")
        assert queue.lost == ["a5"]
        queue.come("b1")
        await asyncio.sleep(0.001)
        assert queue.lost == ["a5", "a4"]
        queue.come("c1")
        await asyncio.sleep(0.001)
        assert queue.lost == ["a5", "a4", "a3"]
        queue.come("d1")
        assert queue.lost == ["a5", "a4", "a3", "d1"]
        await queue.go_on(4)
        assert queue.had == ["a1", "a2", "b1", "c1"]

    run(test())


def test_who_waits_too_long() -> None:
    """Its place is free again, and it never has a turn."""

    async def test() -> None:
        queue = Queue()
        queue.come("a1")
        queue.come("b1", seconds=0.01)
        queue.come("c1")
        await asyncio.sleep(0.1)
        assert queue.lost == ["b1"]
        assert len(queue.lock) == 2
        await queue.go_on(2)
        assert queue.had == ["a1", "c1"]

    run(test())


def test_a_turn_is_not_lost_with_its_owner() -> None:
    """Who is cancelled in the moment when its turn comes hands it on; who has left the queue is passed by."""

    async def test() -> None:
        queue = Queue()
        queue.come("a1", "b1", "c1", "d1")
        await asyncio.sleep(0)
        queue.cancel(2)
        queue.lock.release()
        queue.cancel(1)
        await asyncio.sleep(0.001)
        assert queue.had == ["a1", "d1"]
        await queue.go_on(1)
        assert len(queue.lock) == 0

    run(test())
