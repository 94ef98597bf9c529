# SPDX-License-Identifier: Apache-2.0
"""Memory outside the CMRs, or in no single one, is kept off the kernel: the rest has to fit, too."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdx_headroom.address import GIB, MIB, PAGE, Range, subtract, union
from tdx_headroom.facts.boots import KernelTraits
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, SeamcallFailure
from tdx_headroom.facts.observations import FirmwareRange, Origin, Suspect
from tdx_headroom.output.remedy_report import remedy_json
from tdx_headroom.plan import Outcome, Plan, Strategy
from tdx_headroom.plan.regions import in_no_single, tdx_memory_list
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.findings import RemedyKind
from tdx_headroom.verdict.model import Sentence
from tdx_headroom.verdict.staged import movable_zones
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.verdict.findings import Remedy

MAINLINE, SUBREGION = "7.3.0", "6.4.0-150600.23.7.3-default"
RAM = [Range(MIB, 2 * GIB), Range(4 * GIB, 8 * GIB)]


def host(cmrs: Sequence[tuple[int, int]], ram: Sequence[tuple[int, int]] = RAM) -> HostFacts:
    """A host whose firmware's map is its memory; CMRs are ``[start, end)``."""
    ram = union(ram)
    return HostFacts(
        kernel_release=MAINLINE,
        memory_regions=tuple(MemoryRegion(start, end, 0) for start, end in ram),
        firmware_map=tuple(FirmwareRange(start, end, "System RAM") for start, end in ram),
        firmware_map_certain=True,
        command_line=(),
        cmrs=tuple((start, end - start) for start, end in cmrs),
        pamt_placement=Placement.NONE,
    )


def gaps(first: int, count: int, size: int = PAGE, step: int = 4 * MIB) -> list[Range]:
    """So many places that no CMR has."""
    return [Range(first + i * step, first + i * step + size) for i in range(count)]


def offered(facts: HostFacts) -> list[Remedy]:
    """The remedies with arguments to add."""
    return [r for f in assess(facts).verdict.findings for r in f.remedies if r.computed and r.arguments]


def plan_after(facts: HostFacts, remedy: Remedy) -> Plan:
    """That of a boot with the arguments at the end of its line."""
    assessment = assess(facts, WhatIf(command_line=remedy.arguments))
    plan = assessment.plans[assessment.verdict.strategy]
    assert plan is not None
    return plan


def outcome(facts: HostFacts) -> Outcome:
    """What comes of this boot once more."""
    assessment = assess(facts)
    plan = assessment.plans[assessment.verdict.strategy]
    assert plan is not None
    return plan.outcome


def test_a_piece() -> None:
    """What no CMR has is named by size and arguments, with which the module accepts the plan."""
    facts = host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)])
    assert outcome(facts) is Outcome.REJECTED
    remedy = offered(facts)[0]
    assert remedy.bytes_given_up == GIB
    assert remedy.arguments == ("memmap=1048576K%0x1c0000000-1+2",)
    assert plan_after(facts, remedy).outcome is Outcome.OK


def test_pieces_with_nothing_but_holes_between() -> None:
    """They take one argument, however many they are."""
    ram = subtract(RAM, gaps(7 * GIB + 64 * MIB, 14))
    facts = host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)], ram)
    (remedy,) = offered(facts)
    assert remedy.bytes_given_up == GIB - 14 * PAGE
    assert len(remedy.arguments) == 1
    assert plan_after(facts, remedy).outcome is Outcome.OK


def test_pieces_that_make_too_many_holes() -> None:
    """What is too much once they are kept off is given up as well; room to spare costs more."""
    facts = host(subtract(RAM, gaps(512 * MIB, 19)))
    assert outcome(facts) is Outcome.REJECTED
    fits, roomy = offered(facts)
    for remedy, left in ((fits, 0), (roomy, 3)):
        plan = plan_after(facts, remedy)
        assert (plan.outcome, plan.headroom, remedy.left) == (Outcome.OK, left, left)
    assert " and off " in fits.text
    assert isinstance(fits.text, Sentence)
    assert "0x" not in fits.text.public
    assert roomy.text.startswith("For room to spare keep")
    assert (fits.bytes_given_up or 0) < (roomy.bytes_given_up or 0)


