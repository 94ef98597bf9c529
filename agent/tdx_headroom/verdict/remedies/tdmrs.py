# SPDX-License-Identifier: Apache-2.0
"""What to do about a memory map that takes more TDMRs than the module has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import describe
from tdx_headroom.verdict.remedies.convertible import keep_off
from tdx_headroom.verdict.remedies.give_up import give_up
from tdx_headroom.verdict.remedies.kernels import for_plan
from tdx_headroom.verdict.remedies.search import Goal
from tdx_headroom.verdict.remedies.trial import planned, under

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.findings import Signs

NUMA_OFF = "numa=off"


def for_tdmrs(signs: Signs, plan: Plan) -> tuple[Remedy, ...]:
    """What to do so that the memory map takes few enough TDMRs."""
    if signs.log_is_to_blame or not signs.asks_what_to_do:
        return ()
    facts = signs.facts
    limit = facts.limits.max_tdmrs
    text = (
        f"The memory map takes {plan.tdmrs_needed - limit} TDMRs too many: have fewer gaps of a GiB and more"
        " between memory ranges, or fewer NUMA nodes (sub-NUMA clustering off)."
    )
    parts = (
        ("which memory to give up", lambda: give_up(facts, plan) or keep_off(facts, plan.strategy)),
        ("whether fewer nodes would help", lambda: _one_node(facts, plan)),
    )
    found = for_plan(signs)
    for name, make in parts:
        found += tuple(signs.guard.part(f"remedies ({name})", make, list[Remedy]()))
    return (*found, Remedy(RemedyKind.FEWER_TDMRS, text))


def _one_node(facts: HostFacts, plan: Plan) -> list[Remedy]:
    """Whether it is the borders of nodes that cost the TDMRs."""
    changed = under(facts, (*(facts.command_line or ()), NUMA_OFF))
    tried = None if changed is None else planned(changed, plan.strategy)
    if tried is None or not Goal.FITS.is_met(tried):
        return []
    text = (
        f"Or boot with {NUMA_OFF} at the end of the kernel's command line: all memory is one node's then, and"
        f" the kernel does not know any more which of it is near which CPU. With that: {describe(tried)}"
    )
    return [
        Remedy(
            RemedyKind.ADD_ARGUMENTS,
            text,
            (NUMA_OFF,),
            bytes_given_up=0,
            computed=True,
            left=tried.headroom,
        )
    ]
