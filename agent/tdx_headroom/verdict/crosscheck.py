# SPDX-License-Identifier: Apache-2.0
"""Recomputed against logged: does the plan agree with what the kernel did?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.kernel_report import FailureReason, ModuleState
from tdx_headroom.plan import ModuleStatus, Outcome
from tdx_headroom.plan.pamt import pamt_for
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.plan.tdmrs import tdmr_ranges
from tdx_headroom.verdict.decode import CONFIG_LEAF, STATUSES
from tdx_headroom.verdict.evidence import could_fail_at, surely_fails
from tdx_headroom.verdict.model import CrossCheck, Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.plan import Plan

_Result = tuple[bool, str]
"""Whether one thing that was logged agrees with the plan, and the sentence that says so."""


def cross_check(facts: HostFacts, plan: Plan | None) -> CrossCheck:
    """Compare PAMT and outcome of this boot with the plan of the strategy that the kernel is taken to use."""
    log = facts.kernel_log
    if log is None or plan is None or not plan.tdmrs:
        return CrossCheck(None, ())
    results = [
        *_pamt(log, plan),
        *_success(log, plan),
        *_areas(log, plan),
        *_tdmrs(log, plan, facts.limits.max_tdmrs),
        *_rejection(log, plan),
    ]
    if not results:
        return CrossCheck(None, ())
    return CrossCheck(all(same for same, _ in results), tuple(text for _, text in results))


def _pamt(log: KernelReport, plan: Plan) -> Iterator[_Result]:
    if log.pamt_kib is not None:
        recomputed = plan.pamt_bytes // 1024
        same = recomputed == log.pamt_kib
        relation = "as" if same else f"but {recomputed} KiB are"
        yield same, f"The kernel allocated {log.pamt_kib} KiB for PAMTs, {relation} recomputed."


def _success(log: KernelReport, plan: Plan) -> Iterator[_Result]:
    """That TDX came up.

    Where PAMTs lie is not certain, so a plan that fails only with them does not disagree.
    """
    if log.state is ModuleState.INITIALIZED:
        outcome = plan.outcome
        fits = not surely_fails(plan) and outcome is not Outcome.TDMRS and not _surely_rejected(plan)
        yield _said("TDX came up", plan, fits)


def _areas(log: KernelReport, plan: Plan) -> Iterator[_Result]:
    if log.reason is FailureReason.RESERVED_AREAS and log.failed_tdmr is not None:
        there = could_fail_at(plan, *log.failed_tdmr)
        yield _said(f"TDX failed at TDMR {show(*log.failed_tdmr)}", plan, there)
    elif log.reason is FailureReason.AREAS_OR_TDMRS:
        worst = plan.headroom_worst
        short = plan.outcome is Outcome.TDMRS or (worst is not None and worst < 0)
        yield _said("TDX ran out of reserved areas or TDMRs", plan, short)


def _tdmrs(log: KernelReport, plan: Plan, limit: int) -> Iterator[_Result]:
    if log.reason is FailureReason.TDMRS:
        yield _said("TDX ran out of TDMRs", plan, plan.outcome is Outcome.TDMRS)
    if log.tdmrs_used is not None:
        used, of = log.tdmrs_used
        same = (used, of) == (min(plan.tdmrs_needed, limit), limit)
        relation = "as" if same else f"but {plan.tdmrs_needed} of {limit} are"
        yield same, f"The kernel used {used} TDMRs of {of}, {relation} recomputed."


def _rejection(log: KernelReport, plan: Plan) -> Iterator[_Result]:
    """What TDH.SYS.CONFIG said to this very plan; unknown without CMRs."""
    call = log.seamcall
    if log.state is ModuleState.FAILED and call is not None and call.leaf == CONFIG_LEAF and plan.module:
        status = STATUSES.get(call.status >> 32)
        if status in set(ModuleStatus):
            yield _said(f"The TDX module rejected the plan ({status})", plan, status == plan.module.status)


def _surely_rejected(plan: Plan) -> bool:
    """Whether the module rejects the plan wherever PAMTs lie: they cannot cover all memory outside CMRs."""
    module = plan.module
    return (
        module is not None
        and module.status is ModuleStatus.TDMR_OUTSIDE_CMRS
        and (plan.not_convertible_bytes or 0) > plan.pamt_bytes
    )


def _said(what: str, plan: Plan, agrees: bool) -> _Result:  # noqa: FBT001  the result itself
    plan_says = f"the plan under {plan.strategy} says"
    return agrees, f"{what}, as {plan_says}." if agrees else f"{what}, but {plan_says} otherwise."


def estimate(facts: HostFacts) -> Estimate | None:
    """TDMRs and PAMT from the CMRs, where they are all that is known.

    Firmware makes nearly all memory convertible, so that CMRs stand in for memory regions well: on ten of
    eleven hosts' logs the KiB is exact, on one it is 4 KiB off.
    """
    if facts.memory_regions is not None or facts.cmrs is None:
        return None
    ranges = sorted((base, base + size) for base, size in facts.cmrs if size)
    regions = tdx_memory_list(MemoryRegion(start, end, None) for start, end in ranges)
    tdmrs = tdmr_ranges(regions)
    if not tdmrs:
        return None
    pamt = sum(pamt_for(tdmr.size, facts.limits).size for tdmr in tdmrs)
    return Estimate(tuple(tdmrs), pamt // 1024)
