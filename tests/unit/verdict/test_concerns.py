# SPDX-License-Identifier: Apache-2.0
"""What there is to tell of a TDX host, one cause once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.facts.kernel_report import KernelReport
from tdx_headroom.facts.observations import HolesBefore
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import Outcome, Plan, Strategy
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.concerns import Concern, concerns, is_unknown, mainline_fails
from tdx_headroom.verdict.findings import Finding, Severity
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

TESTS = Path(__file__).resolve().parents[2]
OWN, MAINLINE = Strategy.CMR_SUBREGION, Strategy.MEMORY_REGIONS
FITS, RISK, FAILS = State.WILL_INITIALIZE, State.AT_RISK, State.WILL_FAIL


def facts_of(host: str = "good-2-node") -> HostFacts:
    return read_facts(Root(TESTS / "hosts" / host))


def planned(outcome: Outcome, left: int | None, worst: int | None) -> Plan:
    return cast("Plan", SimpleNamespace(outcome=outcome, headroom=left, headroom_worst=worst))


def judged(next_boot: State | None, plan: Plan | None, mainline: Plan | None = None) -> Assessment:
    """The good host, with that plan under its own kernel's strategy, and that verdict of its next try."""
    good = assess(facts_of())
    plans = {**good.plans, OWN: plan, MAINLINE: mainline}
    return replace(good, plans=plans, verdict=replace(good.verdict, next_boot=next_boot))


@pytest.mark.parametrize(
    ("next_boot", "plan", "expected"),
    [
        (FITS, planned(Outcome.OK, 3, 0), None),
        (FAILS, planned(Outcome.RESERVED_AREAS, -1, -1), Concern.RESERVED_AREAS),
        (FAILS, planned(Outcome.TDMRS, 13, 13), Concern.TDMRS),
        (FAILS, planned(Outcome.NO_MEMORY, None, None), Concern.NO_MEMORY),
        (FAILS, planned(Outcome.MISALIGNED, 13, 13), Concern.OTHER),
        (FAILS, planned(Outcome.REJECTED, 13, 13), Concern.REJECTED),
        (FAILS, planned(Outcome.OK, 13, 13), Concern.OTHER),
        (FAILS, planned(Outcome.OK, 1, -1), Concern.OTHER),
        (FAILS, None, Concern.OTHER),
        (RISK, planned(Outcome.OK, 2, 2), Concern.FEW_AREAS),
        (RISK, planned(Outcome.OK, 2, -1), Concern.FEW_AREAS),
        (RISK, planned(Outcome.OK, 3, -1), Concern.PAMT_PLACES),
        (RISK, planned(Outcome.OK, 3, 0), None),
        (RISK, planned(Outcome.OK, 3, None), None),
        (RISK, None, None),
        (None, planned(Outcome.RESERVED_AREAS, -1, -1), None),
    ],
)
def test_what_there_is_to_tell(next_boot: State | None, plan: Plan | None, expected: Concern | None) -> None:
    """One concern at most for what the plan comes to, and none where the next try is not known."""
    assert concerns(judged(next_boot, plan)) == ({expected} if expected else set())


RISKS = {
    "unlikely-convertible": {Concern.OTHER_RISK},
    "in-no-single-cmr": {Concern.OTHER_RISK},
    "cpus-left-out": {Concern.OTHER_RISK},
    "failed-in-this-boot": set(),
    "few-reserved-areas": set(),
    "varies": set(),
}


@pytest.mark.parametrize("kind", RISKS)
def test_a_risk_beside_the_plan(kind: str) -> None:
    """It is told unless an alert of its own tells it, and as memory outside the CMRs where that is known."""
    found = judged(RISK, planned(Outcome.OK, 9, 9))
    risk = replace(found, verdict=replace(found.verdict, findings=(Finding(kind, Severity.RISK, "x"),)))
    assert concerns(risk) - {Concern.VARIES} == RISKS[kind]
    outside = SimpleNamespace(not_convertible_bytes=4096, outcome=Outcome.OK)
    plans = {**risk.plans, MAINLINE: cast("Plan", outside)}
    by_cmrs = kind in ("unlikely-convertible", "in-no-single-cmr")
    told = set() if by_cmrs else RISKS[kind]
    assert concerns(replace(risk, plans=plans)) - {Concern.VARIES} == told


