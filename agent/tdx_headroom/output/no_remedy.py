# SPDX-License-Identifier: Apache-2.0
"""What is said under "What to do" where nothing is proposed: that all is well, or what else to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.output.boots_card import next_boot_state
from tdx_headroom.output.boots_report import new_remedies
from tdx_headroom.verdict import State
from tdx_headroom.verdict.obstacles import other_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.verdict.assessment import Assessment


def no_remedy(assessment: Assessment, *, warned: bool = True) -> str | None:
    """What to say where there is nothing to propose for this kernel.

    Args:
        assessment: of any host.
        warned: whether the verdict's warnings are shown beside it.
    """
    verdict, coming = assessment.verdict, next_boot_state(assessment)
    if verdict.state is State.NOT_TDX:
        return None
    if verdict.state is State.CANNOT_TELL:
        return f"Give the agent what is missing: see {'below' if verdict.missing else 'above'}."
    calm = verdict.state in (State.INITIALIZED, State.WILL_INITIALIZE) and verdict.next_boot in (
        State.WILL_INITIALIZE,
        None,
    )
    if not calm:
        return "No remedy is known."
    if coming in (None, State.WILL_INITIALIZE):
        return " ".join(["Nothing.", *_elsewhere(assessment, warned=warned)])
    if coming is State.CANNOT_TELL:
        return "Find out what boots next, see below. Under this kernel nothing has to be done."
    if new_remedies(assessment, told=()):
        return None
    return "For the next boot no remedy is known; under this kernel nothing has to be done."


def _elsewhere(assessment: Assessment, *, warned: bool) -> Iterator[str]:
    """How a host that is well would fare with other kernels, and with those that are installed."""
    verdict, plans = assessment.verdict, assessment.plans
    others = [plan for strategy, plan in plans.items() if strategy is not verdict.strategy]
    left = [plan.headroom for plan in others if plan is not None and plan.headroom is not None]
    if risks := [finding.text for finding in verdict.findings if finding.kind == other_kernels.KIND]:
        yield "Another kernel would be a risk: see above." if warned else " ".join(risks)
    elif left:
        areas = "area" if min(left) == 1 else "areas"
        yield f"Under kernels that look for holes in another way it fits, too, with {min(left)} {areas} left."
    if None in others:
        missing = "memory regions" if assessment.facts.memory_regions is None else "CMRs"
        yield f"How it would fare under some other kernels is unknown, since the {missing} are."
    boots = assessment.boots or ()
    well = sum(boot.state is State.WILL_INITIALIZE for boot in boots)
    if len(boots) > 1:
        yield f"TDX comes up with {'all' if well == len(boots) else f'{well} of'} {len(boots)} boot entries."
