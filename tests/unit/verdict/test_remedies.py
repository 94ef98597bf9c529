# SPDX-License-Identifier: Apache-2.0
"""Remedies are put through the plan and through the next boot's map before they are offered."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tdx_headroom.address import GIB, MIB, PAGE, Range, subtract, union
from tdx_headroom.facts.boots import KernelTraits
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import HostFacts, Limits, MemoryRegion
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import Outcome, Plan, Strategy, plan_host
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.remedies.moves import Memory, joins
from tdx_headroom.verdict.remedies.search import Goal, search
from tdx_headroom.verdict.staged import movable_zones
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Sequence

EMR = Path(__file__).parents[2] / "hosts" / "emerald-rapids"


def host(ram: Sequence[tuple[int, int]], *, node: int = 0, line: tuple[str, ...] = ()) -> HostFacts:
    """A host whose firmware's map is its memory."""
    ram = union(ram)
    return HostFacts(
        kernel_release="7.3.0",
        memory_regions=tuple(MemoryRegion(start, end, node) for start, end in ram),
        firmware_map=tuple(FirmwareRange(start, end, "System RAM") for start, end in ram),
        firmware_map_certain=True,
        command_line=line,
    )


def holed(start: int, end: int, first: int, count: int, step: int = 4 * MIB) -> list[Range]:
    """Memory with so many holes of a page."""
    holes = [(first + i * step, first + i * step + PAGE) for i in range(count)]
    return subtract([(start, end)], holes)


def offered(facts: HostFacts, kind: RemedyKind = RemedyKind.ADD_ARGUMENTS) -> list[Remedy]:
    """The remedies of one kind."""
    return [r for f in assess(facts).verdict.findings for r in f.remedies if r.kind is kind]


def after(facts: HostFacts, remedy: Remedy) -> State | None:
    """What the next boot does with the arguments at the end of its line."""
    line = (*(facts.command_line or ()), *remedy.arguments)
    return assess(facts, WhatIf(command_line=line)).verdict.next_boot


def test_all_tdmrs_over_the_limit_are_treated() -> None:
    """With three TDMRs too full one remedy mends them all, as the simulated boot shows."""
    ram = [
        Range(MIB, 256 * MIB),
        *holed(256 * MIB, 2 * GIB, GIB + 256 * MIB, 18),
        *holed(4 * GIB, 6 * GIB, 5 * GIB + 64 * MIB, 19),
        *holed(8 * GIB, 9 * GIB, 8 * GIB + 64 * MIB, 20),
    ]
    facts = host(ram)
    fits, roomy = offered(facts)
    assert (after(facts, fits), after(facts, roomy)) == (State.AT_RISK, State.WILL_INITIALIZE)
    assert fits.bytes_given_up is not None
    assert roomy.bytes_given_up is not None
    assert roomy.bytes_given_up >= fits.bytes_given_up


def test_a_page_below_a_gib_border_splits() -> None:
    """Where all memory between holes is dear, one page that ends the TDMR at a GiB border does."""
    last = [Range(GIB + i * 32 * MIB, GIB + (i + 1) * 32 * MIB - PAGE) for i in range(1, 16)]
    facts = host([Range(2 * MIB, GIB + 8 * MIB), *last])
    assert plan_of(facts).failed_tdmr == 0
    mended = search(facts, plan_of(facts), Goal.FITS)
    assert mended is not None
    assert (mended.bytes, mended.ranges[0].size) == (PAGE, PAGE)
    assert GIB in mended.ranges[0]


def test_the_kernels_own_place_is_left_alone() -> None:
    """Pages where the kernel's image will lie would be RAM again: dearer memory above them is given up."""
    low = [(32 * MIB + i * 2 * PAGE, 32 * MIB + i * 2 * PAGE + PAGE) for i in range(8)]
    high = [(512 * MIB + i * MIB, 512 * MIB + i * MIB + PAGE) for i in range(10)]
    facts = host(subtract([(2 * MIB, GIB)], [*low, *high]))
    fits = offered(facts)[0]
    assert fits.bytes_given_up == 4 * (MIB - PAGE)
    assert all(edit.range.start >= 512 * MIB for edit in map_edits(fits.arguments))


