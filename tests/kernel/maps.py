# SPDX-License-Identifier: Apache-2.0
"""The seeded sequence of memory maps: the same seed and number always give the same map."""

from __future__ import annotations

from collections import Counter
from random import Random

from tests.kernel.cmr_lists import with_cmrs
from tests.kernel.families import FAMILIES
from tests.kernel.guestmap import MEMORY_REGIONS, MIB, GuestMap

DECK = sum(share for share, _ in FAMILIES.values())
"""Every so many maps have each family as often as its share."""


def generate(seed: int, count: int, strategy: str = MEMORY_REGIONS) -> list[GuestMap]:
    """The first ``count`` maps of the seed. A longer run begins with the maps of a shorter one.

    Families come in decks: shuffled, each with its share, so that a short run has all of them. The turn that
    a family is told is how often it came before, so that it can go through its cases in order.

    Args:
        seed: which maps.
        count: how many.
        strategy: for a CMR strategy the same maps come with CMRs of all kinds.
    """
    turns: Counter[str] = Counter()
    made = []
    deck: list[str] = []
    for number in range(count):
        if number % DECK == 0:
            deck = [name for name, (share, _) in FAMILIES.items() for _ in range(share)]
            Random(f"{seed}/deck/{number // DECK}").shuffle(deck)
        name = deck[number % DECK]
        blank = GuestMap(number=number, family=name, memory=512 * MIB)
        made.append(FAMILIES[name][1](Random(f"{seed}/map/{number}"), turns[name], blank))
        turns[name] += 1
    return made if strategy == MEMORY_REGIONS else with_cmrs(made, strategy, seed)