@pytest.mark.parametrize("limit", [64, 2], ids=["reserved areas", "TDMRs"])
def test_where_the_plan_fails_before_the_module_is_asked(limit: int) -> None:
    """Holes, or TDMRs, too many in memory that no CMR has: it goes as a whole."""
    high = subtract([(8 * GIB, 10 * GIB)], gaps(8 * GIB + 64 * MIB, 20, PAGE, 48 * MIB))
    facts = replace(host([(MIB, 2 * GIB), (4 * GIB, 6 * GIB)], [*RAM[:1], (4 * GIB, 6 * GIB), *high]))
    facts = replace(facts, limits=Limits(max_tdmrs=limit))
    assert outcome(facts) is (Outcome.TDMRS if limit == 2 else Outcome.RESERVED_AREAS)
    (remedy,) = offered(facts)
    assert len(remedy.arguments) == 1
    assert plan_after(facts, remedy).outcome is Outcome.OK


def test_what_must_stay() -> None:
    """Where the kernel's image will lie nothing can be kept off."""
    assert offered(host([(MIB, 32 * MIB), (33 * MIB, 2 * GIB), (4 * GIB, 8 * GIB)])) == []


REFUSED = SeamcallFailure(leaf=45, status=0xC0000A0200000000)
FAILED = {
    "the module": KernelReport(ModuleState.FAILED, FailureReason.SEAMCALL, errno=-5, seamcall=REFUSED),
    "the kernel": KernelReport(ModuleState.FAILED, FailureReason.NOT_CONVERTIBLE, errno=-22),
}


@pytest.mark.parametrize("log", FAILED.values(), ids=FAILED)
def test_after_it_was_refused(log: KernelReport) -> None:
    """The boot that failed for it is why somebody asks; nothing is said twice."""
    facts = replace(host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)]), kernel_log=log)
    assert [remedy.bytes_given_up for remedy in offered(facts)] == [GIB]
    told = remedy_json(assess(facts))["remedies"]
    assert [remedy["kind"] for remedy in told] == ["add-arguments", "convertible-memory"]


@pytest.mark.parametrize("log", FAILED.values(), ids=FAILED)
@pytest.mark.parametrize("cmrs", [None, RAM], ids=["unknown CMRs", "all convertible"])
@pytest.mark.parametrize("holes", [0, 13, 18])
def test_after_a_refusal_that_the_plan_does_not_show(
    log: KernelReport, cmrs: list[Range] | None, holes: int
) -> None:
    """Nothing that is computed from such a plan is said to bring TDX up."""
    facts = replace(host(RAM, subtract(RAM, gaps(512 * MIB, holes))), kernel_log=log)
    facts = facts if cmrs else replace(facts, cmrs=None)
    assert not [r for f in assess(facts).verdict.findings for r in f.remedies if r.computed]


def test_another_failure_comes_first() -> None:
    """What the memory map has no part in is mended first."""
    log = KernelReport(ModuleState.FAILED, FailureReason.KEYIDS, errno=-19)
    assert not offered(replace(host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)]), kernel_log=log))


@pytest.mark.parametrize(
    ("line", "moves"),
    [
        ((), True),
        (("hugepagesz=2M", "hugepages=64"), True),
        (("crashkernel=256M",), False),
        (("default_hugepagesz=1G", "hugepages=1"), False),
        (("cma=64M",), False),
        (None, False),
    ],
    ids=["nothing", "small pages", "crash kernel", "large pages", "CMA", "unknown line"],
)
def test_what_boot_has_reserved_there(line: tuple[str, ...] | None, *, moves: bool) -> None:
    """Struct pages and buffers find another place; what an argument has asked for may not."""
    reserved = (Range(8 * GIB - 64 * MIB, 8 * GIB),)
    facts = replace(
        host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)]), reserved=reserved, command_line=line, firmware_map=None
    )
    assert bool(offered(facts)) is moves


@pytest.mark.parametrize(("late", "there"), [(True, False), (False, True)])
def test_what_a_driver_adds_later(*, late: bool, there: bool) -> None:
    """No memmap= keeps kmem from adding it: that has remedies of its own."""
    suspect = Suspect(7 * GIB, 8 * GIB, Origin.KMEM, "dax0.0", late)
    facts = replace(host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)]), suspects=(suspect,), kernel_release=SUBREGION)
    assert outcome(facts) is Outcome.REJECTED
    assert bool(offered(facts)) is there


