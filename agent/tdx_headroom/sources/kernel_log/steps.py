# SPDX-License-Identifier: Apache-2.0
"""Whether numbers that tell the order of a log's lines go up or down."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_OUTWEIGHS = 2
"""More than so many falls to each rise: processors overtake each other now and then, and boots follow."""


class Steps(NamedTuple):
    """How often a number is less than the one before, and how often it is more.

    Args:
        falls: how often less.
        rises: how often more.
    """

    falls: int
    rises: int

    @property
    def fall_throughout(self) -> bool:
        """Whether it goes down, but for a few steps."""
        return self.falls > self.rises * _OUTWEIGHS


def steps(numbers: Iterable[float]) -> Steps:
    """The steps from each number to the next; equal ones count neither way."""
    falls = rises = 0
    for before, after in pairwise(numbers):
        if after < before:
            falls += 1
        elif after > before:
            rises += 1
    return Steps(falls, rises)
