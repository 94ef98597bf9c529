# SPDX-License-Identifier: Apache-2.0
"""One plan per hole strategy, from a host's facts (``construct_tdmrs()``)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.facts.host_facts import FactsError, GivenBases, Placement
from tdx_headroom.plan.holes import holes_of
from tdx_headroom.plan.model import ModuleStatus, Outcome, Plan, Strategy, Tdmr
from tdx_headroom.plan.module import module_verdict
from tdx_headroom.plan.pamt import pamt_for
from tdx_headroom.plan.placement import Places, predict
from tdx_headroom.plan.regions import not_convertible_bytes, tdx_memory_list
from tdx_headroom.plan.reserved import first_failure, reserved_areas
from tdx_headroom.plan.tdmrs import limit_warning, tdmr_nodes, tdmr_ranges
from tdx_headroom.plan.zones import zones_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
    from tdx_headroom.plan.model import Pamt, ReservedArea

NO_MEMORY_MESSAGE = (
    "TDMR [0x0, 0x0): unable to find local NUMA node for PAMT allocation, fallback to use node 0."
)
NO_TDMRS_MESSAGE = "initialization failed: TDMRs exhausted."


@dataclass(frozen=True, slots=True)
class _Layout:
    """What all strategies share: TDMRs with their nodes and PAMTs, and which PAMT could reach which TDMR."""

    regions: Sequence[MemoryRegion]
    tdmrs: Sequence[Range]
    nodes: Sequence[int | None]
    pamts: Sequence[Pamt]
    reaching: Sequence[int]
    placement: Placement
    not_convertible: int | None


def plan_host(
    facts: HostFacts, strategies: Iterable[Strategy] = tuple(Strategy)
) -> Mapping[Strategy, Plan | None]:
    """What each strategy makes of the host.

    A plan is None when the facts do not suffice for it: all when the memory regions are unknown, those of
    the CMR strategies also when the CMRs are. Linear in regions, CMRs and areas, but for sorting.

    Raises:
        FactsError: the PAMT bases given do not go with the TDMRs.
    """
    if facts.memory_regions is None:
        return dict.fromkeys(strategies)
    regions = tdx_memory_list(facts.memory_regions)
    outside = None if facts.cmrs is None else not_convertible_bytes(regions, facts.cmrs)
    tdmrs = tdmr_ranges(regions)
    if not tdmrs or len(tdmrs) > facts.limits.max_tdmrs:
        return {s: _without_pamts(s, facts, tdmrs, outside) for s in strategies}
    layout = _layout(facts, regions, tdmrs, outside)
    return {s: _plan(s, facts, layout) for s in strategies}


def _layout(
    facts: HostFacts, regions: Sequence[MemoryRegion], tdmrs: Sequence[Range], outside: int | None
) -> _Layout:
    nodes = tdmr_nodes(tdmrs, regions)
    unplaced = [pamt_for(tdmr.size, facts.limits) for tdmr in tdmrs]
    placement = facts.pamt_placement
    kind = Placement.NONE
    bases: Sequence[int | None] = [None] * len(tdmrs)
    reaching: Sequence[int] = [0] * len(tdmrs)
    if isinstance(placement, GivenBases):
        _check_bases(placement, len(tdmrs))
        kind, bases = Placement.GIVEN, placement.bases
    elif placement is Placement.PREDICTED:
        kind = placement
        places = _predict(facts, [pamt.size for pamt in unplaced], nodes)
        bases = [place.base for place in places]
        reaching = _count_reaching(tdmrs, places)
    pamts = [pamt._replace(base=base) for pamt, base in zip(unplaced, bases, strict=True)]
    return _Layout(regions, tdmrs, nodes, pamts, reaching, kind, outside)


def _check_bases(placement: GivenBases, tdmrs: int) -> None:
    if len(placement.bases) != tdmrs:
        raise FactsError(
            f"pamt_placement.bases has {len(placement.bases)} entries, but the memory regions"
            f" make {tdmrs} TDMRs",
            hint="give one base for each TDMR, in TDMR order",
        )


def _predict(facts: HostFacts, sizes: Sequence[int], nodes: Sequence[int | None]) -> list[Places]:
    memory = facts.memory_regions or ()
    zones = facts.zones or zones_of(memory)
    return predict(sizes, nodes, memory, zones, facts.reserved or (), facts.hugetlb_bytes or 0)


def _count_reaching(tdmrs: Sequence[Range], places: Sequence[Places]) -> list[int]:
    """For each TDMR, how many PAMTs could land in it, or reach into it."""
    starts = [tdmr.start for tdmr in tdmrs]
    ends = [tdmr.end for tdmr in tdmrs]
    steps = [0] * (len(tdmrs) + 1)
    # PAMTs of one size and node share their reach: it is looked through once for all of them.
    shared = {id(place.reach): place.reach for place in places}
    times = Counter(id(place.reach) for place in places)
    for key, reach in shared.items():
        counted = 0
        for start, end in reach:
            first = max(bisect_right(ends, start), counted)
            last = bisect_left(starts, end)
            if first < last:
                steps[first] += times[key]
                steps[last] -= times[key]
                counted = last
    reaching = []
    total = 0
    for step in steps[:-1]:
        total += step
        reaching.append(total)
    return reaching


def _without_pamts(
    strategy: Strategy, facts: HostFacts, tdmrs: Sequence[Range], outside: int | None
) -> Plan | None:
    """The plan of a host with no TDX memory or with too many TDMRs: no strategy gets to look for holes."""
    if strategy.needs_cmrs and facts.cmrs is None:
        return None
    limits = facts.limits
    outcome, messages = Outcome.TDMRS, [NO_TDMRS_MESSAGE]
    if not tdmrs:
        # With an empty memory list the kernel goes on with one TDMR of size 0, and counts it.
        warning = limit_warning(1, limits.max_tdmrs)
        outcome, messages = Outcome.NO_MEMORY, [*([warning] if warning else []), NO_MEMORY_MESSAGE]
    written = tdmrs[: limits.max_tdmrs]
    return Plan(
        strategy=strategy,
        outcome=outcome,
        messages=tuple(messages),
        failed_tdmr=None,
        tdmrs_needed=len(tdmrs),
        tdmrs=tuple(Tdmr(t.start, t.size, limits.max_reserved_per_tdmr) for t in written),
        module=None,
        not_convertible_bytes=outside,
        placement=Placement.NONE,
    )


def _plan(strategy: Strategy, facts: HostFacts, layout: _Layout) -> Plan | None:
    if strategy.needs_cmrs and facts.cmrs is None:
        return None
    limits = facts.limits
    warning = limit_warning(len(layout.tdmrs), limits.max_tdmrs)
    messages = [warning] if warning else []
    outcome, failed, module = Outcome.OK, None, None
    if layout.placement is Placement.PREDICTED and any(pamt.base is None for pamt in layout.pamts):
        # alloc_contig_pages() finds no block: the kernel gives up before it looks for holes, in silence.
        outcome = Outcome.NO_MEMORY
        tdmrs = tuple(
            Tdmr(tdmr.start, tdmr.size, limits.max_reserved_per_tdmr, node, pamt)
            for tdmr, node, pamt in zip(layout.tdmrs, layout.nodes, layout.pamts, strict=True)
        )
    else:
        holes = holes_of(strategy, layout.tdmrs, layout.regions, facts.cmrs or ())
        areas = reserved_areas(layout.tdmrs, holes, layout.pamts)
        tdmrs = _with_areas(layout, holes, areas, limits.max_reserved_per_tdmr)
        if failure := first_failure(layout.tdmrs, areas, limits.max_reserved_per_tdmr):
            outcome = failure.outcome
            if failure.message:
                failed = failure.tdmr
                messages.append(failure.message)
        elif facts.cmrs is not None:
            dynamic = limits.pamt_page_bitmap_entry_bits is not None
            module = module_verdict(tdmrs, facts.cmrs, dynamic_pamt=dynamic)
            if module.status is not ModuleStatus.SUCCESS:
                outcome = Outcome.REJECTED
    return Plan(
        strategy=strategy,
        outcome=outcome,
        messages=tuple(messages),
        failed_tdmr=failed,
        tdmrs_needed=len(layout.tdmrs),
        tdmrs=tdmrs,
        module=module,
        not_convertible_bytes=layout.not_convertible,
        placement=layout.placement,
    )


def _with_areas(
    layout: _Layout, holes: Sequence[Sequence[Range]], areas: Sequence[Sequence[ReservedArea]], limit: int
) -> tuple[Tdmr, ...]:
    """The TDMRs with all areas that they need, past the limit too."""
    return tuple(
        Tdmr(
            base=tdmr.start,
            size=tdmr.size,
            limit=limit,
            node=node,
            pamt=pamt,
            reserved_areas=tuple(sorted(of_tdmr)),
            needed_holes=len(found),
            needed_pamts=len(of_tdmr) - len(found),
            needed_worst=max(len(of_tdmr), len(found) + reaching),
        )
        for tdmr, node, pamt, found, of_tdmr, reaching in zip(
            layout.tdmrs, layout.nodes, layout.pamts, holes, areas, layout.reaching, strict=True
        )
    )
