# SPDX-License-Identifier: Apache-2.0
"""What holds for every plan, whatever the memory map."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, takewhile

from hypothesis import assume, given
from hypothesis import strategies as st

from tdx_headroom.address import GIB, MIB, PAGE, Range, subtract, union
from tdx_headroom.facts.host_facts import GivenBases, HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.plan import AreaKind, ModuleStatus, Plan, Strategy, plan_host
from tdx_headroom.plan.holes import holes_of
from tdx_headroom.plan.regions import tdx_memory_list

UNIT = 256 * 1024


@st.composite
def regions(draw: st.DrawFn, unit: int = UNIT) -> tuple[MemoryRegion, ...]:
    """Memory regions in address order over a few GiB, some touching, on up to three nodes."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(0, 5000), st.integers(1, 9000), st.integers(0, 2)), min_size=1, max_size=24
        )
    )
    at = draw(st.integers(0, 8000)) * unit
    found = []
    for gap, size, node in steps:
        at += gap * unit
        found.append(MemoryRegion(at, at + size * unit, node))
        at += size * unit
    return tuple(found)


@st.composite
def cmrs_for(draw: st.DrawFn, memory: tuple[MemoryRegion, ...]) -> tuple[tuple[int, int], ...]:
    """CMRs that cover all of the memory, and more in between, page aligned and in order."""
    joins = draw(st.lists(st.booleans(), min_size=len(memory), max_size=len(memory)))
    found: list[Range] = []
    for region, join in zip(memory, joins, strict=True):
        if join and found:
            found[-1] = Range(found[-1].start, region.end)
        else:
            found.append(Range(region.start, region.end))
    return tuple((r.start, r.size) for r in found)


def facts(memory: tuple[MemoryRegion, ...], **more: object) -> HostFacts:
    return replace(HostFacts(memory_regions=memory, pamt_placement=Placement.NONE), **more)  # type: ignore[arg-type]


def plan_for(host: HostFacts, strategy: Strategy = Strategy.MEMORY_REGIONS) -> Plan:
    plan = plan_host(host)[strategy]
    assert plan is not None
    return plan


def covered(plan: Plan, kind: AreaKind) -> list[Range]:
    return [
        Range(t.base + a.offset, t.base + a.offset + a.size)
        for t in plan.tdmrs
        for a in t.reserved_areas
        if a.kind is kind
    ]


@given(regions())
def test_tdmrs_cover_every_region_and_ascend(memory: tuple[MemoryRegion, ...]) -> None:
    """Every TDX memory region lies in TDMRs, which are whole GiB, ascending and disjoint."""
    plan = plan_for(facts(memory))
    tdmrs = [Range(t.base, t.end) for t in plan.tdmrs]
    assert not subtract(((r.start, r.end) for r in tdx_memory_list(memory)), tdmrs)
    assert all(t.start % GIB == 0 and t.end % GIB == 0 and t.size > 0 for t in tdmrs)
    assert all(a.end <= b.start for a, b in pairwise(tdmrs))


@given(regions())
def test_holes_and_regions_tile_each_tdmr(memory: tuple[MemoryRegion, ...]) -> None:
    """Under memory-regions the holes are exactly what no region covers."""
    plan = plan_for(facts(memory))
    tdmrs = [Range(t.base, t.end) for t in plan.tdmrs]
    listed = tdx_memory_list(memory)
    assert union(covered(plan, AreaKind.HOLE)) == subtract(tdmrs, ((r.start, r.end) for r in listed))


@given(st.data(), regions())
def test_holes_and_cmrs_tile_each_tdmr_under_cmr_walk(
    data: st.DataObject, memory: tuple[MemoryRegion, ...]
) -> None:
    """Under cmr-walk the holes are exactly what no CMR covers."""
    cmrs = data.draw(cmrs_for(memory))
    plan = plan_for(facts(memory, cmrs=cmrs), Strategy.CMR_WALK)
    tdmrs = [Range(t.base, t.end) for t in plan.tdmrs]
    expected = subtract(tdmrs, ((base, base + size) for base, size in cmrs))
    assert union(covered(plan, AreaKind.HOLE)) == expected


@given(st.data(), regions())
def test_cmr_subregion_leaves_out_holes_inside_one_cmr(
    data: st.DataObject, memory: tuple[MemoryRegion, ...]
) -> None:
    """cmr-subregion has the holes of memory-regions, less those that one CMR holds."""
    cmrs = data.draw(cmrs_for(memory))
    host = facts(memory, cmrs=cmrs)
    outside = [
        hole
        for hole in covered(plan_for(host), AreaKind.HOLE)
        if not any(base <= hole.start and hole.end <= base + size for base, size in cmrs)
    ]
    assert covered(plan_for(host, Strategy.CMR_SUBREGION), AreaKind.HOLE) == outside


@given(regions(), st.integers(1, 40))
def test_needed_areas_do_not_depend_on_the_limit(memory: tuple[MemoryRegion, ...], limit: int) -> None:
    """The limit decides whether a plan fits, never what it needs."""
    assume(tdx_memory_list(memory))
    usual = plan_for(facts(memory))
    other = plan_for(facts(memory, limits=Limits(max_reserved_per_tdmr=limit)))
    assert [t.reserved_areas for t in usual.tdmrs] == [t.reserved_areas for t in other.tdmrs]
    worst = max(t.needed or 0 for t in other.tdmrs)
    assert (other.errno == -28) == (worst > limit)
    if worst > limit:
        first = next(i for i, t in enumerate(other.tdmrs) if (t.needed or 0) > limit)
        assert other.failed_tdmr == first