@pytest.mark.parametrize(
    ("end", "pages", "enough"),
    [(8, 2600, False), (8, 2300, True), (258, 114_538, False), (258, 112_000, False), (258, 100_000, True)],
)
def test_what_is_left_holds_what_is_set_aside(end: int, pages: int, *, enough: bool) -> None:
    """Huge pages take what they can get: a kernel to which they leave nothing does not come up."""
    high = (4 * GIB, end * GIB)
    facts = host([(MIB, 2 * GIB), (4 * GIB, (end - end // 8) * GIB)], [RAM[0], high])
    assert bool(offered(replace(facts, command_line=(f"hugepages={pages}",)))) is enough


def test_too_little_memory_is_left() -> None:
    """Nor does one that has hardly any memory."""
    assert offered(host([(MIB, GIB)], [(MIB, 2 * GIB)]))
    assert not offered(host([(MIB, 128 * MIB)], [(MIB, 2 * GIB)]))


@pytest.mark.parametrize("line", [("crashkernel=256M@0x1f0000000",), ("crashkernel=256M",)])
def test_where_the_next_line_asks(line: tuple[str, ...]) -> None:
    """Where it will lie under another line is unknown."""
    facts = host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)])
    verdict = assess(facts, WhatIf(command_line=line)).verdict
    assert verdict.next_boot is State.WILL_FAIL
    assert not [r for f in verdict.findings for r in f.remedies if r.computed]


def test_guests_that_fail_later() -> None:
    """A kernel that walks the CMRs comes up with such memory: its remedy is for the guests."""
    facts = replace(
        host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)]),
        traits=TestNoSingleCmr.WALKS,
        kernel_log=KernelReport(ModuleState.INITIALIZED),
    )
    assert [remedy.bytes_given_up for remedy in offered(facts)] == [GIB]


def test_what_frees_nothing_is_not_offered_for_areas() -> None:
    """A plan that is short of areas as before is no remedy for that; the same arguments are told once."""
    cmrs = [*subtract(RAM[:1], gaps(512 * MIB, 14)), (4 * GIB, 8 * GIB)]
    facts = replace(host(cmrs), traits=TestNoSingleCmr.WALKS)
    found = {f.kind: f.remedies for f in assess(facts).verdict.findings}
    assert not [r for r in found["few-reserved-areas"] if r.computed and r.arguments]
    told = [r["arguments"] for r in remedy_json(assess(facts))["remedies"] if r["arguments"]]
    assert len(told) == len({tuple(arguments) for arguments in told}) == 1


class TestNoSingleCmr:
    WALKS = KernelTraits(walks_cmrs=True, reads_cmrs=True)

    def test_touching(self) -> None:
        """A page less at each border parts the memory regions there; the finding is gone."""
        facts = replace(
            host([(MIB, GIB), (GIB, 2 * GIB), (4 * GIB, 6 * GIB), (6 * GIB, 8 * GIB)]), traits=self.WALKS
        )
        (remedy,) = offered(facts)
        assert remedy.arguments == ("memmap=4K%0x3ffff000-1+2", "memmap=4K%0x17ffff000-1+2")
        assert remedy.bytes_given_up == 2 * PAGE
        verdict = assess(facts, WhatIf(command_line=remedy.arguments)).verdict
        assert "in-no-single-cmr" not in [finding.kind for finding in verdict.findings]

    def test_outside_too(self) -> None:
        """What lies outside goes at the same time."""
        facts = replace(host([(MIB, GIB), (GIB, 2 * GIB), (4 * GIB, 7 * GIB)]), traits=self.WALKS)
        (remedy,) = offered(facts)
        assert remedy.bytes_given_up == GIB + PAGE

    def test_not_where_it_does_not_help(self) -> None:
        """A border below the kernel's image cannot be taken out."""
        facts = replace(host([(MIB, 32 * MIB), (32 * MIB, 2 * GIB), (4 * GIB, 8 * GIB)]), traits=self.WALKS)
        assert offered(facts) == []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_offered_holds(data: st.DataObject) -> None:
    """Whatever the CMRs, the kernel and the map: with it the boot fits, with as many areas left as said."""
    places = st.tuples(st.integers(50_000, 2_000_000), st.sampled_from((1, 16, 256, 75_000)))
    holes, gone, touching = (
        [Range(page * PAGE, (page + count) * PAGE) for page, count in data.draw(st.lists(places, max_size=n))]
        for n in (20, 12, 3)
    )
    cmrs = []
    for start, end in subtract(RAM, gone):
        borders = sorted(r.start for r in touching if start < r.start < end)
        cmrs += [Range(*ends) for ends in pairwise([start, *borders, end]) if ends[0] < ends[1]]
    facts = replace(
        host(cmrs, subtract(RAM, holes)),
        kernel_release=data.draw(st.sampled_from((MAINLINE, SUBREGION))),
        traits=data.draw(st.sampled_from((None, TestNoSingleCmr.WALKS))),
    )
    for remedy in offered(facts):
        plan = plan_after(facts, remedy)
        assert (plan.outcome, plan.headroom) == (Outcome.OK, remedy.left)
        if plan.strategy is Strategy.CMR_WALK and " beside borders " in remedy.text:
            changed = assess(facts, WhatIf(command_line=remedy.arguments)).facts
            assert not in_no_single(tdx_memory_list(changed.memory_regions or ()), facts.cmrs or ())


