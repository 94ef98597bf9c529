# SPDX-License-Identifier: Apache-2.0
"""What there is to tell of a TDX host, one cause once: what its alerts select."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.plan import Outcome, Strategy
from tdx_headroom.verdict.model import AT_RISK_HEADROOM, State
from tdx_headroom.verdict.obstacles.no_sign import KIND as NO_SIGN
from tdx_headroom.verdict.obstacles.varies import KIND as VARIES

if TYPE_CHECKING:
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.assessment import Assessment


class Concern(StrEnum):
    """What may keep the next initialization of the running kernel from going well."""

    RESERVED_AREAS = Outcome.RESERVED_AREAS.value
    TDMRS = Outcome.TDMRS.value
    NO_MEMORY = Outcome.NO_MEMORY.value
    MISALIGNED = Outcome.MISALIGNED.value
    REJECTED = Outcome.REJECTED.value
    OTHER = "other"
    """It fails, and not by its plan: that fits, or there is none."""
    FEW_AREAS = "few-reserved-areas"
    PAMT_PLACES = "pamt-places"
    """It fits where PAMTs are predicted, and not if all that could come together did."""
    VARIES = "varies"


def concerns(assessment: Assessment) -> frozenset[Concern]:
    """Those of the running kernel, command line and memory map; none where another boot is staged.

    A staged boot is told by its own verdict, so that one cause is one alert.
    """
    if assessment.pending or assessment.verdict.state is State.NOT_TDX:
        return frozenset()
    verdict = assessment.verdict
    plan = assessment.plans[verdict.strategy]
    found: set[Concern] = set()
    if verdict.next_boot is State.WILL_FAIL:
        fits = plan is None or plan.outcome is Outcome.OK
        found.add(Concern.OTHER if fits or plan is None else Concern(plan.outcome.value))
    elif verdict.next_boot is State.AT_RISK and plan is not None:
        found |= _risks(plan)
    if any(finding.kind == VARIES for finding in assessment.deciding.findings) and not _is_full(plan):
        found.add(Concern.VARIES)
    return frozenset(found)


def _risks(plan: Plan) -> set[Concern]:
    if _is_full(plan):
        return {Concern.FEW_AREAS}
    worst = plan.headroom_worst
    return {Concern.PAMT_PLACES} if worst is not None and worst < 0 else set()


def _is_full(plan: Plan | None) -> bool:
    return plan is not None and plan.headroom is not None and plan.headroom <= AT_RISK_HEADROOM


def mainline_fails(assessment: Assessment) -> bool | None:
    """Whether TDX would not come up with a mainline kernel, and this is not told of the host's own anyway.

    Returns:
        None where a mainline kernel's plan is unknown.
    """
    plan, verdict = assessment.plans[Strategy.MEMORY_REGIONS], assessment.verdict
    if plan is None:
        return None
    told = State.WILL_FAIL in (verdict.next_boot, assessment.next_boot)
    return plan.outcome is not Outcome.OK and verdict.strategy is not Strategy.MEMORY_REGIONS and not told


def is_unknown(assessment: Assessment) -> bool:
    """Whether it cannot be told if TDX comes up, on a host that something shows to be meant for it.

    Where nothing does, it may be any server, under a kernel that cannot show TDX.
    """
    known = {finding.kind for finding in assessment.deciding.findings}
    return assessment.verdict.state is State.CANNOT_TELL and NO_SIGN not in known
