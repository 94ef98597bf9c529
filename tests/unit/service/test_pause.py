# SPDX-License-Identifier: Apache-2.0
"""The pause between two looks at the host."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from tdx_headroom.service import daemon

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKS = 4


class Nothing:
    """In place of the notifier and the folder watch."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Looks:
    """In place of the agent: counts the looks, and ends behind the last."""

    seconds_until_write = None
    status = "x"

    def __init__(self, then: Callable[[], None]) -> None:
        self.looks = 0
        self._then = then

    def refresh(self) -> None:
        self.looks += 1
        if self.looks == LOOKS:
            raise asyncio.CancelledError
        self._then()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the loop has slept between looks, without it taking so long."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return found


def look(interval: float, *, woken: bool) -> Looks:
    async def run() -> Looks:
        wake = asyncio.Event()
        looks = Looks(wake.set if woken else lambda: None)
        if woken:
            wake.set()
        with pytest.raises(asyncio.CancelledError):
            await daemon._refresh_forever(
                *(cast("Any", each) for each in (looks, wake, interval, Nothing(), Nothing()))
            )
        return looks

    return asyncio.run(run())


def test_what_comes_too_soon_waits(slept: list[float]) -> None:
    """Woken all the time, the agent rests before each look but the first."""
    assert look(3600, woken=True).looks == LOOKS
    assert len(slept) == LOOKS - 1
    assert all(0 < seconds <= daemon.MAX_GAP for seconds in slept)


def test_with_nothing_to_do_it_sleeps_through(slept: list[float]) -> None:
    """The slow timer alone wakes it: no rest is waited for by itself."""
    assert look(4 * daemon.MIN_GAP, woken=False).looks == LOOKS
    assert slept == []
