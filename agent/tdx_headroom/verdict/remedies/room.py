# SPDX-License-Identifier: Apache-2.0
"""What to do where a PAMT finds no room: which argument takes it, and at which value there is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, total
from tdx_headroom.facts.command_line import name_and_value, parse_amount, parse_unsigned
from tdx_headroom.verdict.decode import EARLIER
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import describe
from tdx_headroom.verdict.remedies.kernels import for_plan
from tdx_headroom.verdict.remedies.search import Goal
from tdx_headroom.verdict.remedies.set_aside import fewer_set_aside
from tdx_headroom.verdict.remedies.trial import planned, under

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.findings import Signs

MOVABLE = ("kernelcore", "movablecore", "movable_node")
"""What makes a movable zone, in which no PAMT can lie."""


def for_room(signs: Signs, plan: Plan) -> tuple[Remedy, ...]:
    """What to do so that every PAMT finds a place."""
    if signs.log_is_to_blame or not plan.tdmrs or not signs.asks_what_to_do:
        return for_plan(signs)
    found = signs.guard.part(
        "remedies (which argument takes the room)",
        lambda: list(_takers(signs.facts, plan)),
        list[Remedy](),
    )
    return for_plan(signs, *found, *for_set_aside(signs, plan), EARLIER)


def for_set_aside(signs: Signs, plan: Plan) -> tuple[Remedy, ...]:
    """Less of what sets memory aside in which no PAMT can lie."""
    if not signs.asks_what_to_do:
        return ()
    return signs.guard.part(
        "remedies (how much may be set aside)",
        lambda: fewer_set_aside(signs.facts, plan),
        tuple[Remedy, ...](),
    )


def _takers(facts: HostFacts, plan: Plan) -> Iterator[Remedy]:
    """The arguments each of which alone takes the room; all together where none does so alone."""
    line = facts.command_line or ()
    takers = [i for i, argument in enumerate(line) if name_and_value(argument)[0] in MOVABLE]
    found = [remedy for i in takers if (remedy := _without(facts, plan, [i])) is not None]
    if not found and len(takers) > 1:
        found = [remedy for remedy in [_without(facts, plan, takers)] if remedy is not None]
    yield from found


def _without(facts: HostFacts, plan: Plan, taken: Sequence[int]) -> Remedy | None:
    line = facts.command_line or ()
    gone = tuple(line[i] for i in taken)
    after = _tried(facts, plan, [argument for i, argument in enumerate(line) if i not in taken])
    if after is None:
        return None
    smaller = _smaller(facts, plan, taken[0]) if len(taken) == 1 else None
    named = " and ".join(gone)
    instead = "" if smaller is None else f", or have {smaller} in its place, with which every PAMT has room"
    text = f"Take {named} off the command line{instead}. Without: {describe(after)}"
    return Remedy(
        RemedyKind.REMOVE_ARGUMENTS,
        text,
        gone,
        bytes_given_up=0,
        computed=True,
        left=after.headroom,
        instead=() if smaller is None else (smaller,),
    )


def _tried(facts: HostFacts, plan: Plan, line: Sequence[str]) -> Plan | None:
    """The plan under a line; None unless it fits."""
    changed = under(facts, line)
    tried = None if changed is None else planned(changed, plan.strategy)
    return tried if tried is not None and Goal.FITS.is_met(tried) else None


def _smaller(facts: HostFacts, plan: Plan, index: int) -> str | None:
    """The argument with the value nearest to its own under which the plan fits: in GiB, or in per cent."""
    line = list(facts.command_line or ())
    name, value = name_and_value(line[index])
    if name == "movable_node" or not value or not value[0].isdigit():
        return None
    number, rest = parse_unsigned(value)
    share = rest.startswith("%")
    if not share:
        number = parse_amount(value)[0] // GIB
    most = 100 if share else total((r.start, r.end) for r in facts.memory_regions or ()) // GIB
    unit = "%" if share else "G"

    def fits(wanted: int) -> bool:
        line[index] = f"{name}={wanted}{unit}"
        return _tried(facts, plan, line) is not None

    # The kernel needs more of its own, or less is movable.
    wanted = (
        _first(fits, number + 1, most) if name == "kernelcore" else _first(lambda n: fits(-n), -number, -1)
    )
    return None if wanted is None else f"{name}={abs(wanted)}{unit}"


def _first(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The lowest number from low to high that fits, where all above one that fits do so too."""
    if low > high or not fits(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low
