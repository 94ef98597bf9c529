# SPDX-License-Identifier: Apache-2.0
"""Recomputed against logged: does the plan agree with what the kernel did?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show
from tdx_headroom.facts import MemoryRegion
from tdx_headroom.kernel_report import FailureReason, ModuleState
from tdx_headroom.plan.pamt import pamt_for
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.plan.tdmrs import tdmr_ranges
from tdx_headroom.verdict.evidence import could_fail_at, surely_fails
from tdx_headroom.verdict.model import CrossCheck, Estimate

if TYPE_CHECKING:
    from tdx_headroom.facts import HostFacts
    from tdx_headroom.plan import Plan


def cross_check(facts: HostFacts, plan: Plan | None) -> CrossCheck:
    """Compare PAMT and outcome of this boot with the plan of the strategy that the kernel is held to use."""
    log = facts.kernel_log
    if log is None or plan is None or not plan.tdmrs:
        return CrossCheck(None, ())
    results: list[tuple[bool, str]] = []
    if log.pamt_kib is not None:
        recomputed = plan.pamt_bytes // 1024
        same = recomputed == log.pamt_kib
        relation = "as" if same else f"but {recomputed} KiB are"
        results.append((same, f"the kernel allocated {log.pamt_kib} KiB for PAMT, {relation} recomputed"))
    if log.state is ModuleState.INITIALIZED:
        fits = not surely_fails(plan)
        results.append((fits, f"TDX came up, {'as' if fits else 'but'} {plan.strategy} {_does(fits)}"))
    if log.reason is FailureReason.RESERVED_AREAS and log.failed_tdmr is not None:
        there = could_fail_at(plan, *log.failed_tdmr)
        where = show(*log.failed_tdmr)
        results.append(
            (there, f"TDX failed at TDMR {where}, {'as' if there else 'but'} {plan.strategy} {_does(there)}")
        )
    if not results:
        return CrossCheck(None, ())
    return CrossCheck(all(same for same, _ in results), tuple(text for _, text in results))


def _does(agrees: bool) -> str:  # noqa: FBT001  one word or the other
    return "says" if agrees else "says otherwise"


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
    pamt = sum(pamt_for(tdmr.size, facts.limits, None).size for tdmr in tdmrs)
    return Estimate(tuple(tdmrs), pamt // 1024)
