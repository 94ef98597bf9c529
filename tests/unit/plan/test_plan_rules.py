# SPDX-License-Identifier: Apache-2.0
"""Corners of the kernel's code that no sane host comes to; tests/cases has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.facts.host_facts import GivenBases, HostFacts, Limits, MemoryRegion
from tdx_headroom.plan import AreaKind, Plan, ReservedArea, Strategy, holes, plan_host
from tdx_headroom.plan.holes import holes_of
from tdx_headroom.plan.reserved import first_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

TDMR = Range(GIB, 2 * GIB)


def walked(*cmrs: tuple[int, int]) -> list[Range]:
    sizes = [(start, end - start) for start, end in cmrs]
    return holes_of(Strategy.CMR_WALK, [TDMR], [], sizes)[0]


def test_an_entry_that_ends_at_the_base_is_not_skipped() -> None:
    """Only what ends below the TDMR is: in a list out of order it moves the walk back to the base."""
    inside = (GIB + 4 * MIB, GIB + 8 * MIB)
    assert walked(inside, (0, GIB)) == [Range(GIB, GIB + 4 * MIB), TDMR]
    assert walked(inside, (0, GIB - MIB)) == [Range(GIB, GIB + 4 * MIB), Range(GIB + 8 * MIB, 2 * GIB)]


def test_the_walk_ends_at_the_first_entry_above_the_tdmr() -> None:
    """What comes after it in the list is not looked at, and so is a hole."""
    assert walked((3 * GIB, 4 * GIB), (GIB, 2 * GIB)) == [TDMR]


def test_an_entry_that_reaches_far_keeps_no_others_in_the_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CMR over all others, first in the list, does not make every TDMR's walk look at all of them."""
    looked_at = []

    def walk(tdmr: Range, entries: Sequence[Range]) -> list[Range]:
        looked_at.append(len(entries))
        return kernels_walk(tdmr, entries)

    kernels_walk = holes._walk
    monkeypatch.setattr(holes, "_walk", walk)
    tdmrs = [Range(n * GIB, (n + 1) * GIB) for n in range(50)]
    cmrs = [(0, 50 * GIB), *((tdmr.start + MIB, MIB) for tdmr in tdmrs)]
    found = holes_of(Strategy.CMR_WALK, tdmrs, [], cmrs)
    assert found == [[Range(t.start + 2 * MIB, t.end)] for t in tdmrs]
    assert max(looked_at) == 2


def test_the_table_ends_at_its_first_empty_entry() -> None:
    """The kernel trims the CMRs there; the TDX module does not."""
    assert holes_of(Strategy.CMR_WALK, [TDMR], [], [(0, 0), (GIB, GIB)]) == [[TDMR]]


def test_alignment_is_looked_at_before_the_limit() -> None:
    """An area off the page grid fails with -22 and in silence, even where it is one too many as well."""
    good = ReservedArea(0, MIB, AreaKind.HOLE)
    for odd in (ReservedArea(1, MIB, AreaKind.HOLE), ReservedArea(MIB, MIB - 1, AreaKind.PAMT)):
        failure = first_failure([TDMR], [[good, odd]], 1)
        assert failure is not None
        assert (failure.outcome.errno, failure.message) == (-22, None)
    failure = first_failure([TDMR], [[good, good]], 1)
    assert failure is not None
    assert (failure.outcome.errno, failure.tdmr) == (-28, 0)


def planned(bases: tuple[int | None, ...]) -> Plan:
    facts = HostFacts(
        memory_regions=(MemoryRegion(MIB, GIB, 0), MemoryRegion(4 * GIB, 5 * GIB, 0)),
        limits=Limits(max_reserved_per_tdmr=2),
        pamt_placement=GivenBases(bases),
    )
    plan = plan_host(facts)[Strategy.MEMORY_REGIONS]
    assert plan is not None
    return plan


def test_a_pamt_off_the_page_grid() -> None:
    """The whole plan fails with -22, no line, and no TDMR named."""
    plan = planned((4 * GIB + 1, None))
    assert (plan.errno, plan.messages, plan.failed_tdmr) == (-22, (), None)


def test_a_pamt_over_a_border_takes_an_area_on_both_sides() -> None:
    """It is clipped to each TDMR, and one area is one area however small."""
    plan = planned((4 * GIB - 2 * MIB, GIB - MIB))
    assert [(t.needed_holes, t.needed_pamts) for t in plan.tdmrs] == [(1, 1), (0, 1)]
    assert plan.tdmrs[1].reserved_areas[0].offset == 0