def test_where_only_the_kernels_place_would_help() -> None:
    """With all holes where the image will lie no memory is offered."""
    low = [(32 * MIB + i * 2 * PAGE, 32 * MIB + i * 2 * PAGE + PAGE) for i in range(20)]
    assert offered(host(subtract([(MIB, GIB)], low))) == []


def test_large_reservations_are_left_alone() -> None:
    """What boot has set aside in one piece, such as a crash kernel's memory, is not given up."""
    holes = [(256 * MIB + i * MIB, 256 * MIB + i * MIB + PAGE) for i in range(9)]
    holes += [(512 * MIB + i * 2 * MIB, 512 * MIB + i * 2 * MIB + PAGE) for i in range(9)]
    facts = host(subtract([(MIB, GIB)], holes))
    busy = replace(facts, reserved=(Range(200 * MIB, 400 * MIB),))
    free, other = (search(f, plan_of(f), Goal.FITS) for f in (facts, busy))
    assert free is not None
    assert other is not None
    assert all(r.end < 400 * MIB for r in free.ranges)
    assert all(r.start > 400 * MIB for r in other.ranges)


def plan_of(facts: HostFacts) -> Plan:
    """Mainline's."""
    plan = plan_host(facts)[Strategy.MEMORY_REGIONS]
    assert plan is not None
    return plan


def test_a_line_that_is_built_in_takes_no_remedy() -> None:
    """Where the kernel's own line replaces the loader's, no argument is offered."""
    ram = [Range(MIB, 256 * MIB), *holed(256 * MIB, GIB, 300 * MIB, 20)]
    assert offered(host(ram))
    assert not offered(replace(host(ram), traits=KernelTraits(overrides=True)))


def test_what_costs_nothing_is_taken_as_far_as_it_helps() -> None:
    """Arguments that make holes are named until there is room to spare: to take them off costs nothing."""
    ram = [Range(MIB, GIB), Range(4 * GIB, 8 * GIB)]
    holes = [(256 * MIB + i * MIB, 256 * MIB + i * MIB + PAGE) for i in range(20)]
    facts = replace(
        host(subtract(ram, holes), line=tuple(f"memmap=4K${start:#x}" for start, _ in holes)),
        firmware_map=tuple(FirmwareRange(*r, "System RAM") for r in ram),
    )
    (remedy,) = offered(facts, RemedyKind.REMOVE_ARGUMENTS)
    assert remedy.left is not None
    assert remedy.left > 2


def test_after_exactmap() -> None:
    """At the end of a line with exactmap the remedy still takes the memory away."""
    ram = [Range(MIB, 256 * MIB), *holed(256 * MIB, GIB, 300 * MIB, 20)]
    line = ("memmap=exactmap", *(f"memmap={r.size}@{r.start:#x}" for r in ram))
    facts = host(ram, line=line)
    assert [after(facts, remedy) for remedy in offered(facts)] == [State.AT_RISK, State.WILL_INITIALIZE]


def test_cmr_walk_is_not_helped_by_joins() -> None:
    """Where a kernel looks at CMRs only, a GiB with too many of their holes is beyond any memory given up."""
    holes = [(256 * MIB + i * MIB, 256 * MIB + i * MIB + PAGE) for i in range(20)]
    cmrs = tuple((r.start, r.size) for r in subtract([(MIB, 2 * GIB)], holes))
    facts = replace(host([(MIB, 2 * GIB)]), cmrs=cmrs)
    plan = plan_host(facts)[Strategy.CMR_WALK]
    assert plan is not None
    assert plan.failed_tdmr == 0
    assert search(facts, plan, Goal.FITS) is None
    (crowded,) = plan.tdmrs
    assert joins(Memory(facts), plan, crowded) == []