@pytest.mark.parametrize("kind", ["full-tdmr", "cmr-table-invalid", "hibernation"])
def test_what_the_module_refuses_beside_its_checks(kind: str) -> None:
    """Its alert is that of a plan that is refused, though the plan passes."""
    found = judged(FAILS, planned(Outcome.OK, 9, 9))
    failing = replace(found, verdict=replace(found.verdict, findings=(Finding(kind, Severity.FAILS, "x"),)))
    assert concerns(failing) == {Concern.OTHER if kind == "hibernation" else Concern.REJECTED}


@pytest.mark.parametrize(("most", "limit", "told"), [(2, 16, False), (9, 13, True), (9, 8, False)])
def test_it_varies(most: int, limit: int, *, told: bool) -> None:
    """Told where one more step does not fit, unless so few areas are left that this is told."""
    facts = facts_of()
    tdmr = next(t for t in assess(facts).plans[OWN].tdmrs)  # type: ignore[union-attr]
    before = HolesBefore(str(OWN), tdmr.base, tdmr.size, 3, 1, most)
    found = assess(replace(facts, holes_before=(before,)), WhatIf(max_reserved=limit))
    if limit == 8:
        found = replace(found, plans={**found.plans, OWN: planned(Outcome.OK, 2, 2)})
    assert (Concern.VARIES in concerns(found)) is told


def test_another_boot_is_staged(tmp_path: Path) -> None:
    """It has a verdict of its own: nothing is told of the running kernel."""
    root = tmp_path / "host"
    shutil.copytree(TESTS / "hosts/good-2-node", root, symlinks=True)
    few = WhatIf(max_reserved=4)
    assert concerns(assess(read_facts(Root(root), boots=BootReader()), few)) == {Concern.FEW_AREAS}
    shutil.copytree(TESTS / "boots/debian-one", root, symlinks=True, dirs_exist_ok=True)
    staged = assess(read_facts(Root(root), boots=BootReader()), few)
    assert staged.pending
    assert concerns(staged) == set()


@pytest.mark.parametrize(
    ("next_boot", "outcome", "expected"),
    [
        (FITS, Outcome.OK, False),
        (FITS, Outcome.RESERVED_AREAS, True),
        (RISK, Outcome.TDMRS, True),
        (None, Outcome.RESERVED_AREAS, True),
        (FAILS, Outcome.RESERVED_AREAS, False),
    ],
)
def test_a_mainline_kernel(next_boot: State | None, outcome: Outcome, *, expected: bool) -> None:
    """Told of hosts that are fine, or unknown, under their own kernel; the others have a worse alert."""
    found = judged(next_boot, planned(Outcome.OK, 9, 9), planned(outcome, None, None))
    assert mainline_fails(found) is expected


def test_a_mainline_kernel_runs() -> None:
    """Then its plan is the host's own; and where there is no such plan nothing is known."""
    found = judged(FITS, None, planned(Outcome.RESERVED_AREAS, -1, -1))
    own = replace(found, verdict=replace(found.verdict, strategy=MAINLINE))
    assert mainline_fails(own) is False
    assert mainline_fails(judged(FITS, None, None)) is None


def test_it_cannot_be_told() -> None:
    """A host that something shows to be meant for TDX is told of; one that may be any server is not."""
    good = facts_of()
    assert not is_unknown(assess(good))
    assert is_unknown(assess(replace(good, memory_regions=None, kernel_log=None)))
    assert good.platform is not None
    platform = replace(good.platform, tdx_host_platform=None, tdx_module_version=None, guest_keyids=None)
    bare = assess(replace(good, kernel_log=KernelReport(), platform=platform, cmrs=None, command_line=()))
    assert bare.verdict.state is State.CANNOT_TELL
    assert not is_unknown(bare)
