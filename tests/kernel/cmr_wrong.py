# SPDX-License-Identifier: Apache-2.0
"""Planners that are wrong about CMRs on purpose: a run under a CMR strategy must catch each of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.kernel import agent
from tests.kernel.guestmap import CMR_SUBREGION, CMR_WALK, MEMORY_REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tests.kernel.agent import Planner

    Cmrs = Sequence[tuple[int, int]]


def _with(strategy: str, change: Callable[[Cmrs], Cmrs]) -> Planner:
    """The planner of a strategy on other CMRs than there are."""

    def planner(facts: HostFacts) -> dict[str, Any] | None:
        return agent.planner(strategy)(replace(facts, cmrs=tuple(change(facts.cmrs or ()))))

    return planner


def _not_trimmed(cmrs: Cmrs) -> Cmrs:
    return [(base, size) for base, size in cmrs if size]


def _joined(cmrs: Cmrs) -> Cmrs:
    """CMRs that touch made one, up to the first empty entry; what is behind it stays."""
    made: list[tuple[int, int]] = []
    for base, size in cmrs:
        if made and size and made[-1][1] and sum(made[-1]) == base:
            made[-1] = (made[-1][0], made[-1][1] + size)
        else:
            made.append((base, size))
    return made


def _from_zero(cmrs: Cmrs) -> Cmrs:
    """The first CMR takes the first MiB in."""
    return [(0, cmrs[0][0] + cmrs[0][1]), *cmrs[1:]] if cmrs and cmrs[0][1] else cmrs


def _apart(cmrs: Cmrs) -> Cmrs:
    """No two CMRs touch: a page between them is in neither."""
    made = list(cmrs)
    for i, (before, after) in enumerate(pairwise(cmrs)):
        if before[1] and sum(before) == after[0]:
            made[i] = (before[0], before[1] - 4096)
    return made


def wrong_planners(strategy: str) -> Mapping[str, Planner]:
    """By what is wrong with them; each differs from the strategy's own on some list of CMRs."""
    other = CMR_WALK if strategy == CMR_SUBREGION else CMR_SUBREGION
    made = {
        "holes are what memory regions leave": agent.planner(MEMORY_REGIONS),
        f"holes as {other} looks for them": agent.planner(other),
        "CMRs behind an empty entry count": _with(strategy, _not_trimmed),
        "the first MiB is in a CMR": _with(strategy, _from_zero),
        "CMRs that touch are kept apart": _with(strategy, _apart),
    }
    if strategy == CMR_SUBREGION:
        made["CMRs that touch are joined"] = _with(strategy, _joined)
    return made
