# SPDX-License-Identifier: Apache-2.0
"""The least memory to give up so that a host's plan fits: what can be given up is tried, cheapest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heappop, heappush
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from tdx_headroom.address import PAGE, Range, union
from tdx_headroom.kept import KEPT
from tdx_headroom.plan import Outcome
from tdx_headroom.plan.shared import may_be_kept, what_counts
from tdx_headroom.verdict.model import AT_RISK_HEADROOM, State, predict
from tdx_headroom.verdict.remedies.moves import (
    MAX_GIVEN_UP,
    Memory,
    crowded_gib,
    islands,
    joins,
    moves,
    without,
)
from tdx_headroom.verdict.remedies.trial import planned, quality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.remedies.moves import Move

MAX_PLANS = 400
"""So many plans are made at most."""

MAX_SPLITS = 200
"""So many of them give up no more than a page an argument: sets of borders to split at are many and cheap."""

MAX_REGIONS = 200_000
"""So many memory regions they have at most, all together: hosts with very many get fewer plans."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What giving up memory is to lead to.

    Args:
        roomy: whether the host is not to be at risk; otherwise it is enough that TDX comes up by the plan.
        spare: ranges of memory, and so many areas as each TDMR in them has to have left.
    """

    FITS: ClassVar[Goal]
    """TDX comes up by the plan."""
    ROOMY: ClassVar[Goal]
    """It comes up, and the host is not at risk."""

    roomy: bool
    spare: tuple[tuple[Range, int], ...] = ()

    def is_met(self, plan: Plan) -> bool:
        """Whether a plan is good enough."""
        if not self.roomy:
            return plan.outcome is Outcome.OK
        return predict(plan) is State.WILL_INITIALIZE and self.short(plan) == 0

    def short(self, plan: Plan) -> int:
        """How many areas are too many in all TDMRs together."""
        return sum(max(self.excess(tdmr), 0) for tdmr in plan.tdmrs)

    def excess(self, tdmr: Tdmr) -> int:
        """How many areas too many a TDMR has."""
        needed, worst = tdmr.needed or 0, tdmr.needed_worst or 0
        if not self.roomy:
            return needed - tdmr.limit
        return max(needed + self.left(tdmr), worst) - tdmr.limit

    def left(self, tdmr: Tdmr) -> int:
        """So many areas a TDMR has to have left."""
        spare = (count for place, count in self.spare if place.start < tdmr.end and tdmr.base < place.end)
        return max((AT_RISK_HEADROOM + 1, *spare)) if self.roomy else 0


Goal.FITS = Goal(roomy=False)
Goal.ROOMY = Goal(roomy=True)


class Mended(NamedTuple):
    """Memory to give up, and what comes of it.

    Args:
        ranges: an argument each, by address; between what is given up in one there are holes only.
        bytes: of memory in them.
        plan: without it.
    """

    ranges: tuple[Range, ...]
    bytes: int
    plan: Plan


class _Step(NamedTuple):
    """What is given up so far."""

    ranges: tuple[Range, ...]
    cost: int

    @property
    def order(self) -> tuple[int, int]:
        """By which the better is tried first: memory, then arguments."""
        return self.cost, len(self.ranges)

    @property
    def only_splits(self) -> bool:
        """Whether it is pages only."""
        return self.cost <= PAGE * len(self.ranges)


def search(facts: HostFacts, plan: Plan, goal: Goal, *, nearest: bool = False) -> Mended | None:
    """The cheapest memory to give up for a goal; None where none is found. The last results are kept.

    Every TDMR that has too many areas is treated, and after each step the whole plan is made anew: a split
    takes another PAMT, which may lie in any TDMR.

    Args:
        facts: of the host, its memory regions known.
        plan: of it.
        goal: that the plan does not meet.
        nearest: whether to go as far as can be, where the goal is out of reach and the plan fits already.
    """
    asked = replace(what_counts(facts), suspects=facts.suspects, command_line=facts.command_line)
    return (_kept if may_be_kept(asked) else _search)(asked, plan, goal, nearest=nearest)


def _search(facts: HostFacts, plan: Plan, goal: Goal, *, nearest: bool) -> Mended | None:
    memory = Memory(facts)
    most = min(MAX_PLANS, 1 + MAX_REGIONS // (len(memory.ranges) + 1))
    queue: list[tuple[int, int, int, _Step]] = []
    seen: set[tuple[Range, ...]] = set()
    best: tuple[_Step, Plan] | None = None
    near: tuple[_Step, Plan] = _Step((), 0), plan
    _push(queue, seen, _Step((), 0))
    plans = splits = 0
    while queue and plans < most and (best is None or queue[0][:2] <= best[0].order):
        step = heappop(queue)[-1]
        splits += step.only_splits
        if step.only_splits and splits > MAX_SPLITS:
            continue
        plans += 1
        changed = without(facts, step.ranges)
        tried = planned(changed, plan.strategy) if step.ranges else plan
        if tried is None:
            continue
        if goal.is_met(tried):
            if best is None or _is_better(tried, best[1]):
                best = step, tried
        elif best is None:
            if goal.short(tried) < goal.short(near[1]) and not _is_worse(tried, plan):
                near = step, tried
            for moves in _moves(memory, changed, tried, goal, step):
                _push(queue, seen, _after(memory, step, moves))
    if best is None and nearest and near[0].ranges:
        best = near
    return None if best is None else Mended(best[0].ranges, best[0].cost, best[1])


_kept = lru_cache(KEPT)(_search)


def for_each_goal(facts: HostFacts, plan: Plan) -> Iterator[Mended]:
    """The cheapest memory to give up so that a plan fits, then so that there is room, where that takes more.

    Args:
        facts: of the host, its memory regions known.
        plan: of it.
    """
    for goal in (Goal.FITS, Goal.ROOMY):
        if not goal.is_met(plan):
            mended = search(facts, plan, goal)
            if mended is not None:
                yield mended
                if Goal.ROOMY.is_met(mended.plan):
                    return


def _is_worse(plan: Plan, other: Plan) -> bool:
    """Whether what a plan foretells is worse."""
    return quality(plan)[0] < quality(other)[0]


def _is_better(plan: Plan, other: Plan) -> bool:
    """Which of two plans at the same price: more room, then fewer TDMRs."""
    return (quality(plan), -plan.tdmrs_needed) > (quality(other), -other.tdmrs_needed)


def _moves(memory: Memory, facts: HostFacts, plan: Plan, goal: Goal, step: _Step) -> list[Sequence[Move]]:
    """What to give up next, each together; nothing where it is no TDMR that keeps the plan from its goal."""
    if plan.outcome is Outcome.TDMRS:
        return [[move] for move in islands(memory, facts, step.ranges)[:1]]
    crowded = next((tdmr for tdmr in plan.tdmrs if goal.excess(tdmr) > 0), None)
    if plan.outcome not in (Outcome.OK, Outcome.RESERVED_AREAS) or crowded is None:
        return []
    return _of_tdmr(memory, plan, crowded, goal, step)


def _of_tdmr(memory: Memory, plan: Plan, tdmr: Tdmr, goal: Goal, step: _Step) -> list[Sequence[Move]]:
    cell, count = crowded_gib(tdmr)
    joins_needed = count + goal.left(tdmr) - tdmr.limit
    if joins_needed <= 0:
        return [[move] for move in moves(memory, plan, tdmr, step.ranges)]
    # No split helps there: so many joins it takes, whatever else is done. Or the TDMR goes as a whole.
    all_joins = joins(memory, plan, tdmr, step.ranges)
    inside = [move for move in all_joins if cell.start <= move.range.start < cell.end]
    cheapest = _affordable(inside[:joins_needed], MAX_GIVEN_UP - step.cost)
    whole = memory.move(tdmr.base, tdmr.end, step.ranges)
    return [together for together in (cheapest, [whole] if whole is not None else []) if together]


def _affordable(found: Sequence[Move], most: int) -> Sequence[Move]:
    """The first of some moves that cost no more than ``most`` bytes together."""
    costs = accumulate(move.cost for move in found)
    return found[: sum(cost <= most for cost in costs)]


def _after(memory: Memory, step: _Step, moves: Sequence[Move]) -> _Step:
    ranges = union([*step.ranges, *(move.range for move in moves)])
    return _Step(memory.merged(ranges), step.cost + sum(move.cost for move in moves))


def _push(queue: list[tuple[int, int, int, _Step]], seen: set[tuple[Range, ...]], step: _Step) -> None:
    if step.ranges in seen or step.cost > MAX_GIVEN_UP:
        return
    seen.add(step.ranges)
    heappush(queue, (*step.order, len(seen), step))
