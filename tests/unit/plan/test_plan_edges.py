# SPDX-License-Identifier: Apache-2.0
"""Borders of the plan: one address, one area or one TDMR more or less changes the answer."""

from __future__ import annotations

import pytest

from tdx_headroom.address import GIB, MIB, PAGE, Range
from tdx_headroom.facts.host_facts import FactsError, GivenBases, HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.facts.observations import Zone
from tdx_headroom.plan import (
    AreaKind,
    ModuleStatus,
    Outcome,
    Pamt,
    Plan,
    ReservedArea,
    Strategy,
    Tdmr,
    plan_host,
)
from tdx_headroom.plan.holes import holes_of
from tdx_headroom.plan.module import module_verdict
from tdx_headroom.plan.pamt import pamt_for
from tdx_headroom.plan.placement import predict
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.plan.reserved import Failure, first_failure, reserved_areas
from tdx_headroom.plan.tdmrs import limit_warning, tdmr_nodes

LOW = 4 * GIB
BLOCK = 4 * MIB
LAST = 1 << 52
NORMAL = [Zone(0, "Normal", LOW, LOW + GIB)]


def places(
    memory: list[tuple[int, int]], sizes: list[int], zones: list[Zone] | None = None
) -> list[int | None]:
    """Where blocks of these sizes land in node 0's memory, as MiB above 4 GiB; None: nowhere."""
    regions = [MemoryRegion(LOW + start * MIB, LOW + end * MIB, 0) for start, end in memory]
    found = predict(sizes, [0] * len(sizes), regions, NORMAL if zones is None else zones, ())
    return [None if place.base is None else (place.base - LOW) // MIB for place in found]


@pytest.mark.parametrize(
    ("memory", "sizes", "expected"),
    [
        ([(0, 4)], [BLOCK, BLOCK], [0, None]),
        ([(0, 12)], [BLOCK] * 4, [0, 4, 8, None]),
        ([(0, 4), (8, 12), (16, 20), (24, 28)], [BLOCK] * 5, [0, 8, 16, 24, None]),
        ([(0, 8)], [MIB, MIB, MIB], [0, 2, 4]),
        ([(1, 13)], [BLOCK] * 3, [4, 8, None]),
        ([(2, 7)], [BLOCK], [None]),
        ([(0, 8)], [BLOCK, 2 * MIB, 2 * MIB, 2 * MIB], [0, 4, 6, None]),
    ],
    ids=["one", "in a row", "over holes", "by pageblock", "aligned", "misaligned", "sizes"],
)
def test_places(memory: list[tuple[int, int]], sizes: list[int], expected: list[int | None]) -> None:
    """Each block takes the first aligned place that is free and shares no pageblock with another."""
    assert places(memory, sizes) == expected


def test_place_that_does_not_fit_is_no_reach() -> None:
    """A range that holds no aligned block is not among the places a block could take."""
    memory = [MemoryRegion(LOW + 2 * MIB, LOW + 7 * MIB, 0), MemoryRegion(LOW + 9 * MIB, LOW + 18 * MIB, 0)]
    (place,) = predict([BLOCK], [0], memory, NORMAL, ())
    assert place.reach == (Range(LOW + 12 * MIB, LOW + 16 * MIB),)


def test_movable_memory_is_not_used() -> None:
    """No block lies in the node's movable zone; another node's changes nothing."""
    movable = Zone(0, "Movable", LOW, LOW + 8 * MIB)
    assert places([(0, 16)], [BLOCK], [*NORMAL, movable]) == [8]
    assert places([(0, 16)], [BLOCK], [*NORMAL, movable._replace(node=1)]) == [0]


def test_nodes_are_tried_upwards() -> None:
    """A node without room is followed by the next higher ones, then by the lowest; memory is its node's."""
    zones = [Zone(node, "Normal", LOW + node * GIB, LOW + (node + 1) * GIB) for node in range(3)]
    memory = [MemoryRegion(LOW + node * GIB, LOW + node * GIB + BLOCK, node) for node in range(3)]
    found = predict([BLOCK] * 4, [1] * 4, memory, zones, ())
    assert [place.base for place in found] == [LOW + GIB, LOW + 2 * GIB, LOW, None]
    (place,) = predict([BLOCK], [0], [memory[0]._replace(node=None)], zones, ())
    assert place.base == LOW


def test_zones_are_tried_downwards() -> None:
    """Without nodes, NORMAL comes before DMA32 and DMA, wherever they are in the list."""
    zones = [
        Zone(None, "DMA", 0, 16 * MIB),
        Zone(None, "DMA32", 16 * MIB, LOW),
        Zone(None, "Normal", LOW, 2 * LOW),
    ]
    memory = [MemoryRegion(start, start + BLOCK, None) for start in (BLOCK, 64 * MIB, LOW)]
    for node in (None, 0):
        found = predict([BLOCK] * 4, [node] * 4, memory, zones, ())
        assert [place.base for place in found] == [LOW, 64 * MIB, BLOCK, None]


@pytest.mark.parametrize(
    ("blocks", "hugetlb", "both"), [(64, 0, False), (63, 0, True), (64, BLOCK, True), (64, BLOCK - 1, False)]
)
def test_reach(blocks: int, hugetlb: int, *, both: bool) -> None:
    """The next zone is within reach when one has fewer than 64 places, huge pages taken off."""
    zones = [*NORMAL, Zone(0, "DMA32", GIB, LOW)]
    memory = [MemoryRegion(2 * GIB, 2 * GIB + BLOCK, 0), MemoryRegion(LOW, LOW + blocks * BLOCK, 0)]
    (place,) = predict([BLOCK], [0], memory, zones, (), hugetlb)
    own = Range(LOW, LOW + blocks * BLOCK)
    assert place.reach == ((Range(2 * GIB, 2 * GIB + BLOCK), own) if both else (own,))


def mainline(facts: HostFacts) -> Plan:
    plan = plan_host(facts)[Strategy.MEMORY_REGIONS]
    assert plan is not None
    assert plan.strategy is Strategy.MEMORY_REGIONS
    return plan


def test_worst_case_counts_each_pamt_where_it_could_land() -> None:
    """Two PAMTs of one node and size could both land in either of its TDMRs, and none in another node's."""
    regions = (
        MemoryRegion(MIB, 32 * GIB, 0),
        MemoryRegion(33 * GIB, 65 * GIB, 0),
        MemoryRegion(66 * GIB, 97 * GIB, 1),
    )
    plan = mainline(HostFacts(memory_regions=regions))
    assert [t.needed_holes for t in plan.tdmrs] == [1, 0, 0]
    assert [t.needed_pamts for t in plan.tdmrs] == [2, 0, 1]
    assert [t.needed_worst for t in plan.tdmrs] == [3, 2, 1]
    given = mainline(HostFacts(memory_regions=regions, pamt_placement=GivenBases((LOW, None, None))))
    assert [t.needed_worst for t in given.tdmrs] == [2, 0, 0]


@pytest.mark.parametrize(
    ("end", "hugetlb", "worst"),
    [(LOW + 64 * MIB, 0, [3, 3]), (5 * GIB, 0, [1, 2]), (5 * GIB, 900 * MIB, [3, 2])],
)
def test_worst_case_of_a_tdmr_where_no_pamt_is_predicted(end: int, hugetlb: int, worst: list[int]) -> None:
    """Where NORMAL has little room, or huge pages have taken it, PAMTs could land below 4 GiB as well."""
    regions = (MemoryRegion(MIB, 3 * GIB, 0), MemoryRegion(LOW, end, 0))
    plan = mainline(HostFacts(memory_regions=regions, hugetlb_bytes=hugetlb))
    assert [t.needed_pamts for t in plan.tdmrs] == [0, 2]
    assert [t.needed_worst for t in plan.tdmrs] == worst


def test_memory_of_another_node_in_a_zone_is_not_used() -> None:
    """Where nodes interleave, a zone's span holds memory of other nodes too."""
    memory = [MemoryRegion(LOW, LOW + GIB, 1), MemoryRegion(LOW + GIB, LOW + 2 * GIB, 0)]
    (place,) = predict([BLOCK], [0], memory, [Zone(0, "Normal", LOW, LOW + 2 * GIB)], ())
    assert place.base == LOW + GIB


def test_zones_that_are_given_count() -> None:
    """Where the zones are known, they and not the map say where blocks may lie."""
    regions = (MemoryRegion(MIB, 32 * GIB, 0),)
    zones = (Zone(0, "Normal", 16 * GIB, 32 * GIB),)
    assert mainline(HostFacts(memory_regions=regions, zones=zones)).tdmrs[0].pamt.base == 16 * GIB


@pytest.mark.parametrize(("limit", "warned"), [(4, True), (5, False)])
def test_no_memory(limit: int, *, warned: bool) -> None:
    """Without memory the kernel counts one TDMR, and says so near the limit."""
    plan = mainline(HostFacts(memory_regions=(), limits=Limits(max_tdmrs=limit)))
    assert (plan.errno, plan.tdmrs, plan.placement) == (-12, (), Placement.NONE)
    assert len(plan.messages) == 1 + warned
    assert plan.messages[-1].startswith("TDMR [0x0, 0x0): unable to find local NUMA node")
    if warned:
        assert plan.messages[0] == "consumed TDMRs reaching limit: 1 used out of 4"


def test_too_many_tdmrs() -> None:
    """One TDMR too many: those that were written are there, without node, PAMT or areas."""
    regions = tuple(MemoryRegion(i * 2 * GIB, i * 2 * GIB + GIB, 0) for i in range(1, 4))
    cmrs = ((2 * GIB, GIB),)
    plan = mainline(HostFacts(memory_regions=regions, cmrs=cmrs, limits=Limits(max_tdmrs=2)))
    assert (plan.errno, plan.tdmrs_needed) == (-28, 3)
    assert plan.not_convertible_bytes == 2 * GIB
    written = [Tdmr(base, GIB, 16) for base in (2 * GIB, 4 * GIB)]
    assert list(plan.tdmrs) == written
    assert plan.placement is Placement.NONE
    room = mainline(HostFacts(memory_regions=regions, limits=Limits(max_tdmrs=3)))
    assert room.errno == 0
    assert room.messages == ("consumed TDMRs reaching limit: 3 used out of 3",)


def test_no_room_for_a_pamt() -> None:
    """Where no zone has a block, every TDMR has its node and PAMT size, and nothing is known of its areas."""
    zones = (Zone(0, "Normal", LOW, LOW + MIB),)
    plan = mainline(HostFacts(memory_regions=(MemoryRegion(MIB, 32 * GIB, 0),), zones=zones))
    assert (plan.errno, plan.messages, plan.failed_tdmr) == (-12, (), None)
    pamt = pamt_for(32 * GIB, Limits())
    assert plan.tdmrs == (Tdmr(0, 32 * GIB, 16, 0, pamt),)


def test_bases_that_do_not_go_with_the_tdmrs() -> None:
    """Too few PAMT bases are refused with both numbers and what to give."""
    facts = HostFacts(memory_regions=(MemoryRegion(MIB, GIB, 0),), pamt_placement=GivenBases((LOW, LOW)))
    with pytest.raises(FactsError) as caught:
        plan_host(facts)
    assert caught.value.message == "pamt_placement.bases has 2 entries, but the memory regions make 1 TDMRs"
    assert caught.value.hint == "give one base for each TDMR, in TDMR order"


def test_page_and_first_mib() -> None:
    """A region of no whole page above 1 MiB is no memory."""
    raw = [
        MemoryRegion(0, MIB, 0),
        MemoryRegion(MIB + 1, MIB + PAGE + 1, 0),
        MemoryRegion(2 * MIB, 2 * MIB + PAGE, 0),
    ]
    assert tdx_memory_list(raw) == [MemoryRegion(2 * MIB, 2 * MIB + PAGE, 0)]


def test_node_of_a_region_that_ends_at_the_base() -> None:
    """The node is that of the first region which ends above the TDMR's base, not at it."""
    regions = [MemoryRegion(MIB, GIB, 0), MemoryRegion(GIB, 2 * GIB, 1)]
    assert tdmr_nodes([Range(0, GIB), Range(GIB, 2 * GIB)], regions) == [0, 1]


def test_limit_warning() -> None:
    """The kernel warns when fewer than four TDMRs are left."""
    assert limit_warning(60, 64) is None
    assert limit_warning(61, 64) == "consumed TDMRs reaching limit: 61 used out of 64"


def test_bitmap_is_rounded_up() -> None:
    """With Dynamic PAMT the bits of all pages are rounded up to bytes, then to pages."""
    assert pamt_for(GIB, Limits(pamt_page_bitmap_entry_bits=1)) == Pamt(None, 8 * PAGE, 2 * PAGE, PAGE)


def test_walk_starts_and_ends_at_borders() -> None:
    """An entry that ends at a TDMR's base begins its walk there; one that starts at its end is no part."""
    tdmrs = [Range(0, GIB), Range(GIB, 2 * GIB)]
    cmrs = ((0, GIB), (GIB, GIB // 2), (2 * GIB, GIB))
    holes = holes_of(Strategy.CMR_WALK, tdmrs, [], cmrs)
    assert holes == [[], [Range(GIB + GIB // 2, 2 * GIB)]]


def test_walk_of_a_list_out_of_order() -> None:
    """An entry inside its predecessor moves the walk backwards, and earlier ones further on still count."""
    tdmrs = [Range(0, GIB), Range(GIB, 2 * GIB)]
    cmrs = ((0, GIB + 8 * MIB), (GIB + 2 * MIB, MIB), (GIB + 16 * MIB, GIB - 16 * MIB))
    holes = holes_of(Strategy.CMR_WALK, tdmrs, [], cmrs)
    assert holes == [[], [Range(GIB + 3 * MIB, GIB + 16 * MIB)]]
    below = ((GIB, 256 * MIB), (0, 256 * MIB), (GIB + 512 * MIB, 512 * MIB))
    assert holes_of(Strategy.CMR_WALK, tdmrs[1:], [], below) == [[Range(GIB + 256 * MIB, GIB + 512 * MIB)]]
    # The first entry above a TDMR ends its walk, and one that ends at its base moves it back there.
    backwards = ((GIB, GIB), (0, GIB))
    assert holes_of(Strategy.CMR_WALK, tdmrs, [], backwards) == [[Range(0, GIB)], [Range(GIB, 2 * GIB)]]


def test_areas_of_pamts() -> None:
    """A PAMT over a border costs an area in each TDMR; one that ends at a border only one; none: none."""
    tdmrs = [Range(0, GIB), Range(GIB, 2 * GIB), Range(2 * GIB, 3 * GIB)]
    pamts = [Pamt(None, MIB, 0, 0), Pamt(GIB - MIB, MIB, 0, 0), Pamt(GIB - MIB, GIB + 2 * MIB, 0, 0)]
    areas = reserved_areas(tdmrs, [[], [], []], pamts)
    pamt = AreaKind.PAMT
    assert areas == [
        [ReservedArea(GIB - MIB, MIB, pamt), ReservedArea(GIB - MIB, MIB, pamt)],
        [ReservedArea(0, GIB, pamt)],
        [ReservedArea(0, MIB, pamt)],
    ]


@pytest.mark.parametrize("area", [(PAGE + 1, PAGE), (PAGE, PAGE + 1), (2, PAGE)])
def test_misaligned_area(area: tuple[int, int]) -> None:
    """An area that is not whole pages fails before the limit is looked at, and says nothing."""
    areas = [[], [ReservedArea(*area, AreaKind.HOLE)]]
    assert first_failure([Range(0, GIB), Range(GIB, 2 * GIB)], areas, 0) == Failure(
        Outcome.MISALIGNED, 1, None
    )


def test_the_area_over_the_limit() -> None:
    """As many areas as the limit fit; one more names the TDMR."""
    areas = [[ReservedArea(i * PAGE, PAGE, AreaKind.HOLE) for i in range(3)]]
    assert first_failure([Range(0, GIB)], areas, 3) is None
    message = "initialization failed: TDMR [0x0, 0x40000000): reserved areas exhausted."
    assert first_failure([Range(0, GIB)], areas, 2) == Failure(Outcome.RESERVED_AREAS, 0, message)


SIZES = pamt_for(GIB, Limits())


def tdmr(base: int = 0, pamt: Pamt = SIZES, areas: tuple[ReservedArea, ...] = ()) -> Tdmr:
    return Tdmr(base, GIB, 16, 0, pamt, areas, 0, 0, 0)


def verdict(
    *tdmrs: Tdmr, cmrs: tuple[tuple[int, int], ...] = ((0, LAST),), dynamic: bool = False
) -> tuple[str, int | None]:
    status, index = module_verdict(tdmrs, cmrs, dynamic_pamt=dynamic)
    return status.removeprefix("TDX_"), index


GOOD = ("SUCCESS", None)


def test_module_addresses() -> None:
    """TDMRs and PAMTs may end at 2^52 and not above."""
    assert verdict(tdmr(LAST - GIB)) == GOOD
    assert verdict(tdmr(), tdmr(LAST)) == ("INVALID_TDMR", 1)
    assert verdict(tdmr(), tdmr(GIB, SIZES._replace(base=LAST - SIZES.size))) == GOOD
    assert verdict(tdmr(pamt=SIZES._replace(base=LAST - SIZES.size + PAGE))) == ("INVALID_PAMT", 0)
    assert verdict(tdmr(pamt=SIZES._replace(base=LOW + 1))) == ("INVALID_PAMT", 0)


@pytest.mark.parametrize("part", ["size_4k", "size_2m", "size_1g"])
def test_module_pamt_sizes(part: str) -> None:
    """Each part of a PAMT must have an entry for each of its pages."""
    least = Pamt(None, (GIB >> 12) * 16, (GIB >> 21) * 16, 16)
    assert verdict(tdmr(pamt=least)) == GOOD
    small = least._replace(**{part: getattr(least, part) - 1})
    assert verdict(tdmr(pamt=small)) == ("INVALID_PAMT", 0)


def test_module_dynamic_pamt() -> None:
    """A bitmap of a bit a page is enough with Dynamic PAMT, and only then."""
    bitmap = SIZES._replace(size_4k=(GIB >> 12) // 8)
    assert verdict(tdmr(pamt=bitmap), dynamic=True) == GOOD
    assert verdict(tdmr(pamt=bitmap)) == ("INVALID_PAMT", 0)
    assert verdict(tdmr(pamt=bitmap._replace(size_4k=bitmap.size_4k - 1)), dynamic=True) == (
        "INVALID_PAMT",
        0,
    )
    facts = HostFacts(
        memory_regions=(MemoryRegion(MIB, 32 * GIB, 0),),
        cmrs=((0, 64 * GIB),),
        limits=Limits(pamt_page_bitmap_entry_bits=1),
    )
    plan = mainline(facts)
    assert plan.module is not None
    assert plan.module.status is ModuleStatus.SUCCESS


@pytest.mark.parametrize(
    ("offset", "overlaps"),
    [(-SIZES.size, False), (1 - SIZES.size, True), (0, True), (PAGE, True), (SIZES.size, False)],
)
def test_module_pamts_that_overlap(offset: int, *, overlaps: bool) -> None:
    """A PAMT may touch one that was placed before it, on either side, but not overlap it."""
    size = SIZES.size
    if offset % PAGE:
        offset = PAGE - size
    others = [tdmr(0, SIZES._replace(base=LOW)), tdmr(GIB, SIZES._replace(base=LOW + 8 * size))]
    third = tdmr(2 * GIB, SIZES._replace(base=LOW + offset))
    assert verdict(*others, third) == (("PAMT_OVERLAP", 2) if overlaps else GOOD)
    third = tdmr(2 * GIB, SIZES._replace(base=LOW + 8 * size + offset))
    assert verdict(*others, third) == (("PAMT_OVERLAP", 2) if overlaps else GOOD)


def test_module_pamt_outside_cmrs() -> None:
    """Each part of a PAMT must lie in one CMR; touching CMRs are one, empty ones nothing."""
    pamt = SIZES._replace(base=LOW)
    end = LOW + pamt.size
    for border in (end - 1, LOW + pamt.size_4k + pamt.size_2m - 1, LOW + pamt.size_4k - 1):
        apart = ((0, border), (border + 1, LAST - border - 1))
        assert verdict(tdmr(pamt=pamt), cmrs=apart) == ("PAMT_OUTSIDE_CMRS", 0)
    for border in (LOW + pamt.size_4k, LOW + pamt.size_4k + pamt.size_2m):
        # Parts in overlapping CMRs, none of which holds the whole.
        assert verdict(tdmr(pamt=pamt), cmrs=((0, border), (border - PAGE, LAST - border))) == GOOD
    assert verdict(tdmr(pamt=pamt), cmrs=((0, LOW + 1), (0, 0), (LOW + 1, LAST - LOW - 1))) == GOOD
    assert verdict(tdmr(pamt=pamt), cmrs=((0, LOW), (LOW, 1), (LOW + 1, LAST - LOW - 1))) == GOOD


def test_module_reserved_areas() -> None:
    """Areas may touch, must ascend, and all between them must lie in CMRs."""
    first, second = ReservedArea(PAGE, PAGE, AreaKind.HOLE), ReservedArea(2 * PAGE, PAGE, AreaKind.HOLE)
    assert verdict(tdmr(areas=(first, second))) == GOOD
    overlapping = second._replace(offset=2 * PAGE - 1)
    assert verdict(tdmr(), tdmr(areas=(first, overlapping))) == ("NON_ORDERED_RESERVED_IN_TDMR", 1)
    cmrs = ((0, PAGE), (3 * PAGE, LAST))
    assert verdict(tdmr(areas=(first, second)), cmrs=cmrs) == GOOD
    assert verdict(tdmr(areas=(first,)), cmrs=cmrs) == ("TDMR_OUTSIDE_CMRS", 0)
    assert verdict(tdmr(areas=(first, second)), cmrs=((0, GIB - 1),)) == ("TDMR_OUTSIDE_CMRS", 0)
