# SPDX-License-Identifier: Apache-2.0
"""Where the agent expects PAMTs, and where the kernel put them. Measured only: a run does not fail by it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import AgentError
from tdx_headroom.facts.host_facts import Placement
from tdx_headroom.plan import Strategy, plan_host
from tdx_headroom.verdict.model import State, predict
from tests.kernel import agent

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tests.kernel.store import Case


@dataclass(frozen=True, slots=True)
class Places:
    """The plan with predicted places, beside the kernel's.

    Args:
        predicted: the places that the agent expects, in TDMR order; None where it names none.
        real: the places that the kernel chose; None where it found no room.
        tdmrs: the TDMRs that each real PAMT touches, and those that the predicted one does.
        in_range: whether every TDMR needs, with the real places, from its holes alone to its worst case.
        same_areas: whether every TDMR needs as many areas as with the real places.
        same_outcome: whether the errno is the same as with the real places.
        foretold: the verdict on the plan with predicted places.
        left: areas left in the fullest TDMR then, as predicted and at worst; None: no such number.
        came_up: whether TDX came up.
    """

    predicted: tuple[int | None, ...]
    real: tuple[int | None, ...]
    tdmrs: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    in_range: bool
    same_areas: bool
    same_outcome: bool
    foretold: State
    left: tuple[int | None, int | None]
    came_up: bool

    @property
    def exact(self) -> int:
        """PAMTs that are where the agent expects them."""
        return sum(a is not None and a == b for a, b in zip(self.predicted, self.real, strict=False))

    @property
    def right_tdmr(self) -> int:
        """PAMTs that lie in the TDMRs in which the agent expects them."""
        return sum(real == predicted for real, predicted in self.tdmrs)


def check_places(case: Case, facts: HostFacts) -> Places | None:
    """Plan with predicted places; None when the kernel allocated no PAMT, or had no room for one."""
    truth = case.truth
    if truth is None or not truth.allocations or truth.no_room:
        return None
    given = agent.with_module(facts, case.guest.module)
    planner = agent.planner(case.guest.strategy)
    strategy = Strategy(case.guest.strategy)
    try:
        real = planner(agent.with_places(given, truth, planner))
        plan = plan_host(replace(given, pamt_placement=Placement.PREDICTED), (strategy,))[strategy]
        predicted = planner(replace(given, pamt_placement=Placement.PREDICTED))
    except AgentError:
        return None  # compare() has reported it
    if real is None or predicted is None or plan is None:
        return None
    bounds = [(tdmr["base"], tdmr["base"] + tdmr["size"]) for tdmr in real["tdmrs"]]
    needed = [[tdmr["needed"] for tdmr in plan["tdmrs"]] for plan in (real, predicted)]
    return Places(
        predicted=tuple(tdmr["pamt"]["base"] for tdmr in predicted["tdmrs"]),
        real=tuple(allocation.at for allocation in truth.allocations),
        tdmrs=tuple(
            (_touched(bounds, a["pamt"]), _touched(bounds, b["pamt"]))
            for a, b in zip(real["tdmrs"], predicted["tdmrs"], strict=True)
        ),
        in_range=all(
            None in (a["needed"], b["needed_worst"]) or b["needed_holes"] <= a["needed"] <= b["needed_worst"]
            for a, b in zip(real["tdmrs"], predicted["tdmrs"], strict=True)
        ),
        same_areas=needed[0] == needed[1],
        same_outcome=real["errno"] == predicted["errno"],
        foretold=predict(plan),
        left=(plan.headroom, plan.headroom_worst),
        came_up=truth.initialized,
    )


def _touched(bounds: list[tuple[int, int]], pamt: dict[str, Any]) -> tuple[int, ...]:
    """Indexes of the TDMRs that a PAMT lies in."""
    base = pamt["base"]
    if base is None:
        return ()
    end = base + pamt["size_4k"] + pamt["size_2m"] + pamt["size_1g"]
    return tuple(i for i, (low, high) in enumerate(bounds) if base < high and end > low)
