# SPDX-License-Identifier: Apache-2.0
"""One plan per hole strategy, from a host's facts (``construct_tdmrs()``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts import FactsError, GivenBases
from tdx_headroom.plan.holes import holes_of
from tdx_headroom.plan.model import AreaKind, Pamt, Plan, Strategy, Tdmr
from tdx_headroom.plan.module import module_verdict
from tdx_headroom.plan.pamt import pamt_for
from tdx_headroom.plan.regions import not_convertible_bytes, tdx_memory_list
from tdx_headroom.plan.reserved import ENOSPC, first_failure, reserved_areas
from tdx_headroom.plan.tdmrs import limit_warning, tdmr_nodes, tdmr_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.facts import HostFacts, MemoryRegion

ENOMEM = -12

NO_MEMORY_MESSAGE = (
    "TDMR [0x0, 0x0): unable to find local NUMA node for PAMT allocation, fallback to use node 0."
)
NO_TDMRS_MESSAGE = "initialization failed: TDMRs exhausted."


def plan_host(facts: HostFacts) -> Mapping[Strategy, Plan | None]:
    """What each strategy makes of the host.

    A plan is None when the facts do not suffice for it: all when the memory regions are unknown, those of
    the CMR strategies also when the CMRs are. Linear in regions, CMRs and areas, but for sorting.

    Raises:
        FactsError: the PAMT bases given do not go with the TDMRs.
    """
    if facts.memory_regions is None:
        return dict.fromkeys(Strategy)
    regions = tdx_memory_list(facts.memory_regions)
    outside = None if facts.cmrs is None else not_convertible_bytes(regions, facts.cmrs)
    ranges = tdmr_ranges(regions)
    if not ranges or len(ranges) > facts.limits.max_tdmrs:
        gave_up = _without_areas(facts, ranges)
        return {s: _plan_without_areas(s, facts, ranges, gave_up, outside) for s in Strategy}
    nodes = tdmr_nodes(ranges, regions)
    pamts = [
        pamt_for(tdmr.size, facts.limits, base)
        for tdmr, base in zip(ranges, _pamt_bases(facts, ranges), strict=True)
    ]
    return {s: _plan(s, facts, regions, ranges, nodes, pamts, outside) for s in Strategy}


def _pamt_bases(facts: HostFacts, tdmrs: Sequence[Range]) -> Sequence[int | None]:
    placement = facts.pamt_placement
    if not isinstance(placement, GivenBases):
        return [None] * len(tdmrs)
    if len(placement.bases) != len(tdmrs):
        raise FactsError(
            f"pamt_placement.bases has {len(placement.bases)} entries, but the memory regions"
            f" make {len(tdmrs)} TDMRs",
            hint="give one base for each TDMR, in TDMR order",
        )
    return placement.bases


def _without_areas(facts: HostFacts, ranges: Sequence[Range]) -> tuple[Tdmr, ...]:
    """The TDMRs that the kernel has written when it runs out of them."""
    limits = facts.limits
    return tuple(
        Tdmr(r.start, r.size, None, Pamt(None, 0, 0, 0), (), None, None, limits.max_reserved_per_tdmr)
        for r in ranges[: limits.max_tdmrs]
    )


def _plan_without_areas(
    strategy: Strategy,
    facts: HostFacts,
    ranges: Sequence[Range],
    tdmrs: tuple[Tdmr, ...],
    outside: int | None,
) -> Plan | None:
    """The plan of a host with no TDX memory or with too many TDMRs: no strategy gets to look for holes."""
    if strategy.needs_cmrs and facts.cmrs is None:
        return None
    if ranges:
        return Plan(strategy, ENOSPC, (NO_TDMRS_MESSAGE,), None, len(ranges), tdmrs, None, outside)
    # With an empty memory list the kernel goes on with one TDMR of size 0, and counts it.
    warning = limit_warning(1, facts.limits.max_tdmrs)
    messages = (*([warning] if warning else []), NO_MEMORY_MESSAGE)
    return Plan(strategy, ENOMEM, messages, None, 0, (), None, outside)


def _plan(
    strategy: Strategy,
    facts: HostFacts,
    regions: Sequence[MemoryRegion],
    ranges: Sequence[Range],
    nodes: Sequence[int | None],
    pamts: Sequence[Pamt],
    outside: int | None,
) -> Plan | None:
    if strategy.needs_cmrs and facts.cmrs is None:
        return None
    limits = facts.limits
    holes = holes_of(strategy, ranges, regions, facts.cmrs or ())
    areas = reserved_areas(ranges, holes, pamts)
    warning = limit_warning(len(ranges), limits.max_tdmrs)
    failure = first_failure(ranges, areas, limits.max_reserved_per_tdmr)
    messages = [warning] if warning else []
    if failure and failure.message:
        messages.append(failure.message)
    tdmrs = tuple(
        Tdmr(
            base=r.start,
            size=r.size,
            node=node,
            pamt=pamt,
            reserved_areas=tuple(sorted(of_tdmr)),
            needed_holes=sum(area.kind is AreaKind.HOLE for area in of_tdmr),
            needed_pamts=sum(area.kind is AreaKind.PAMT for area in of_tdmr),
            limit=limits.max_reserved_per_tdmr,
        )
        for r, node, pamt, of_tdmr in zip(ranges, nodes, pamts, areas, strict=True)
    )
    module = None
    if failure is None and facts.cmrs is not None:
        dynamic = limits.pamt_page_bitmap_entry_bits is not None
        module = module_verdict(tdmrs, facts.cmrs, dynamic_pamt=dynamic)
    return Plan(
        strategy=strategy,
        errno=failure.errno if failure else 0,
        messages=tuple(messages),
        failed_tdmr=failure.tdmr if failure and failure.message else None,
        tdmrs_needed=len(ranges),
        tdmrs=tdmrs,
        module=module,
        not_convertible_bytes=outside,
    )
