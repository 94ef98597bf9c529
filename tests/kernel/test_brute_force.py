# SPDX-License-Identifier: Apache-2.0
"""The search for memory to give up is no worse than trying all sets, on a few maps."""

from __future__ import annotations

from random import Random

import pytest

from tdx_headroom.plan import Strategy
from tests.kernel.brute_force import Found, compare, goal_of, make


@pytest.mark.parametrize("strategy", Strategy)
def test_no_set_is_cheaper(strategy: Strategy) -> None:
    """On the first maps that lack something the search finds what the best of all sets costs, or less."""
    r = Random("a few")
    seen = 0
    while seen < 4:
        facts = make(r, strategy)
        lacking = goal_of(facts, strategy)
        if lacking is None:
            continue
        seen += 1
        found = compare(facts, *lacking, most=14)
        assert not found.missed
        assert not found.dearer


def test_what_is_worse_is_seen() -> None:
    """Finding nothing, and giving up a byte too many, are told apart from what is as good."""
    assert Found(None, 4096).missed
    assert Found(8192, 4096).dearer
    for good in (Found(None, None), Found(4096, None), Found(4096, 4096), Found(4096, 8192)):
        assert not good.missed
        assert not good.dearer
