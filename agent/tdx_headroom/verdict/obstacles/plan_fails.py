# SPDX-License-Identifier: Apache-2.0
"""A plan that fails elsewhere than at reserved areas: TDMRs, PAMTs, the checks of kernel and module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan import ModuleStatus, Outcome
from tdx_headroom.verdict.decode import CONVERTIBLE, KERNELS_PLAN
from tdx_headroom.verdict.findings import FAILS, Finding, Findings, Remedy, Signs
from tdx_headroom.verdict.model import describe
from tdx_headroom.verdict.remedies import for_plan, for_room, for_tdmrs, keep_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.plan import Plan


def _rejected(signs: Signs, plan: Plan) -> tuple[Remedy, ...]:
    outside = (ModuleStatus.TDMR_OUTSIDE_CMRS, ModuleStatus.PAMT_OUTSIDE_CMRS)
    if plan.module is None or plan.module.status not in outside or not signs.asks_what_to_do:
        return for_plan(signs, KERNELS_PLAN)
    found = signs.guard.part(
        "remedies (which memory to keep off)", lambda: keep_off(signs.facts, plan.strategy), list[Remedy]()
    )
    return for_plan(signs, CONVERTIBLE, *found)


_ENDS: dict[Outcome, tuple[str, Callable[[Signs, Plan], tuple[Remedy, ...]]]] = {
    Outcome.TDMRS: ("tdmrs", for_tdmrs),
    Outcome.NO_MEMORY: ("pamt-memory", for_room),
    Outcome.REJECTED: ("rejected-by-module", _rejected),
    Outcome.MISALIGNED: ("misaligned-area", lambda signs, _: for_plan(signs)),
}
KINDS = tuple(kind for kind, _ in _ENDS.values())


def look(signs: Signs) -> Findings:
    """Which check it fails."""
    plan = signs.plan
    if plan is not None and (end := _ENDS.get(plan.outcome)):
        kind, remedies = end
        yield Finding(kind, FAILS, describe(plan), remedies=remedies(signs, plan))