class TestTdmrs:
    def test_islands(self) -> None:
        """Small islands each of which costs a TDMR are given up."""
        islands = [Range(2 * i * GIB, 2 * i * GIB + MIB) for i in range(2, 6)]
        facts = replace(host([Range(MIB, 2 * GIB), *islands, Range(16 * GIB, 32 * GIB)]), limits=Limits(4))
        assert plan_of(facts).outcome is Outcome.TDMRS
        fits = offered(facts)[0]
        assert (len(fits.arguments), fits.bytes_given_up) == (1, 2 * MIB)
        assert after(facts, fits) in (State.AT_RISK, State.WILL_INITIALIZE)

    def test_one_node(self) -> None:
        """Where the borders of nodes cost the TDMRs, numa=off is tried and offered."""
        border = [4 * GIB + i * (GIB + 512 * MIB) for i in range(5)]
        ram = [MemoryRegion(MIB, GIB, 0)]
        ram += [MemoryRegion(*ends, i) for i, ends in enumerate(pairwise(border))]
        facts = replace(
            host([(MIB, GIB), (border[0], border[-1])]),
            memory_regions=tuple(ram),
            limits=Limits(max_tdmrs=3),
        )
        assert ("numa=off",) in [remedy.arguments for remedy in offered(facts)]


def test_what_takes_the_pamts_room_is_named() -> None:
    """The argument that leaves no room for a PAMT is named, with the value at which there is enough."""
    facts = host([(MIB, 128 * MIB), (4 * GIB, 68 * GIB)], line=("kernelcore=100M", "nohibernate"))
    failing = replace(facts, zones=movable_zones(facts.memory_regions or (), facts.command_line or ()))
    assert plan_of(failing).outcome is Outcome.NO_MEMORY
    (remedy,) = offered(failing, RemedyKind.REMOVE_ARGUMENTS)
    assert remedy.arguments == ("kernelcore=100M",)
    assert "or have kernelcore=" in remedy.text


class TestInPlace:
    def test_it_keeps_tdx_up(self) -> None:
        """Once followed, the remedy is recognized in any notation, and nothing says to take it off."""
        facts = read_facts(Root(EMR))
        for form in ("memmap=4K%0x64158000-1+2", "memmap=0x1000$1679130624", "memmap=4k#0x64158000"):
            verdict = assess(facts, WhatIf(command_line=("nohibernate", form))).verdict
            found = [f for f in verdict.findings if f.kind == "remedy-in-place"]
            assert len(found) == 1, form
            assert form in found[0].text
            assert not [r for f in verdict.findings for r in f.remedies if r.kind == "remove-arguments"]

    def test_it_is_not_needed_any_more(self) -> None:
        """The agent's own remedy, on a map that has room without it, is said to do nothing; others stay."""
        ram = [Range(MIB, 2 * GIB), Range(4 * GIB, 8 * GIB)]
        ours, other = "memmap=4K%0x50000000-1+2", "memmap=4K$0x50000000"
        for argument, kinds in ((ours, ["remedy-not-needed"]), (other, [])):
            left = subtract(ram, [(0x50000000, 0x50001000)])
            facts = replace(
                host(left, line=(argument,)),
                firmware_map=tuple(FirmwareRange(*r, "System RAM") for r in ram),
            )
            found = [f.kind for f in assess(facts).verdict.findings if f.kind.startswith("remedy-")]
            assert found == kinds


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_offered_holds(data: st.DataObject) -> None:
    """Whatever the map: with what is offered the simulated boot fits, with as many areas left as said."""
    holes = data.draw(
        st.lists(
            st.tuples(st.integers(160 * MIB, 6 * GIB // PAGE * PAGE), st.integers(1, 64)),
            min_size=17,
            max_size=40,
        )
    )
    punched = [(a // PAGE * PAGE, a // PAGE * PAGE + n * PAGE) for a, n in holes]
    facts = host(subtract([(MIB, 3 * GIB), (4 * GIB, 6 * GIB)], sorted(punched)))
    for remedy in offered(facts):
        line = remedy.arguments
        plan = assess(facts, WhatIf(command_line=line)).plans[Strategy.MEMORY_REGIONS]
        assert plan is not None
        assert (plan.outcome, plan.headroom) == (Outcome.OK, remedy.left)
