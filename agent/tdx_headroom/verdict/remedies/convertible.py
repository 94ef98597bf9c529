# SPDX-License-Identifier: Apache-2.0
"""What to do about memory that no CMR has, or no single one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from tdx_headroom.address import (
    PAGE,
    Containment,
    Range,
    intersect,
    overlap,
    page_round,
    show_size,
    total,
    union,
)
from tdx_headroom.boots.map_risks import MapRisk, argument_risks, set_aside
from tdx_headroom.plan import Strategy
from tdx_headroom.plan.regions import in_no_single, not_convertible, tdx_memory_list
from tdx_headroom.plan.zones import MOVABLE
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence, describe
from tdx_headroom.verdict.remedies.moves import Memory, without
from tdx_headroom.verdict.remedies.search import Goal, Mended, for_each_goal
from tdx_headroom.verdict.remedies.set_aside import kernels_own
from tdx_headroom.verdict.remedies.trial import arguments_for, is_left, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

MAX_ARGUMENTS = 33
"""What 32 CMRs, the most that a module has reported, leave between them and at both ends."""

MAX_PIECES = 200
"""More of them are no host's, and would only take time."""

_ASKED_FOR = frozenset(
    {
        MapRisk.GIGANTIC_PAGES,
        MapRisk.CMA,
        MapRisk.CRASH_KERNEL,
        MapRisk.RESERVED_MEMORY,
        MapRisk.HANDOVER,
    }
)
"""What an argument sets aside in large pieces."""

_OUTSIDE = "outside every CMR"
_APART = "outside every CMR and beside borders between CMRs"


def refused_regions(facts: HostFacts, strategy: Strategy) -> list[Range]:
    """The memory regions that this kernel may refuse since no single CMR holds them; none for most kernels.

    The patches that refuse them (2024, not merged) are known by the message that the kernel's image has too;
    which of them a kernel has, it does not show.

    Args:
        facts: of the host.
        strategy: of its kernel.
    """
    walks = facts.traits is not None and facts.traits.walks_cmrs
    if not walks or strategy is not Strategy.CMR_WALK or facts.cmrs is None:
        return []
    return in_no_single(tdx_memory_list(facts.memory_regions or ()), facts.cmrs)


def is_let_in(facts: HostFacts, plan: Plan, changed: HostFacts, without: Plan) -> str | None:
    """What an argument keeps the kernel off, by the facts and plan without it, a clause; None: nothing.

    A plan may fit with memory that no CMR has: then it is guests that fail.
    """
    if (without.not_convertible_bytes or 0) > (plan.not_convertible_bytes or 0):
        return "keeps the kernel off memory that no CMR has"
    before, after = (total(refused_regions(f, plan.strategy)) for f in (facts, changed))
    return "keeps each memory region in a single CMR" if after > before else None


def keep_off(facts: HostFacts, strategy: Strategy, least: Goal = Goal.FITS) -> list[Remedy]:
    """To keep the kernel off all memory outside the CMRs, and off what makes the rest fit.

    Without that memory TDMRs may have more holes than before, or lie elsewhere: what is too much then is
    searched as for any other plan.

    Args:
        facts: of the host.
        strategy: of its kernel.
        least: what has to come of it.
    """
    return [] if not facts.cmrs else _without(facts, strategy, _outside(facts), _OUTSIDE, least)


def keep_apart(facts: HostFacts, strategy: Strategy) -> list[Remedy]:
    """The same where each memory region has to lie in one CMR: a page less where CMRs touch parts them there.

    Args:
        facts: of the host.
        strategy: of its kernel.
    """
    if not facts.cmrs:
        return []
    borders = _borders(facts)
    pieces = union([*_outside(facts), *borders])
    if len(pieces) > MAX_PIECES:
        return []
    changed = tdx_memory_list(without(facts, pieces).memory_regions or ())
    if in_no_single(changed, facts.cmrs):
        return []
    return _without(facts, strategy, pieces, _APART if borders else _OUTSIDE, Goal.FITS)


def _outside(facts: HostFacts) -> list[Range]:
    regions = tdx_memory_list(facts.memory_regions or ())
    return page_round(not_convertible(regions, facts.cmrs or ()))