def booted(facts: HostFacts, arguments: tuple[str, ...]) -> HostFacts:
    """The host in a boot with these arguments on its line."""
    gone = [edit.range for edit in map_edits(arguments)]
    left = subtract(((r.start, r.end) for r in facts.memory_regions or ()), gone)
    return replace(facts, command_line=arguments, memory_regions=tuple(MemoryRegion(*r, 0) for r in left))


class TestInPlace:
    @pytest.mark.parametrize(
        ("cmrs", "traits", "why"),
        [
            ([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)], None, "keeps TDX up"),
            ([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)], TestNoSingleCmr.WALKS, "memory that no CMR has"),
            ([(MIB, GIB), (GIB, 2 * GIB), (4 * GIB, 8 * GIB)], TestNoSingleCmr.WALKS, "in a single CMR"),
        ],
        ids=["refused", "guests", "in no single one"],
    )
    def test_it_is_needed(self, cmrs: list[tuple[int, int]], traits: KernelTraits | None, why: str) -> None:
        """After the reboot nobody is told to take it off, whatever it is there for."""
        facts = replace(host(cmrs), traits=traits)
        arguments = offered(facts)[0].arguments
        verdict = assess(booted(facts, arguments)).verdict
        assert verdict.next_boot is State.WILL_INITIALIZE
        (found,) = [f for f in verdict.findings if f.kind.startswith("remedy-")]
        assert found.kind == "remedy-in-place"
        assert why in found.text
        assert not [r for f in verdict.findings for r in f.remedies if r.kind is RemedyKind.REMOVE_ARGUMENTS]

    def test_two_that_overlap(self) -> None:
        """Each alone may go, and both together would let in what no CMR has."""
        facts = replace(host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)]), traits=TestNoSingleCmr.WALKS)
        line = ("memmap=1048576K%0x1c0000000-1+2", "memmap=1052672K%0x1bfc00000-1+2")
        verdict = assess(booted(facts, line)).verdict
        assert [f.kind for f in verdict.findings].count("remedy-not-needed") == 1

    def test_two_of_which_one_is_enough(self) -> None:
        """Both are not called unneeded: without the two of them the host would be at risk."""
        facts = replace(host([]), cmrs=None)
        facts = replace(
            booted(facts, tuple(f"memmap=4K${r.start:#x}" for r in gaps(512 * MIB, 13))), command_line=()
        )
        facts = replace(
            facts,
            firmware_map=tuple(
                FirmwareRange(r.start, r.end, "System RAM") for r in facts.memory_regions or ()
            ),
        )
        joins = tuple(f"memmap=4092K%{512 * MIB + PAGE + i * 8 * MIB:#x}-1+2" for i in range(2))
        kinds = {}
        for line in ((), joins[:1], joins):
            verdict = assess(booted(facts, line)).verdict
            kinds[len(line)] = (verdict.next_boot, [f.kind for f in verdict.findings])
        assert kinds[0][0] is State.AT_RISK
        assert kinds[1] == (State.WILL_INITIALIZE, kinds[1][1])
        assert kinds[2][1].count("remedy-not-needed") == 1


def test_movable_memory_keeps_its_size() -> None:
    """What is kept off is the kernel's own then, and has to leave enough of it."""
    ram = [(MIB, 128 * MIB), (4 * GIB, 8 * GIB)]
    for movable, enough in (("movablecore=2G", True), ("movablecore=3000M", False)):
        facts = replace(
            host([(MIB, 2 * GIB), (4 * GIB, 7 * GIB)], ram),
            command_line=(movable,),
            pamt_placement=Placement.PREDICTED,
        )
        facts = replace(facts, zones=movable_zones(facts.memory_regions or (), (movable,)))
        assert outcome(facts) is Outcome.REJECTED
        assert bool(offered(facts)) is enough, movable
