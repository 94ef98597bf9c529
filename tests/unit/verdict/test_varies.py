# SPDX-License-Identifier: Apache-2.0
"""A host whose need differs from boot to boot is at risk although this boot has room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdx_headroom.address import GIB, MIB, PAGE
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.observations import HolesBefore
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.findings import RemedyKind

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


def test_what_is_said() -> None:
    """How many boots, how far, and how much room is missing."""
    (found,) = (f for f in assess(host(12, before(9, 13))).verdict.findings if f.kind == "varies")
    assert found.figures == {"boots": 8, "least": 9, "most": 13, "limit": 16}
    assert "In 8 boots" in found.text
    (remedy,) = found.remedies
    assert (remedy.kind, remedy.areas_freed) == (RemedyKind.FEWER_AREAS, 1)
    assert "Have 1 reserved area fewer in TDMR [0x0, 0x40000000)" in remedy.text


def test_a_plan_that_fails_has_its_own_finding() -> None:
    """It is not said twice."""
    assert "varies" not in {f.kind for f in assess(host(18, before(9, 13))).verdict.findings}


def test_facts_keep_it() -> None:
    """It goes with facts and captures."""
    facts = host(12, before(9, 13))
    assert HostFacts.from_json(facts.to_json()) == facts
    assert replace(facts, holes_before=()) != facts