@given(st.data(), regions())
def test_a_hole_inside_one_region_and_gib_adds_one_area(
    data: st.DataObject, memory: tuple[MemoryRegion, ...]
) -> None:
    """Under memory-regions, a hole punched strictly inside one region and one GiB costs one area."""
    listed = [r for r in tdx_memory_list(memory) if r.end - r.start >= 3 * PAGE]
    region = data.draw(st.sampled_from(listed or [MemoryRegion(MIB, GIB, 0)]))
    memory = memory if listed else (region,)
    start = data.draw(st.integers(region.start // PAGE + 1, region.end // PAGE - 2)) * PAGE
    room = min(region.end, (start // GIB + 1) * GIB) - start
    if start % GIB == 0 or room <= PAGE:
        return
    size = data.draw(st.integers(1, room // PAGE - 1)) * PAGE
    punched = [
        piece
        for r in tdx_memory_list(memory)
        for piece in (
            (MemoryRegion(r.start, start, r.node), MemoryRegion(start + size, r.end, r.node))
            if r == region
            else (r,)
        )
    ]
    before = plan_for(facts(memory))
    after = plan_for(facts(tuple(punched)))
    assert sum(t.needed or 0 for t in after.tdmrs) == sum(t.needed or 0 for t in before.tdmrs) + 1


@given(st.data(), regions())
def test_every_pamt_takes_areas_where_it_lies(data: st.DataObject, memory: tuple[MemoryRegion, ...]) -> None:
    """A PAMT is clipped to each TDMR that it touches, one area each, whatever else is there."""
    assume(tdx_memory_list(memory))
    tdmrs = plan_for(facts(memory)).tdmrs
    last = tdmrs[-1].end // PAGE
    bases = tuple(data.draw(st.integers(0, last + 5)) * PAGE for _ in tdmrs)
    plan = plan_for(facts(memory, pamt_placement=GivenBases(bases)))
    found = covered(plan, AreaKind.PAMT)
    for tdmr in plan.tdmrs:
        own = [Range(b, b + t.pamt.size) for b, t in zip(bases, plan.tdmrs, strict=True)]
        clipped = [Range(max(p.start, tdmr.base), min(p.end, tdmr.end)) for p in own]
        inside = sorted(p for p in clipped if p.start < p.end)
        assert sorted(f for f in found if tdmr.base <= f.start < tdmr.end) == inside


@given(st.data(), regions())
def test_the_module_accepts_a_plan_whose_memory_is_convertible(
    data: st.DataObject, memory: tuple[MemoryRegion, ...]
) -> None:
    """Where CMRs cover all memory, no hole strategy leaves anything available outside them."""
    assume(tdx_memory_list(memory))
    cmrs = data.draw(cmrs_for(memory))
    host = facts(memory, cmrs=cmrs, limits=Limits(max_reserved_per_tdmr=99, max_tdmrs=99))
    for plan in plan_host(host).values():
        assert plan is not None
        assert plan.module is not None
        assert plan.module.status is ModuleStatus.SUCCESS


@given(regions(unit=1000))
def test_unaligned_regions_are_rounded_inwards(memory: tuple[MemoryRegion, ...]) -> None:
    """Whatever the firmware's granularity, every area is whole pages and no byte outside RAM is available."""
    plan = plan_for(facts(memory))
    assert plan.errno in (0, -28, -12)
    for tdmr in plan.tdmrs:
        assert all(a.offset % PAGE == 0 and a.size % PAGE == 0 for a in tdmr.reserved_areas)
    available = subtract(((t.base, t.end) for t in plan.tdmrs), covered(plan, AreaKind.HOLE))
    assert not subtract(available, ((r.start, r.end) for r in memory))


@given(regions())
def test_facts_survive_json(memory: tuple[MemoryRegion, ...]) -> None:
    """Facts that went through JSON give the same plans."""
    host = facts(memory, cmrs=((0, 0), (MIB, GIB)))
    assert HostFacts.from_json(host.to_json()) == host


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=12),
    st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_walk_begins_where_it_matters(cmrs: list[tuple[int, int]], bases: list[int]) -> None:
    """In whatever order the CMRs are, a TDMR has the holes that a walk from the list's head finds."""
    quarter = GIB // 4
    listed = tuple((base * quarter, size * quarter) for base, size in cmrs)
    tdmrs = [Range(base * GIB, (base + 1) * GIB) for base in bases]
    expected = [from_the_head(tdmr, listed) for tdmr in tdmrs]
    assert holes_of(Strategy.CMR_WALK, tdmrs, [], listed) == expected


def from_the_head(tdmr: Range, cmrs: tuple[tuple[int, int], ...]) -> list[Range]:
    """What tdmr_populate_rsvd_holes() does for one TDMR, entry after entry."""
    holes, prev = [], tdmr.start
    for base, size in takewhile(lambda cmr: cmr[1], cmrs):
        if base >= tdmr.end:
            break
        if base + size < tdmr.start:
            continue
        if base <= prev:
            prev = base + size
            continue
        holes.append(Range(prev, base))
        prev = base + size
    return [*holes, Range(prev, tdmr.end)] if prev < tdmr.end else holes
