# SPDX-License-Identifier: Apache-2.0
"""``rate_limit``: a bucket of tokens, one for each request."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests that may come at once, and seconds until there may be one more."""

    interval: float
    burst: int


def read_interval(text: str) -> float | None:
    """Seconds of a duration in Go's notation, such as ``1m30s``; None: it is none, or is below zero."""
    if text == "0":
        return 0.0
    if not re.fullmatch(f"(?:{_PART.pattern})+", text):
        return None
    return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))


class Bucket:
    """Full at first; a request takes a token, and one comes in every interval.

    Args:
        limit: what there is room for, and how often one comes.
        clock: seconds.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._at = clock()

    def take(self) -> bool:
        """Whether there was a token left."""
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._at) / self._limit.interval, float(self._limit.burst))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
