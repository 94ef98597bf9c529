# SPDX-License-Identifier: Apache-2.0
"""What of the command line makes holes and had better go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence, describe
from tdx_headroom.verdict.remedies.moves import holes_of
from tdx_headroom.verdict.remedies.search import Goal
from tdx_headroom.verdict.remedies.trial import plan_without, quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.command_line import MapEdit
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

MAX_TRIED = 16
"""No command line has more arguments than this that are worth a plan each."""


def own_holes(facts: HostFacts, plan: Plan, goal: Goal) -> list[Remedy]:
    """``memmap=`` arguments that make a hole in a crowded TDMR and without which the goal is met.

    An argument may well be what keeps the host alive: it joins two holes, or splits a TDMR. So the line
    without it is put through the map of the next boot; where that cannot be told, nothing is proposed.

    Args:
        facts: of the host.
        plan: of it.
        goal: that the plan does not meet.
    """
    holes = [hole for tdmr in plan.tdmrs if goal.excess(tdmr) > 0 for hole in holes_of(tdmr)]
    edits = [
        edit
        for edit in map_edits(facts.command_line or ())
        if edit.punches and any(hole.start < edit.range.end and edit.range.start < hole.end for hole in holes)
    ]
    found, without = _best(facts, plan, edits[:MAX_TRIED], goal)
    if not found:
        return []
    outcome = describe(without)
    named = ", ".join(_name(edit) for edit in found)
    it = "it" if len(found) == 1 else "them"
    text = Sentence(
        f"Take {named} off the command line; without {it}: {outcome}",
        public=f"Take {len(found)} memmap= off the command line, which makes holes: `tdx-headroom plan`"
        f" on the host shows which. Without {it}: {outcome}",
    )
    # Neither is known where a plan does not come to its reserved areas.
    freed = (
        None if None in (plan.headroom, without.headroom) else (without.headroom or 0) - (plan.headroom or 0)
    )
    arguments = tuple(edit.argument for edit in found)
    return [
        Remedy(
            RemedyKind.REMOVE_ARGUMENTS,
            text,
            arguments,
            freed,
            bytes_given_up=0,
            computed=True,
            left=without.headroom,
        )
    ]


def _best(facts: HostFacts, plan: Plan, edits: Sequence[MapEdit], goal: Goal) -> tuple[list[MapEdit], Plan]:
    """The edits to take away, none when that does not lead to the goal, and the plan without them.

    It costs no memory, so it goes on until there is room to spare.
    """
    wanted = goal if goal.roomy else Goal.ROOMY
    alone = []
    for edit in edits:
        tried = plan_without(facts, plan.strategy, [edit])
        if tried is not None and quality(tried) > quality(plan):
            alone.append((quality(tried), edit))
    chosen: list[MapEdit] = []
    best = plan
    for _, edit in sorted(alone, key=lambda pair: pair[0], reverse=True):
        if wanted.is_met(best):
            break
        tried = plan_without(facts, plan.strategy, [*chosen, edit])
        if tried is not None and quality(tried) > quality(best):
            chosen, best = [*chosen, edit], tried
    if not goal.is_met(best) and len(edits) > 1:
        # Two that touch make one hole.
        tried = plan_without(facts, plan.strategy, edits)
        if tried is not None:
            chosen, best = list(edits), tried
    return (chosen, best) if goal.is_met(best) else ([], plan)


def _name(edit: MapEdit) -> str:
    """The argument as it stands there, or what of it."""
    alone = edit.argument == edit.whole.replace('"', "")
    return edit.whole if alone else f"{edit.argument} (part of {edit.whole})"
