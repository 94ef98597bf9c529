# SPDX-License-Identifier: Apache-2.0
"""Arguments on the command line that keep TDX up, by joining holes or splitting a TDMR."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tdx_headroom.facts.command_line import Action, map_edits
from tdx_headroom.facts.e820 import RAM, RESERVED
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.model import Sentence, describe
from tdx_headroom.verdict.remedies import is_let_in
from tdx_headroom.verdict.remedies.own import MAX_TRIED
from tdx_headroom.verdict.remedies.search import Goal
from tdx_headroom.verdict.remedies.trial import facts_without, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.command_line import MapEdit
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

NEEDED = "remedy-in-place"
SPARE = "remedy-not-needed"
KINDS = (NEEDED, SPARE)


def look(signs: Signs) -> Findings:
    """Each ``memmap=`` without which the plan would not fit, and those of the agent's own that do nothing."""
    plan = signs.plan
    if plan is None or not Goal.FITS.is_met(plan):
        return
    edits = (edit for edit in map_edits(signs.facts.command_line or ()) if edit.punches)
    spare: list[MapEdit] = []
    for edit in islice(edits, MAX_TRIED):
        if (found := _without(signs.facts, plan, [edit])) is None:
            continue
        changed, without = found
        if not Goal.FITS.is_met(without):
            text = f"keeps TDX up; without it: {describe(without)} Leave it there."
            yield Finding(NEEDED, NOTE, _told(edit, text))
        elif clause := is_let_in(signs.facts, plan, changed, without):
            yield Finding(NEEDED, NOTE, _told(edit, f"{clause}. Leave it there."))
        elif _is_ours(edit) and _are_spare(signs.facts, plan, [*spare, edit]):
            spare.append(edit)
            # Boots without it are not like this one: how far they spread is not known here.
            text = (
                f"is not needed with this boot's memory map; without it: {describe(without)} It may be there"
                " because maps differ from boot to boot: `tdx-headroom history` shows that."
            )
            yield Finding(SPARE, NOTE, _told(edit, text))


def _are_spare(facts: HostFacts, plan: Plan, edits: Sequence[MapEdit]) -> bool:
    """Whether there is room without all of these together, and they keep the kernel off nothing."""
    found = _without(facts, plan, edits)
    return found is not None and Goal.ROOMY.is_met(found[1]) and is_let_in(facts, plan, *found) is None


def _without(facts: HostFacts, plan: Plan, edits: Sequence[MapEdit]) -> tuple[HostFacts, Plan] | None:
    changed = facts_without(facts, edits)
    without = None if changed is None else planned(changed, plan.strategy)
    return None if changed is None or without is None else (changed, without)


def _told(edit: MapEdit, what: str) -> Sentence:
    return Sentence(
        f"{edit.argument} on the command line {what}", public=f"A memmap= on the command line {what}"
    )


def _is_ours(edit: MapEdit) -> bool:
    """Whether it is written as the agent proposes it: anything else may be there for a reason of its own."""
    return edit.action is Action.CONVERT and (edit.old, edit.new) == (RAM, RESERVED)
