# SPDX-License-Identifier: Apache-2.0
"""The seeded sequence of memory maps: the same seed and number always give the same map."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.kernel.cmr_lists import with_cmrs
from tests.kernel.families import FAMILIES
from tests.kernel.guestmap import MEMORY_REGIONS, MIB, GuestMap

if TYPE_CHECKING:
    from tests.kernel.families import Families

DECK = sum(share for share, _ in FAMILIES.values())
"""Every so many maps have each family as often as its share."""


def deal(families: Families, seed: int | str, count: int) -> list[GuestMap]:
    """The first ``count`` maps of the seed. A longer run begins with the maps of a shorter one.

    Families come in decks: shuffled, each with its share, so that a short run has all of them. The turn that
    a family is told is how often it came before, so that it can go through its cases in order.

    Args:
        families: each with its share.
        seed: which maps.
        count: how many.
    """
    turns: Counter[str] = Counter()
    made = []
    names = [name for name, (share, _) in families.items() for _ in range(share)]
    deck: list[str] = []
    for number in range(count):
        if number % len(names) == 0:
            deck = list(names)
            Random(f"{seed}/deck/{number // len(names)}").shuffle(deck)
        name = deck[number % len(names)]
        blank = GuestMap(number=number, family=name, memory=512 * MIB)
        made.append(families[name][1](Random(f"{seed}/map/{number}"), turns[name], blank))
        turns[name] += 1
    return made


def generate(seed: int, count: int, strategy: str = MEMORY_REGIONS) -> list[GuestMap]:
    """The first ``count`` maps of the seed, of all families.

    Args:
        seed: which maps.
        count: how many.
        strategy: for a CMR strategy the same maps come with CMRs of all kinds.
    """
    made = deal(FAMILIES, seed, count)
    return made if strategy == MEMORY_REGIONS else with_cmrs(made, strategy, seed)
