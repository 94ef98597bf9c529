# SPDX-License-Identifier: Apache-2.0
"""A host whose need differs from boot to boot is at risk although this boot has room."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.address import GIB, MIB, PAGE, Range
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.observations import HolesBefore
from tdx_headroom.output.remedy_report import remedy_text
from tdx_headroom.output.terminal import Style
from tdx_headroom.plan import Strategy, plan_host
from tdx_headroom.verdict import State, judge
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.findings import RemedyKind
from tdx_headroom.verdict.model import Sentence
from tdx_headroom.verdict.remedies.moves import LARGE, without
from tdx_headroom.verdict.remedies.trial import planned

if TYPE_CHECKING:
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.findings import Finding, Remedy

MR, WALK = "memory-regions", "cmr-walk"


def host(holes: int, *before: HolesBefore) -> HostFacts:
    """A host with so many holes between memory in its first GiB, the one at the front included."""
    starts = [MIB, *(256 * MIB + i * 4 * MIB + PAGE for i in range(holes - 1))]
    ends = [*(start - PAGE for start in starts[1:]), GIB]
    low = tuple(MemoryRegion(start, end, 0) for start, end in zip(starts, ends, strict=True))
    memory = (*low, MemoryRegion(4 * GIB, 32 * GIB, 0))
    return HostFacts(kernel_release="7.3.0", memory_regions=memory, holes_before=before)


def before(least: int, most: int, **more: object) -> HolesBefore:
    """What its first TDMR has needed in seven boots."""
    found = HolesBefore(MR, 0, GIB, 7, least, most)
    return found._replace(**more)  # type: ignore[arg-type]


def test_an_audit_searches_for_nothing() -> None:
    """Who does not ask what to do has no remedy that takes a search, for any TDMR."""
    facts = host(12, before(9, 13))
    asked, not_asked = (judge(facts, plan_host(facts), remedies=asks) for asks in (True, False))
    assert any(r.computed for finding in asked.findings for r in finding.remedies)
    assert not any(r.computed for finding in not_asked.findings for r in finding.remedies)
    assert [finding.kind for finding in asked.findings] == [finding.kind for finding in not_asked.findings]


@pytest.mark.parametrize(
    ("now", "was", "varies"),
    [
        (12, before(9, 13), True),
        (12, before(12, 12), False),
        (13, before(13, 13), False),
        (12, before(10, 13), False),
        (9, before(9, 13), True),
        (13, before(9, 9), True),
        (12, before(9, 13, strategy=WALK), False),
        (12, before(9, 13, base=4 * GIB), False),
        (12, before(9, 13, size=2 * GIB), False),
        (2, before(1, 3), False),
    ],
)
def test_varies(now: int, was: HolesBefore, *, varies: bool) -> None:
    """Of the TDMR, under the strategy of this kernel, this boot counted in."""
    verdict = assess(host(now, was)).verdict
    found = [finding for finding in verdict.findings if finding.kind == "varies"]
    assert bool(found) is varies
    assert verdict.next_boot is (State.AT_RISK if varies else State.WILL_INITIALIZE)


def varying(facts: HostFacts) -> Finding:
    """The finding."""
    return next(found for found in assess(facts).verdict.findings if found.kind == "varies")


def computed(facts: HostFacts) -> Remedy | None:
    """What is offered and was computed."""
    return next((remedy for remedy in varying(facts).remedies if remedy.computed), None)


def with_it(facts: HostFacts, remedy: Remedy) -> Plan:
    """The plan of a host that has done as it was told."""
    given_up = [edit.range for edit in map_edits(remedy.arguments)]
    plan = planned(without(facts, given_up), Strategy.MEMORY_REGIONS)
    assert plan is not None
    return plan


def test_what_is_said() -> None:
    """How many boots, how far, and how much room is missing."""
    found = varying(host(12, before(9, 13)))
    assert found.figures == {"boots": 8, "least": 9, "most": 13, "limit": 16}
    assert "In 8 boots" in found.text
    fewer = found.remedies[0]
    assert (fewer.kind, fewer.areas_freed) == (RemedyKind.FEWER_AREAS, 1)
    assert "Have 1 reserved area fewer in TDMR [0x0, 0x40000000)" in fewer.text


@pytest.mark.parametrize(
    ("now", "least", "most"), [(12, 9, 13), (12, 7, 12), (10, 4, 11), (9, 1, 9), (13, 9, 9), (9, 9, 15)]
)
def test_memory_to_give_up(now: int, least: int, most: int) -> None:
    """With it a boot that needs as many more as the most after a step has room; no more is given up."""
    facts = host(now, before(least, most))
    remedy = computed(facts)
    assert remedy is not None
    after_a_step = 2 * max(now, most) - min(now, least)
    plan = with_it(facts, remedy)
    assert plan.tdmrs[0].headroom == after_a_step - now
    assert remedy.bytes_given_up == (after_a_step - 16) * (4 * MIB - PAGE)
    assert "so that one more such step fits: memmap=" in remedy.text
    assert isinstance(remedy.text, Sentence)
    assert "memmap=4" not in remedy.text.public


def test_a_step_that_is_out_of_reach() -> None:
    """What comes nearest is offered, and how much is missing still."""
    facts = host(13, before(2, 15))
    remedy = computed(facts)
    assert remedy is not None
    plan = with_it(facts, remedy)
    needed = plan.tdmrs[0].needed
    assert needed is not None
    assert 0 < needed < 13
    missing = needed + 2 * 15 - 2 - 13 - 16
    assert f"one more such step {missing} reserved area" in remedy.text
    assert "step fits" not in remedy.text


def test_nothing_can_be_given_up() -> None:
    """It is said how many areas are missing, and nothing is made up."""
    facts = host(12, before(9, 13))
    # Boot has reserved in it what finds no other place.
    low = [r for r in facts.memory_regions or () if r.end <= GIB]
    kept = tuple(Range(r.start, max(r.end, r.start + LARGE)) for r in low)
    assert [r.kind for r in varying(replace(facts, reserved=kept)).remedies] == [RemedyKind.FEWER_AREAS]


def test_what_is_offered_for_less_is_not_offered_twice() -> None:
    """A host with two areas left has the same arguments from another finding."""
    facts = host(14, before(13, 15))
    assert computed(facts) is None
    few = next(found for found in assess(facts).verdict.findings if found.kind == "few-reserved-areas")
    assert any(remedy.computed for remedy in few.remedies)


def test_the_command_offers_it() -> None:
    """With what it gives and what it costs, the first of all."""
    shown = " ".join(remedy_text(assess(host(12, before(9, 13))), Style()).split())
    assert "1. Give up 4.0 MiB of memory so that one more such step fits: memmap=4092K" in shown
    assert "TDX comes up, the fullest TDMR with 5 reserved areas left (computed)" in shown


def test_a_plan_that_fails_has_its_own_finding() -> None:
    """It is not said twice."""
    assert "varies" not in {f.kind for f in assess(host(18, before(9, 13))).verdict.findings}


def test_facts_keep_it() -> None:
    """It goes with facts and captures."""
    facts = host(12, before(9, 13))
    assert HostFacts.from_json(facts.to_json()) == facts
    assert replace(facts, holes_before=()) != facts
