# SPDX-License-Identifier: Apache-2.0
"""What to change on this host so that its fullest TDMR fits: computed, not guessed."""

from __future__ import annotations

import re
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import GIB, KIB, MIB, Range, clip, show, show_size, union
from tdx_headroom.plan import AreaKind, Strategy
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.verdict.decode import EARLIER
from tdx_headroom.verdict.kernels import names_with
from tdx_headroom.verdict.model import AT_RISK_HEADROOM, Outcome, State, outcome_of, predict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tdx_headroom.facts import HostFacts
    from tdx_headroom.observations import FirmwareRange
    from tdx_headroom.plan import Plan, Tdmr

MAX_CANDIDATES = 4
MAX_GIVEN_UP = 256 * MIB
"""More memory than this is not given up to join holes."""

_MEMMAP = re.compile(r"(?:0x)?[0-9a-fA-F]+[KMGTkmgt]?([$#!%])(0x[0-9a-fA-F]+|[0-9]+)([KMGTkmgt]?)")
_SUFFIX = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


class Sliver(NamedTuple):
    """A short piece of memory between two holes: given up, it makes one hole of the two."""

    start: int
    size: int


def remedies(facts: HostFacts, plans: Mapping[Strategy, Plan | None], strategy: Strategy) -> list[str]:
    """What to do so that this strategy's plan fits, or fits with room to spare; empty when all is well."""
    plan = plans[strategy]
    if plan is None or predict(plan) is State.WILL_INITIALIZE:
        return []
    found = _other_kernels(plans, strategy)
    outcome = outcome_of(plan)
    if outcome in (Outcome.RESERVED_AREAS, Outcome.OK):
        index = plan.failed_tdmr if plan.failed_tdmr is not None else _fullest(plan)
        found += _fewer_holes(facts, plan.tdmrs[index], strategy)
        found += _split(plan, index, facts.limits.max_tdmrs)
    elif outcome is Outcome.TDMRS:
        found.append(
            f"The memory map takes {plan.tdmrs_needed - facts.limits.max_tdmrs} TDMRs too many: have fewer"
            " gaps of a GiB and more between memory ranges, or fewer NUMA nodes (sub-NUMA clustering off)."
        )
    elif outcome is Outcome.NO_MEMORY and plan.tdmrs:
        found.append(EARLIER)
    elif outcome is Outcome.REJECTED:
        found.append(
            "Have the firmware make all memory convertible (populate DIMMs evenly, no CXL or persistent"
            " memory as RAM), or keep the kernel off the rest with memmap=."
        )
    return found


def _other_kernels(plans: Mapping[Strategy, Plan | None], strategy: Strategy) -> list[str]:
    fitting = {
        s
        for s, plan in plans.items()
        if s is not strategy and plan is not None and outcome_of(plan) is Outcome.OK
    }
    kernels = names_with(fitting)
    if kernels:
        return [f"Boot a kernel that looks at CMRs, under which this host fits: {', '.join(kernels)}."]
    if fitting:
        return [f"A kernel with {' or '.join(sorted(fitting))} would fit."]
    return []


def _fullest(plan: Plan) -> int:
    return min(range(len(plan.tdmrs)), key=lambda i: plan.tdmrs[i].headroom_worst or 0)


def _fewer_holes(facts: HostFacts, tdmr: Tdmr, strategy: Strategy) -> list[str]:
    """How many areas must go, what makes the holes, and which holes to join."""
    bounds = show(tdmr.base, tdmr.end)
    short = (tdmr.needed or 0) - tdmr.limit
    worst_short = (tdmr.needed_worst or 0) - tdmr.limit
    # Fewer than this many less, and the host is at risk still.
    roomy = max(worst_short, AT_RISK_HEADROOM + 1 + short)
    goal = short if short > 0 else roomy
    found = []
    if goal > 0:
        areas = f"{goal} reserved area{'s' if goal > 1 else ''}"
        spare = f" to fit, {roomy} fewer to have room to spare" if roomy > goal else ""
        found.append(f"Have {areas} fewer in TDMR {bounds}{spare}.")
    holes = [
        Range(tdmr.base + a.offset, tdmr.base + a.offset + a.size)
        for a in tdmr.reserved_areas
        if a.kind is AreaKind.HOLE
    ]
    own = _operators_holes(facts.command_line or (), holes)
    found += [
        f"Take {argument} off the command line: it makes the hole {show(*hole)}." for argument, hole in own
    ]
    if strategy is Strategy.CMR_WALK:
        return found
    between = slivers(facts, tdmr, holes)
    joined = _joined(between, goal)
    if joined is not None:
        size, arguments = joined
        found.append(
            f"Or give up {size} of memory between holes, so that they become one: {arguments} on the command"
            " line (in a GRUB file write \\$ for $)."
        )
        more = _joined(between, roomy) if roomy > goal else None
        if more is not None:
            found.append(f"For room to spare give up {more[0]} in the same way: {more[1]}.")
    candidates = sorted((h for h in holes if h.start >= MIB), key=lambda r: r.size)[:MAX_CANDIDATES]
    named = ", ".join(f"{show(*h)} {show_size(h.size)}{_what(h, facts.firmware_map)}" for h in candidates)
    if named and goal > 0:
        found.append(f"Ask the firmware's vendor for fewer holes there; the smallest are {named}.")
    return found


