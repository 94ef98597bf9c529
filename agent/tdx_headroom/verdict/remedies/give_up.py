# SPDX-License-Identifier: Apache-2.0
"""Memory to give up by ``memmap=``: first so much that the plan fits, then so much that there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show_size
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence, describe
from tdx_headroom.verdict.remedies.moves import without
from tdx_headroom.verdict.remedies.search import for_each_goal, search
from tdx_headroom.verdict.remedies.trial import arguments_for, is_left

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.remedies.search import Goal, Mended

_ON_THE_HOST = "`tdx-headroom remedy` on the host shows which"


def give_up(facts: HostFacts, plan: Plan) -> list[Remedy]:
    """The least memory to give up for each goal that the plan does not meet.

    Args:
        facts: of the host.
        plan: of it, under the strategy of its kernel.
    """
    found: list[Remedy] = []
    for mended in for_each_goal(facts, plan):
        if _is_left(facts, mended):
            found.append(_more(mended, plan) if found else _remedy(mended, plan))
    return found


def give_up_for_a_step(facts: HostFacts, plan: Plan, goal: Goal) -> list[Remedy]:
    """The least memory to give up so that one more step of what boots need fits, or what comes nearest.

    Args:
        facts: of the host.
        plan: of it, under the strategy of its kernel; it fits.
        goal: that has room for the step.
    """
    mended = search(facts, plan, goal, nearest=True)
    if mended is None or not _is_left(facts, mended):
        return []
    short = max(map(goal.excess, mended.plan.tdmrs))
    if short <= 0:
        return [_remedy(mended, plan, " so that one more such step fits")]
    areas = "1 reserved area is" if short == 1 else f"{short} reserved areas are"
    missing = f" For one more such step {areas} missing still; nothing was found that frees more."
    return [_remedy(mended, plan, missing=missing)]


def _is_left(facts: HostFacts, mended: Mended) -> bool:
    return is_left(facts, mended.ranges, without(facts, mended.ranges).memory_regions or ())


def _remedy(mended: Mended, plan: Plan, why: str = "", missing: str = "") -> Remedy:
    """The arguments, and what comes of them.

    Args:
        mended: what to give up.
        plan: without that.
        why: what it is for, where the finding does not say it.
        missing: what it does not give.
    """
    arguments = arguments_for(mended.ranges)
    size, words = show_size(mended.bytes), " ".join(arguments)
    after = f"With that: {describe(mended.plan)}{missing}"
    # The kernel goes through its arguments in order: what adds RAM has to come before.
    text = Sentence(
        f"Give up {size} of memory{why}: {words} at the end of the kernel's command line, just so in"
        f" /etc/default/grub and in any boot entry: nothing in it needs quoting. {after}",
        public=f"Give up a little memory with memmap= at the end of the kernel's command line{why}:"
        f" {_ON_THE_HOST}. {after}",
    )
    return _computed(mended, plan, text)


def _more(mended: Mended, plan: Plan) -> Remedy:
    """The same for room to spare, in the place of what only makes the plan fit."""
    size, words = show_size(mended.bytes), " ".join(arguments_for(mended.ranges))
    after = f"With that: {describe(mended.plan)}"
    text = Sentence(
        f"For room to spare give up {size} instead: {words}. {after}",
        public=f"For room to spare give up a little more in the same way. {after}",
    )
    return _computed(mended, plan, text)


def _computed(mended: Mended, plan: Plan, text: Sentence) -> Remedy:
    freed = None
    if plan.headroom is not None and mended.plan.headroom is not None:
        freed = mended.plan.headroom - plan.headroom
    return Remedy(
        RemedyKind.ADD_ARGUMENTS,
        text,
        arguments_for(mended.ranges),
        freed,
        mended.bytes,
        computed=True,
        left=mended.plan.headroom,
    )
