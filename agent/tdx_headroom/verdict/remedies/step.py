# SPDX-License-Identifier: Apache-2.0
"""What to do about TDMRs that need another number of reserved areas in each boot: room for one more step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tdx_headroom.address import Range
from tdx_headroom.verdict.findings import Remedy
from tdx_headroom.verdict.model import AT_RISK_HEADROOM
from tdx_headroom.verdict.remedies.give_up import give_up_for_a_step
from tdx_headroom.verdict.remedies.own import own_holes
from tdx_headroom.verdict.remedies.search import Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.findings import Signs


def for_step(signs: Signs, plan: Plan, most: Mapping[Range, int]) -> tuple[Remedy, ...]:
    """What to change so that one more step fits; nothing where the host is at risk for less, and that helps.

    A step is about as large whatever is given up beside it. So as many areas as are between this boot's need
    and the most after a step have to be left: in each part of such a TDMR, where it is split.

    Args:
        signs: about the host.
        plan: that fits.
        most: what each of these TDMRs needs after one more step.
    """
    if signs.log_is_to_blame or not signs.asks_what_to_do:
        return ()
    needed = {Range(tdmr.base, tdmr.end): tdmr.needed for tdmr in plan.tdmrs}
    spare = tuple((tdmr, count - (needed.get(tdmr) or 0)) for tdmr, count in most.items())
    if not Goal.ROOMY.is_met(plan) and all(count <= AT_RISK_HEADROOM + 1 for _, count in spare):
        return ()
    goal = Goal(roomy=True, spare=spare)
    parts: tuple[tuple[str, Callable[[], list[Remedy]]], ...] = (
        ("which holes the command line makes", partial(own_holes, signs.facts, plan, goal)),
        ("which memory to give up for one more step", partial(give_up_for_a_step, signs.facts, plan, goal)),
    )
    found: tuple[Remedy, ...] = ()
    for name, make in parts:
        found += tuple(signs.guard.part(f"remedies ({name})", make, list[Remedy]()))
    return found
