# SPDX-License-Identifier: Apache-2.0
"""What there is to tell of a TDX host, one cause once: what its alerts select."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.plan import Outcome, Strategy
from tdx_headroom.verdict.findings import FAILS, RISK
from tdx_headroom.verdict.model import AT_RISK_HEADROOM, State
from tdx_headroom.verdict.obstacles.failed import FAILED
from tdx_headroom.verdict.obstacles.module_checks import CMR_TABLE, FULL_TDMR
from tdx_headroom.verdict.obstacles.no_sign import KIND as NO_SIGN
from tdx_headroom.verdict.obstacles.not_convertible import BY_NAME, SEVERAL
from tdx_headroom.verdict.obstacles.reserved_areas import FEW
from tdx_headroom.verdict.obstacles.varies import KIND as VARIES

if TYPE_CHECKING:
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.assessment import Assessment


class Concern(StrEnum):
    """What may keep the next initialization of the running kernel from going well."""

    RESERVED_AREAS = Outcome.RESERVED_AREAS.value
    TDMRS = Outcome.TDMRS.value
    NO_MEMORY = Outcome.NO_MEMORY.value
    REJECTED = Outcome.REJECTED.value
    OTHER = "other"
    """It fails for another reason: the plan fits, or there is none."""
    FEW_AREAS = "few-reserved-areas"
    PAMT_PLACES = "pamt-places"
    """It fits where PAMTs are predicted, and not if all that could come together did."""
    VARIES = "varies"
    OTHER_RISK = "other-risk"
    """It may fail for another reason."""


_OF_OUTCOME = {
    Outcome.RESERVED_AREAS: Concern.RESERVED_AREAS,
    Outcome.TDMRS: Concern.TDMRS,
    Outcome.NO_MEMORY: Concern.NO_MEMORY,
    Outcome.REJECTED: Concern.REJECTED,
}
_REFUSED = frozenset({CMR_TABLE, FULL_TDMR})
"""What the module refuses although its checks of the plan, which are those of 1.5, find nothing."""
_OUTSIDE = frozenset({BY_NAME, SEVERAL})
_TOLD = frozenset({FAILED, FEW, VARIES})
"""Risks that have an alert of their own, or a concern."""


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
        found.add(_failure(assessment, plan))
    elif verdict.next_boot is State.AT_RISK:
        found |= _risks(assessment, plan)
    if any(finding.kind == VARIES for finding in assessment.deciding.findings) and not _is_full(plan):
        found.add(Concern.VARIES)
    return frozenset(found)


def _failure(assessment: Assessment, plan: Plan | None) -> Concern:
    if plan is not None and plan.outcome is not Outcome.OK:
        return _OF_OUTCOME.get(plan.outcome, Concern.OTHER)
    failing = {found.kind for found in assessment.verdict.findings if found.severity is FAILS}
    return Concern.REJECTED if failing & _REFUSED else Concern.OTHER


def _risks(assessment: Assessment, plan: Plan | None) -> set[Concern]:
    found = set()
    if _is_full(plan):
        found.add(Concern.FEW_AREAS)
    elif plan is not None and plan.headroom_worst is not None and plan.headroom_worst < 0:
        found.add(Concern.PAMT_PLACES)
    risks = {found.kind for found in assessment.verdict.findings if found.severity is RISK} - _TOLD
    if not_convertible_bytes(assessment):
        risks -= _OUTSIDE
    return found | ({Concern.OTHER_RISK} if risks else set())


def not_convertible_bytes(assessment: Assessment) -> int | None:
    """Bytes in memory regions outside every CMR, of which an alert tells; None where the CMRs are unknown."""
    plan = assessment.plans[Strategy.MEMORY_REGIONS]
    return None if plan is None else plan.not_convertible_bytes


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