def _joined(between: Sequence[Sliver], count: int) -> tuple[str, str] | None:
    """The memory that it takes to have so many holes less, and the arguments; None when it is too much."""
    joins = between[: max(count, 0)]
    given_up = sum(sliver.size for sliver in joins)
    if not joins or len(joins) < count or given_up > MAX_GIVEN_UP:
        return None
    return show_size(given_up), " ".join(f"memmap={_size(j.size)}$0x{j.start:x}" for j in joins)


def slivers(facts: HostFacts, tdmr: Tdmr, holes: Sequence[Range]) -> list[Sliver]:
    """Memory between two neighbouring holes of a TDMR, the shortest first."""
    near = (r for r in facts.memory_regions or () if r.start < tdmr.end and r.end > tdmr.base)
    inside = clip(union((r.start, r.end) for r in tdx_memory_list(near)), tdmr.base, tdmr.end)
    starts = {hole.start for hole in holes}
    ends = {hole.end for hole in holes}
    between = [Sliver(r.start, r.size) for r in inside if r.start in ends and r.end in starts]
    return sorted(between, key=lambda s: s.size)


def _split(plan: Plan, index: int, max_tdmrs: int) -> list[str]:
    """What the second proposal of the CMR patch would do: TDMRs of one GiB where one is too full."""
    tdmr = plan.tdmrs[index]
    pieces = tdmr.size // GIB
    if pieces < 2:
        return []
    fullest = _fullest_gib(tdmr)
    needed = plan.tdmrs_needed - 1 + pieces
    fits = fullest <= tdmr.limit and needed <= max_tdmrs
    verdict = "would fit" if fits else "would not fit either"
    text = (
        f"For kernel developers: split at 1 GiB borders, the TDMR {verdict}: at most {fullest} areas of"
        f" {tdmr.limit} a piece, {needed} TDMRs of {max_tdmrs}."
    )
    return [text]


def _fullest_gib(tdmr: Tdmr) -> int:
    """The most areas that lie in one GiB of the TDMR, in whole or in part."""
    # Not GiB by GiB: in facts from outside a TDMR may have as many as fit into 64 bits.
    steps: Counter[int] = Counter()
    for area in tdmr.reserved_areas:
        steps[area.offset // GIB] += 1
        steps[(area.offset + area.size - 1) // GIB + 1] -= 1
    return max(accumulate(steps[piece] for piece in sorted(steps)), default=0)


def _operators_holes(arguments: Sequence[str], holes: Sequence[Range]) -> list[tuple[str, Range]]:
    """``memmap=`` arguments that make one of the holes, or the start of it."""
    found = []
    for argument in arguments:
        if not argument.startswith("memmap="):
            continue
        for part in argument.removeprefix("memmap=").split(","):
            match = _MEMMAP.fullmatch(part)
            if match is None:
                continue
            start = int(match[2], 0) << _SUFFIX[match[3].lower()]
            found += [(f"memmap={part}", hole) for hole in holes if hole.start <= start < hole.end]
    return found


def _what(hole: Range, firmware: Sequence[FirmwareRange] | None) -> str:
    """What the firmware's map says a hole is made of."""
    kinds = sorted({r.kind for r in firmware or () if r.start < hole.end and r.end > hole.start})
    named = [kind for kind in kinds if kind != "System RAM"]
    return f" ({', '.join(named)})" if named else ""


def _size(size: int) -> str:
    return f"{size // KIB}K" if size % KIB == 0 else f"0x{size:x}"
