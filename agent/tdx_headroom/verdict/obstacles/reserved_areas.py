# SPDX-License-Identifier: Apache-2.0
"""A TDMR with too many reserved areas, or with hardly any left."""

from __future__ import annotations

from tdx_headroom.verdict.evidence import surely_fails
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Signs
from tdx_headroom.verdict.model import State, describe
from tdx_headroom.verdict.remedies.areas import for_areas

FEW = "few-reserved-areas"
KINDS = ("reserved-areas", FEW)


def look(signs: Signs) -> Findings:
    """The fullest TDMR; holes alone may be too many."""
    plan = signs.plan
    if plan is None or signs.predicted is State.WILL_INITIALIZE:
        return
    if plan.failed_tdmr is not None:
        tdmr = plan.tdmrs[plan.failed_tdmr]
        certainty = Certainty.HOLES if surely_fails(plan) else Certainty.PLAN
        figures = {"needed": tdmr.needed or 0, "limit": tdmr.limit}
        found = for_areas(signs, plan)
        yield Finding("reserved-areas", FAILS, describe(plan), figures, found, certainty)
    elif signs.predicted is State.AT_RISK:
        left, worst = plan.headroom or 0, plan.headroom_worst or 0
        figures = {"left": left, "left_at_worst": worst}
        found = for_areas(signs, plan)
        # docs/ground-truth.md has how many such maps came up, for each of the two reasons.
        why = "Where PAMTs land may break it." if worst < 0 else "A change of the memory map may break it."
        yield Finding(FEW, RISK, f"{describe(plan)} {why}", figures, found)
