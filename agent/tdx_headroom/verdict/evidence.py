# SPDX-License-Identifier: Apache-2.0
"""Which strategy this kernel uses: what happened comes first, then the table, then mainline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show
from tdx_headroom.facts.kernel_report import FailureReason, ModuleState
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.model import Basis, StrategyFinding
from tdx_headroom.verdict.this_kernel import known_strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.plan import Plan, Tdmr

_KNOWN_AS = {Basis.TABLE: "the table", Basis.IMAGE: "its image", Basis.MAINLINE: "what mainline does"}


def find_strategy(
    facts: HostFacts, plans: Mapping[Strategy, Plan | None], override: Strategy | None = None
) -> StrategyFinding:
    """The strategy that the host's kernel is taken to use.

    Args:
        facts: of the host.
        plans: one a strategy.
        override: the operator's word, which counts before all else.
    """
    if override is not None:
        return StrategyFinding(
            override, Basis.OVERRIDE, (f"The operator says that this kernel uses {override}.",)
        )
    known = known_strategy(facts)
    possible, why = strategies_left(facts.kernel_log, plans)
    if possible is None:
        return known
    if known.strategy in possible:
        if len(possible) == 1:
            return StrategyFinding(known.strategy, Basis.EVIDENCE, (why, *known.evidence))
        narrowed = len(possible) < len(Strategy)
        evidence = (why, *known.evidence) if narrowed else known.evidence
        return StrategyFinding(known.strategy, known.basis, evidence)
    if not possible:
        return StrategyFinding(known.strategy, known.basis, known.evidence, contradiction=f"But {why}")
    strategy = min(possible, key=lambda s: (_left(plans[s]), list(Strategy).index(s)))
    known_as = _KNOWN_AS[known.basis]
    return StrategyFinding(
        strategy,
        Basis.EVIDENCE if len(possible) == 1 else Basis.SEVERAL,
        (why,),
        contradiction=f"This contradicts {known_as}: {' '.join(known.evidence)}",
    )


def strategies_left(
    log: KernelReport | None, plans: Mapping[Strategy, Plan | None]
) -> tuple[set[Strategy] | None, str]:
    """The strategies that what happened in this boot leaves possible, and why.

    None when nothing that happened tells strategies apart. A strategy without a plan is never ruled out, and
    holes alone rule one out: where PAMTs lie is not certain enough for that.
    """
    if log is None or not any(plans.values()):
        return None, ""
    if log.state is ModuleState.INITIALIZED:
        ruled_out = {s for s, plan in plans.items() if plan is not None and surely_fails(plan)}
        if not ruled_out:
            return None, ""
        left = set(Strategy) - ruled_out
        names = " and ".join(sorted(ruled_out))
        why = f"TDX came up in this boot, which it cannot under {names}{_overflow(plans, ruled_out)}."
        return left, why
    failed = log.failed_tdmr
    if log.state is not ModuleState.FAILED or log.reason is not FailureReason.RESERVED_AREAS or not failed:
        return None, ""
    known = {s: plan for s, plan in plans.items() if plan is not None}
    agreeing = {s for s, plan in known.items() if could_fail_at(plan, failed.start, failed.end)}
    unknown = set(Strategy) - set(known)
    bounds = show(*failed)
    if not agreeing:
        return (
            unknown,
            f"TDX failed at TDMR {bounds}, where it would not under {' and '.join(sorted(known))}.",
        )
    why = f"TDX failed at TDMR {bounds}, which has too many reserved areas under"
    others = " or ".join(sorted(set(known) - agreeing))
    but = f", and not under {others}" if others else ""
    return agreeing | unknown, f"{why} {' and '.join(sorted(agreeing))}{but}."


def _left(plan: Plan | None) -> int:
    """Areas left; what has no plan is the worst, since nothing is known of it."""
    if plan is None or plan.headroom is None:
        return -(1 << 32)
    return plan.headroom


def surely_fails(plan: Plan) -> bool:
    """Whether holes alone are too many in some TDMR."""
    return any((tdmr.needed_holes or 0) > tdmr.limit for tdmr in plan.tdmrs)


def could_fail_at(plan: Plan, start: int, end: int) -> bool:
    """Whether this TDMR can be the first whose areas run out, whatever place the PAMTs take."""
    for tdmr in plan.tdmrs:
        if (tdmr.base, tdmr.end) == (start, end):
            return (tdmr.needed_worst or 0) > tdmr.limit
        if (tdmr.needed_holes or 0) > tdmr.limit:
            return False
    return False


def _overflow(plans: Mapping[Strategy, Plan | None], ruled_out: set[Strategy]) -> str:
    """The TDMR that a strategy cannot do, for people."""
    plan = plans[min(ruled_out)]
    full: list[Tdmr] = [t for t in plan.tdmrs if (t.needed_holes or 0) > t.limit] if plan is not None else []
    if not full:
        return ""
    first = full[0]
    return f": TDMR {show(first.base, first.end)} has {first.needed_holes} holes, and takes {first.limit}"
