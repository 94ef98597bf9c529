# SPDX-License-Identifier: Apache-2.0
"""Planners that are wrong on purpose, to test the test: a short run must catch each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tdx_headroom.facts.host_facts import MemoryRegion, Placement
from tests.kernel import agent
from tests.kernel.cmr_wrong import wrong_planners
from tests.kernel.compare import compare
from tests.kernel.guestmap import MEMORY_REGIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tests.kernel.agent import Planner
    from tests.kernel.store import Case

PAGE = 4096


def _limit(step: int) -> Planner:
    def planner(facts: HostFacts) -> dict[str, Any] | None:
        most = max(1, facts.limits.max_reserved_per_tdmr + step)
        return agent.plan(replace(facts, limits=facts.limits._replace(max_reserved_per_tdmr=most)))

    return planner


def _tdmr_limit(facts: HostFacts) -> dict[str, Any] | None:
    return agent.plan(replace(facts, limits=facts.limits._replace(max_tdmrs=facts.limits.max_tdmrs + 1)))


def _merged(facts: HostFacts) -> dict[str, Any] | None:
    made: list[MemoryRegion] = []
    for region in facts.memory_regions or ():
        if made and made[-1].end == region.start:
            made[-1] = made[-1]._replace(end=region.end)
        else:
            made.append(region)
    return agent.plan(replace(facts, memory_regions=tuple(made)))


def _nodes_ignored(facts: HostFacts) -> dict[str, Any] | None:
    regions = tuple(region._replace(node=0) for region in facts.memory_regions or ())
    return agent.plan(replace(facts, memory_regions=regions))


def _pamts_ignored(facts: HostFacts) -> dict[str, Any] | None:
    return agent.plan(replace(facts, pamt_placement=Placement.NONE))


def _tdmrs_grow(facts: HostFacts) -> dict[str, Any] | None:
    """A TDMR is made larger where the kernel opens another one behind it."""
    made = agent.plan(facts)
    grown: list[dict[str, Any]] = []
    for tdmr in made["tdmrs"] if made else ():
        if grown and grown[-1]["base"] + grown[-1]["size"] == tdmr["base"]:
            grown[-1] = {**grown[-1], "size": grown[-1]["size"] + tdmr["size"]}
        else:
            grown.append(tdmr)
    return made and {**made, "tdmrs": grown}


def _pamt_rounded_once(facts: HostFacts) -> dict[str, Any] | None:
    """The three parts rounded up to a page together, not each on its own."""
    made = agent.plan(facts)
    if made is None:
        return None
    entry = facts.limits.pamt_entry_size
    for tdmr in made["tdmrs"]:
        exact = sum((tdmr["size"] >> shift) * size for shift, size in zip((12, 21, 30), entry, strict=True))
        size_2m = tdmr["pamt"]["size_2m"]
        size_4k = tdmr["pamt"]["size_4k"]
        tdmr["pamt"]["size_1g"] = -(-exact // PAGE) * PAGE - size_4k - size_2m
    return made


def _last_hole_forgotten(facts: HostFacts) -> dict[str, Any] | None:
    """What lies between the last region and the TDMR's end is not listed."""
    made = agent.plan(facts)
    for tdmr in made["tdmrs"] if made else ():
        areas = tdmr["reserved_areas"]
        if areas and areas[-1]["offset"] + areas[-1]["size"] == tdmr["size"]:
            tdmr["reserved_areas"] = areas[:-1]
    return made


WRONG: dict[str, Planner] = {
    "limit of reserved areas one too high": _limit(1),
    "limit of reserved areas one too low": _limit(-1),
    "limit of TDMRs one too high": _tdmr_limit,
    "regions that touch are merged": _merged,
    "nodes of PAMTs ignored": _nodes_ignored,
    "areas of PAMTs ignored": _pamts_ignored,
    "TDMRs grow": _tdmrs_grow,
    "PAMT parts rounded together": _pamt_rounded_once,
    "hole at the end forgotten": _last_hole_forgotten,
}


def caught_by(
    cases: Iterable[tuple[Case, HostFacts]], strategy: str = MEMORY_REGIONS
) -> Mapping[str, list[str]]:
    """For each wrong planner the maps that catch it: the agent's own agrees there, and it does not.

    Args:
        cases: boots, with what the agent read from each.
        strategy: that all of them were under.
    """
    planners = WRONG if strategy == MEMORY_REGIONS else wrong_planners(strategy)
    caught: dict[str, list[str]] = {name: [] for name in planners}
    for case, facts in cases:
        if case.truth is None or compare(case, facts, agent.planner(strategy)):
            continue
        for name, planner in planners.items():
            if compare(case, facts, planner):
                caught[name].append(case.guest.name)
    return caught
