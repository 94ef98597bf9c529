# SPDX-License-Identifier: Apache-2.0
"""A memory map that cannot be the whole one: a pasted log often ends where the interesting part did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, show_size, subtract, total
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.evidence import surely_fails
from tdx_headroom.verdict.model import Basis, Sentence, State, predict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.model import StrategyFinding

# One GiB more of memory takes this much more PAMT: 16 bytes a page.
_PAMT_OF_A_GIB = 4096


def beyond_the_map(facts: HostFacts, plan: Plan | None) -> str | None:
    """What proves that the log shows only a part of the memory; None when nothing does.

    Memory that the command line keeps from the kernel (``mem=``, ``memmap=``) is missing for good.
    """
    regions, log = facts.memory_regions, facts.kernel_log
    if not regions or facts.memory_source is None or not facts.memory_source.from_log:
        return None
    if map_edits(facts.command_line or ()):
        return None
    cmrs = log.cmrs if log is not None else None
    above = subtract(cmrs or (), [(0, regions[-1].end)])
    if total(above) >= GIB:
        said = "CMRs show {} of memory above the last of the map"
        size = total(above)
        return Sentence(
            said.format(show_size(size)), public=said.format(f"about {show_size(size // GIB * GIB)}")
        )
    if log is not None and log.pamt_kib is not None and plan is not None:
        recomputed = plan.pamt_bytes // 1024
        if log.pamt_kib >= recomputed + _PAMT_OF_A_GIB:
            return f"the kernel took {log.pamt_kib} KiB of PAMT, and this map needs only {recomputed}"
    return None


def still_sure(next_boot: State | None, plan: Plan | None) -> State | None:
    """What is left of a prediction that was made from a part of the memory: more memory mends no overflow."""
    sure = next_boot is State.WILL_FAIL and plan is not None and surely_fails(plan)
    return next_boot if sure else None


def kernel_not_shown(
    facts: HostFacts, finding: StrategyFinding, plans: Mapping[Strategy, Plan | None], next_boot: State | None
) -> bool:
    """Whether a log has lost which kernel it is, and on another kernel this map could do better."""
    source = facts.memory_source
    if facts.kernel_release is not None or source is None or not source.from_log:
        return False
    if finding.basis is not Basis.MAINLINE or next_boot not in (State.WILL_FAIL, State.AT_RISK):
        return False
    other = plans[Strategy.CMR_SUBREGION]
    return other is None or predict(other) is not next_boot
