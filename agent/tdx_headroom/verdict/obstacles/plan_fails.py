# SPDX-License-Identifier: Apache-2.0
"""A plan that fails elsewhere than at reserved areas: TDMRs, PAMTs, the checks of kernel and module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan import ModuleStatus, Outcome
from tdx_headroom.verdict.decode import CONVERTIBLE, EARLIER, KERNELS_PLAN
from tdx_headroom.verdict.findings import FAILS, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.model import describe
from tdx_headroom.verdict.remedies import for_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.plan import Plan


def _fewer_tdmrs(plan: Plan, limit: int) -> tuple[Remedy, ...]:
    text = (
        f"The memory map takes {plan.tdmrs_needed - limit} TDMRs too many: have fewer gaps of a GiB and more"
        " between memory ranges, or fewer NUMA nodes (sub-NUMA clustering off)."
    )
    return (Remedy(RemedyKind.FEWER_TDMRS, text),)


def _rejected(plan: Plan, _: int) -> tuple[Remedy, ...]:
    outside = (ModuleStatus.TDMR_OUTSIDE_CMRS, ModuleStatus.PAMT_OUTSIDE_CMRS)
    return (CONVERTIBLE if plan.module is not None and plan.module.status in outside else KERNELS_PLAN,)


_ENDS: dict[Outcome, tuple[str, Callable[[Plan, int], tuple[Remedy, ...]]]] = {
    Outcome.TDMRS: ("tdmrs", _fewer_tdmrs),
    Outcome.NO_MEMORY: ("pamt-memory", lambda plan, _: (EARLIER,) if plan.tdmrs else ()),
    Outcome.REJECTED: ("rejected-by-module", _rejected),
    Outcome.MISALIGNED: ("misaligned-area", lambda *_: ()),
}
KINDS = tuple(kind for kind, _ in _ENDS.values())


def look(signs: Signs) -> Findings:
    """Which check it fails."""
    plan = signs.plan
    if plan is not None and (end := _ENDS.get(plan.outcome)):
        kind, remedies = end
        limit = signs.facts.limits.max_tdmrs
        yield Finding(kind, FAILS, describe(plan), remedies=for_plan(signs, *remedies(plan, limit)))
