# SPDX-License-Identifier: Apache-2.0
"""A plan that fails elsewhere than at reserved areas: TDMRs, PAMTs, the checks of kernel and module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan import Outcome
from tdx_headroom.verdict.decode import EARLIER
from tdx_headroom.verdict.findings import FAILS, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.model import describe
from tdx_headroom.verdict.remedies import for_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.plan import Plan

_CONVERTIBLE = Remedy(
    RemedyKind.CONVERTIBLE_MEMORY,
    "Have the firmware make all memory convertible (populate DIMMs evenly, no CXL or persistent"
    " memory as RAM), or keep the kernel off the rest with memmap=.",
)


def _fewer_tdmrs(plan: Plan, limit: int) -> tuple[Remedy, ...]:
    text = (
        f"The memory map takes {plan.tdmrs_needed - limit} TDMRs too many: have fewer gaps of a GiB and more"
        " between memory ranges, or fewer NUMA nodes (sub-NUMA clustering off)."
    )
    return (Remedy(RemedyKind.FEWER_TDMRS, text),)


_ENDS: dict[Outcome, tuple[str, Callable[[Plan, int], tuple[Remedy, ...]]]] = {
    Outcome.TDMRS: ("tdmrs", _fewer_tdmrs),
    Outcome.NO_MEMORY: ("pamt-memory", lambda plan, _: (EARLIER,) if plan.tdmrs else ()),
    Outcome.REJECTED: ("rejected-by-module", lambda *_: (_CONVERTIBLE,)),
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
