# SPDX-License-Identifier: Apache-2.0
"""Memory to give up by ``memmap=``: first so much that the plan fits, then so much that there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show_size
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence, describe
from tdx_headroom.verdict.remedies.moves import without
from tdx_headroom.verdict.remedies.search import Goal, search
from tdx_headroom.verdict.remedies.trial import arguments_for, is_left

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.remedies.search import Mended

_ON_THE_HOST = "`tdx-headroom remedy` on the host shows which"


def give_up(facts: HostFacts, plan: Plan) -> list[Remedy]:
    """The least memory to give up for each goal that the plan does not meet.

    Args:
        facts: of the host.
        plan: of it, under the strategy of its kernel.
    """
    found: list[Remedy] = []
    before: Mended | None = None
    for goal in Goal:
        if goal.is_met(plan) or (before is not None and goal.is_met(before.plan)):
            continue
        mended = search(facts, plan, goal)
        if mended is None or not is_left(
            facts, mended.ranges, without(facts, mended.ranges).memory_regions or ()
        ):
            continue
        found.append(_remedy(mended, plan, more=bool(found)))
        before = mended
    return found


def _remedy(mended: Mended, plan: Plan, *, more: bool) -> Remedy:
    arguments = arguments_for(mended.ranges)
    size, words = show_size(mended.bytes), " ".join(arguments)
    after = describe(mended.plan)
    if more:
        text = Sentence(
            f"For room to spare give up {size} instead: {words}. With that: {after}",
            public=f"For room to spare give up a little more in the same way. With that: {after}",
        )
    else:
        # The kernel goes through its arguments in order: what adds RAM has to come before.
        text = Sentence(
            f"Give up {size} of memory: {words} at the end of the kernel's command line, just so in"
            f" /etc/default/grub and in any boot entry: nothing in it needs quoting. With that: {after}",
            public="Give up a little memory with memmap= at the end of the kernel's command line:"
            f" {_ON_THE_HOST}. With that: {after}",
        )
    freed = None
    if plan.headroom is not None and mended.plan.headroom is not None:
        freed = mended.plan.headroom - plan.headroom
    return Remedy(
        RemedyKind.ADD_ARGUMENTS,
        text,
        arguments,
        freed,
        mended.bytes,
        computed=True,
        left=mended.plan.headroom,
    )
