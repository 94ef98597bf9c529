# SPDX-License-Identifier: Apache-2.0
"""Changes that are tried before they are proposed: the plan with them must be the better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import FactsError
from tdx_headroom.host.memory_map import without_edits
from tdx_headroom.plan import plan_host
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence, State, describe, predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.facts.command_line import MapEdit
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy

MAX_TRIED = 16
"""No command line has more arguments than this that are worth a plan each."""

_RANK = {State.WILL_FAIL: 0, State.AT_RISK: 1, State.WILL_INITIALIZE: 2}
_NOT_LOOKED_AT = -(1 << 64)


def planned(facts: HostFacts, strategy: Strategy) -> Plan | None:
    """The plan under one strategy; None when the facts do not suffice for it, or do not fit together."""
    try:
        return plan_host(facts, (strategy,))[strategy]
    except FactsError:
        # Given PAMT bases belong to the TDMRs of the host as it is.
        return None


def quality(plan: Plan) -> tuple[int, int, int, int]:
    """How good a plan is; the larger is better."""
    short = sum(min(tdmr.headroom, 0) for tdmr in plan.tdmrs if tdmr.headroom is not None)
    least, worst = plan.headroom, plan.headroom_worst
    if least is None or worst is None:
        return _RANK[predict(plan)], _NOT_LOOKED_AT, _NOT_LOOKED_AT, _NOT_LOOKED_AT
    return _RANK[predict(plan)], short, least, worst


def own_holes(facts: HostFacts, plan: Plan, holes: Sequence[Range]) -> list[Remedy]:
    """``memmap=`` arguments that make one of the holes and without which the plan is better.

    An argument may well be what keeps the host alive: it joins two holes, and taken away makes two of one.
    """
    edits = [edit for edit in map_edits(facts.command_line or ()) if edit.punches and _touches(edit, holes)]
    found, without = _best(facts, plan, edits[:MAX_TRIED])
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
    return [Remedy(RemedyKind.REMOVE_ARGUMENTS, text, arguments, freed, bytes_given_up=0, computed=True)]


def _best(facts: HostFacts, plan: Plan, edits: Sequence[MapEdit]) -> tuple[list[MapEdit], Plan]:
    """The edits to take away, none when that makes nothing better, and the plan without them."""
    alone = []
    for edit in edits:
        tried = _plan_without(facts, plan, [edit])
        if tried is not None and quality(tried) > quality(plan):
            alone.append((quality(tried), edit))
    chosen: list[MapEdit] = []
    best = plan
    for _, edit in sorted(alone, key=lambda pair: pair[0], reverse=True):
        if predict(best) is State.WILL_INITIALIZE:
            break
        tried = _plan_without(facts, plan, [*chosen, edit])
        if tried is not None and quality(tried) > quality(best):
            chosen, best = [*chosen, edit], tried
    if not chosen and len(edits) > 1:
        # Two that touch make one hole.
        tried = _plan_without(facts, plan, edits)
        if tried is not None and quality(tried) > quality(plan):
            return list(edits), tried
    return chosen, best


def _plan_without(facts: HostFacts, plan: Plan, edits: Sequence[MapEdit]) -> Plan | None:
    changed = without_edits(facts, edits)
    return None if changed is None else planned(changed, plan.strategy)


def _touches(edit: MapEdit, holes: Sequence[Range]) -> bool:
    start, end = edit.range
    return any(hole.start < end and start < hole.end for hole in holes)


def _name(edit: MapEdit) -> str:
    """The argument as it stands there, or what of it."""
    alone = edit.argument == edit.whole.replace('"', "")
    return edit.whole if alone else f"{edit.argument} (part of {edit.whole})"