def _borders(facts: HostFacts) -> list[Range]:
    """The page below each place inside a memory region where two CMRs touch."""
    inside = Containment((r.start, r.end) for r in tdx_memory_list(facts.memory_regions or ()))
    touching = [
        second for (base, size), (second, _) in pairwise(sorted(facts.cmrs or ())) if base + size == second
    ]
    return [Range(at - PAGE, at) for at in touching if inside.holds(at - PAGE, at + PAGE)]


def _without(
    facts: HostFacts, strategy: Strategy, pieces: Sequence[Range], where: str, least: Goal
) -> list[Remedy]:
    """The arguments that keep the kernel off these pieces, so that the rest fits, and with room to spare."""
    if not 0 < len(pieces) <= MAX_PIECES:
        return []
    memory = Memory(facts)
    stays = _stays(facts, memory)
    if stays is None or overlap(pieces, stays):
        return []
    changed = without(facts, pieces)
    tried = planned(changed, strategy)
    if tried is None:
        return []
    alone = [Mended((), 0, tried)] if Goal.FITS.is_met(tried) else []
    found: list[Remedy] = []
    for mended in (*alone, *for_each_goal(changed, tried)):
        ranges = memory.merged(union([*pieces, *mended.ranges]))
        left = without(facts, ranges)
        is_good = least.is_met(mended.plan) and len(ranges) <= MAX_ARGUMENTS
        if is_good and _is_enough(left) and is_left(facts, ranges, left.memory_regions or ()):
            found.append(_remedy(ranges, total(pieces), where, mended, for_room=bool(found)))
    return found


def _stays(facts: HostFacts, memory: Memory) -> Sequence[Range] | None:
    """What must stay; None where that cannot be told.

    Memory outside the CMRs is most often that of a node, or the end of one: there boot has reserved the
    struct pages of that very memory (``sparse_init_nid()``), and what else it takes from the top. That finds
    another place, other than what an argument has asked for.
    """
    if facts.command_line is None:
        return memory.kept
    if _ASKED_FOR.isdisjoint(argument_risks(facts.command_line)):
        return memory.never
    return None if facts.reserved is None else memory.kept


def _is_enough(facts: HostFacts) -> bool:
    """Whether there is memory for the kernel beside what is set aside, and beside what is movable.

    Args:
        facts: with what is left.
    """
    regions = [(region.start, region.end) for region in facts.memory_regions or ()]
    movable = ((zone.start, zone.end) for zone in facts.zones or () if zone.name == MOVABLE)
    aside = max(set_aside(facts.command_line or ()), facts.hugetlb_bytes or 0)
    taken = max(aside, total(intersect(regions, movable)))
    memory = total(regions)
    return memory >= taken + kernels_own(memory)


def _remedy(ranges: Sequence[Range], size: int, where: str, mended: Mended, *, for_room: bool) -> Remedy:
    """The arguments, and what comes of them.

    Args:
        ranges: to keep off, an argument each.
        size: bytes of memory in the pieces that have to go in any case.
        where: those pieces are.
        mended: what is given up besides.
        for_room: whether this is for room to spare, in the place of what only makes the plan fit.
    """
    arguments = arguments_for(ranges)
    start, end = ("For room to spare keep", " instead") if for_room else ("Keep", "")
    after = f"With that: {describe(mended.plan)}"
    also = f" and off {show_size(mended.bytes)} beside them" if mended.bytes else ""
    little = " and off a little more" if mended.bytes else ""
    text = Sentence(
        f"{start} the kernel off the {show_size(size)} {where}{also}{end}: {' '.join(arguments)} at the end"
        f" of its command line. {after}",
        public=f"{start} the kernel off the memory {where}{little}{end} with memmap= at the end of its"
        f" command line: `tdx-headroom remedy` on the host shows which. {after}",
    )
    return Remedy(
        RemedyKind.ADD_ARGUMENTS,
        text,
        arguments,
        None,
        size + mended.bytes,
        computed=True,
        left=mended.plan.headroom,
    )
