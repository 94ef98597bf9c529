# SPDX-License-Identifier: Apache-2.0
"""A remedy put through the next boot's own memory map, as the kernel makes it of the firmware's."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, page_round, subtract
from tdx_headroom.boots.map_risks import placing_arguments
from tdx_headroom.facts.command_line import map_edits, punch
from tdx_headroom.facts.host_facts import FactsError, HostFacts
from tdx_headroom.kept import KEPT
from tdx_headroom.plan import plan_host
from tdx_headroom.plan.shared import may_be_kept
from tdx_headroom.verdict.model import State, predict
from tdx_headroom.verdict.staged import facts_under

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.facts.command_line import MapEdit
    from tdx_headroom.facts.host_facts import MemoryRegion
    from tdx_headroom.facts.observations import Zone
    from tdx_headroom.plan import Plan, Strategy

_RANK = {State.WILL_FAIL: 0, State.AT_RISK: 1, State.WILL_INITIALIZE: 2}
_NOT_LOOKED_AT = -(1 << 64)


def under(facts: HostFacts, arguments: Sequence[str]) -> HostFacts | None:
    """The facts in a boot of this kernel with another command line.

    None where its memory map cannot be told: the firmware's map or the present line is unknown, or does not
    explain the memory that there is now.

    Args:
        facts: of the host, or of a boot of it.
        arguments: of the other line, as far as they matter for TDX or memory.
    """
    if None in (facts.firmware_map, facts.command_line, facts.memory_regions):
        return None
    changed, staged = facts_under(facts, facts.kernel_release, tuple(arguments))
    if not staged.reproduced or changed.memory_regions is None:
        return None
    return replace(
        changed,
        kernel_log=facts.kernel_log,
        reserved=facts.reserved,
        placement_source=facts.placement_source,
        zones=changed.zones or _zones_of(facts, changed),
    )


def planned(facts: HostFacts, strategy: Strategy) -> Plan | None:
    """The plan under one strategy; None when the facts do not suffice for it, or do not fit together."""
    try:
        return plan_host(facts, (strategy,))[strategy]
    except FactsError:
        # Given PAMT bases belong to the TDMRs of the host as it is.
        return None


def facts_without(facts: HostFacts, edits: Collection[MapEdit]) -> HostFacts | None:
    """The facts without some of what ``memmap=`` does; None where the memory map cannot be told then."""
    return under(facts, arguments_without(facts.command_line or (), edits))


def plan_without(facts: HostFacts, strategy: Strategy, edits: Collection[MapEdit]) -> Plan | None:
    """The plan of :func:`facts_without`."""
    changed = facts_without(facts, edits)
    return None if changed is None else planned(changed, strategy)


def quality(plan: Plan) -> tuple[int, int, int, int]:
    """How good a plan is; the larger is better."""
    short = sum(min(tdmr.headroom, 0) for tdmr in plan.tdmrs if tdmr.headroom is not None)
    least, worst = plan.headroom, plan.headroom_worst
    if least is None or worst is None:
        return _RANK[predict(plan)], _NOT_LOOKED_AT, _NOT_LOOKED_AT, _NOT_LOOKED_AT
    return _RANK[predict(plan)], short, least, worst


def is_left(facts: HostFacts, given_up: Sequence[Range], regions: Sequence[MemoryRegion]) -> bool:
    """Whether a boot with the arguments that give up memory has the memory that it is expected to have.

    It has not where the kernel's image lies in what is given up, where a built-in line replaces the loader's,
    or where the line grows too long. Where the next map cannot be told, nothing speaks against it. The last
    answers are kept.

    Args:
        facts: of the host.
        given_up: an argument each.
        regions: the memory that is expected.
    """
    asked = _what_makes_the_map(facts), tuple(given_up), tuple(regions)
    return (_kept if may_be_kept(*asked) else _is_left)(*asked)


def _is_left(facts: HostFacts, given_up: tuple[Range, ...], regions: tuple[MemoryRegion, ...]) -> bool:
    changed = under(facts, (*(facts.command_line or ()), *arguments_for(given_up)))
    return changed is None or _pages(changed.memory_regions or ()) == _pages(regions)


_kept = lru_cache(KEPT)(_is_left)


def _what_makes_the_map(facts: HostFacts) -> HostFacts:
    """The facts that a boot's memory under another line is made of, without all others."""
    return HostFacts(
        kernel_release=facts.kernel_release,
        memory_regions=facts.memory_regions,
        memory_source=facts.memory_source,
        suspects=facts.suspects,
        firmware_map=facts.firmware_map,
        command_line=facts.command_line,
        traits=facts.traits,
        node_ranges=facts.node_ranges,
    )


def arguments_for(given_up: Iterable[Range]) -> tuple[str, ...]:
    """The arguments that give up memory, for the end of the command line."""
    return tuple(punch(r.start, r.size) for r in given_up)


def arguments_without(arguments: Iterable[str], dropped: Collection[MapEdit]) -> tuple[str, ...]:
    """Arguments without some of what ``memmap=`` does: a piece of one may go, and the others stay."""
    left = []
    for argument in arguments:
        edits = map_edits([argument])
        kept = [edit.argument for edit in edits if edit not in dropped]
        if len(kept) == len(edits):
            left.append(argument)
        elif kept:
            left.append("memmap=" + ",".join(piece.removeprefix("memmap=") for piece in kept))
    return tuple(left)


def _zones_of(facts: HostFacts, changed: HostFacts) -> tuple[Zone, ...] | None:
    """This boot's zones, where they are and hold all memory of the other one."""
    if placing_arguments(changed.command_line or ()) != placing_arguments(facts.command_line or ()):
        return None
    outside = subtract(
        ((r.start, r.end) for r in changed.memory_regions or ()),
        ((zone.start, zone.end) for zone in facts.zones or ()),
    )
    return None if subtract(outside, [(0, MIB)]) else facts.zones


def _pages(regions: Iterable[MemoryRegion]) -> list[Range]:
    return subtract(page_round((r.start, r.end) for r in regions), [(0, MIB)])
