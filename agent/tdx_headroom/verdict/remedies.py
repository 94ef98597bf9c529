# SPDX-License-Identifier: Apache-2.0
"""What to change on this host so that its fullest TDMR fits: computed, not guessed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import GIB, MIB, Range, clip, show, show_size, subtract, union
from tdx_headroom.facts.command_line import punch
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.plan import AreaKind, Outcome, Strategy
from tdx_headroom.plan.module import accepts_cmrs
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.kernels import names_with
from tdx_headroom.verdict.model import AT_RISK_HEADROOM, Sentence
from tdx_headroom.verdict.tries import own_holes, planned, quality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.observations import FirmwareRange
    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.findings import Signs

MAX_CANDIDATES = 4
MAX_GIVEN_UP = 256 * MIB
"""More memory than this is not given up to join holes."""

_ON_THE_HOST = "`tdx-headroom plan` on the host shows"


class Sliver(NamedTuple):
    """A short piece of memory between two holes: given up, it makes one hole of the two."""

    start: int
    size: int


def for_plan(signs: Signs, *own: Remedy) -> tuple[Remedy, ...]:
    """What to do about a plan that does not fit: another kernel, and what its obstacle itself asks for.

    Nothing where TDX failed for a reason that the memory map has no part in: that comes first.
    """
    if signs.log_is_to_blame:
        return ()
    name = "remedies (other kernels)"
    found = signs.guard.part(
        name, lambda: _other_kernels(signs.plans, signs.strategy.strategy, signs.facts.cmrs), list[Remedy]()
    )
    return (*found, *own)


def for_areas(signs: Signs, plan: Plan, index: int) -> tuple[Remedy, ...]:
    """What to do so that a TDMR fits, or fits with room to spare."""
    if signs.log_is_to_blame:
        return ()
    facts = signs.facts
    crowd = _Crowd(facts, plan, plan.tdmrs[index])
    parts: tuple[tuple[str, Callable[[], list[Remedy]]], ...] = (
        ("how many reserved areas are too many", crowd.excess),
        ("which holes the command line makes", partial(own_holes, facts, plan, crowd.holes)),
        ("which holes to join", crowd.joins),
        ("which holes are the smallest", crowd.smallest),
        ("whether splitting would help", lambda: _split(plan, index, facts.limits.max_tdmrs)),
    )
    found = for_plan(signs)
    for name, make in parts:
        found += tuple(signs.guard.part(f"remedies ({name})", make, list[Remedy]()))
    return found


def _other_kernels(
    plans: Mapping[Strategy, Plan | None], strategy: Strategy, cmrs: Sequence[tuple[int, int]] | None
) -> list[Remedy]:
    fitting = {
        s
        for s, plan in plans.items()
        if s is not strategy and plan is not None and plan.outcome is Outcome.OK
    }
    kernels = names_with(fitting, initializing=True) if accepts_cmrs(cmrs or ()) else []
    if not kernels:
        # Nobody can boot a kernel that nobody is known to have, and no kernel mends a CMR table.
        return []
    text = f"Boot a kernel that looks at CMRs, under which this host fits: {', '.join(kernels)}."
    return [Remedy(RemedyKind.OTHER_KERNEL, text, bytes_given_up=0, computed=True)]


class _Crowd:
    """A TDMR with too many reserved areas, or nearly so."""

    def __init__(self, facts: HostFacts, plan: Plan, tdmr: Tdmr) -> None:
        self._facts = facts
        self._plan = plan
        self._tdmr = tdmr
        short = (tdmr.needed or 0) - tdmr.limit
        worst_short = (tdmr.needed_worst or 0) - tdmr.limit
        # Fewer than this many less, and the host is at risk still.
        self._roomy = max(worst_short, AT_RISK_HEADROOM + 1 + short)
        self._goal = short if short > 0 else self._roomy
        self.holes = [
            Range(tdmr.base + a.offset, tdmr.base + a.offset + a.size)
            for a in tdmr.reserved_areas
            if a.kind is AreaKind.HOLE
        ]

    def excess(self) -> list[Remedy]:
        """How many areas must go."""
        if self._goal <= 0:
            return []
        areas = f"{self._goal} reserved area{'s' if self._goal > 1 else ''}"
        spare = f" to fit, {self._roomy} fewer to have room to spare" if self._roomy > self._goal else ""
        text = f"Have {areas} fewer in TDMR {show(self._tdmr.base, self._tdmr.end)}{spare}."
        return [Remedy(RemedyKind.FEWER_AREAS, text, areas_freed=self._goal)]

    def joins(self) -> list[Remedy]:
        """Which memory to give up so that holes become one, first to fit, then to have room to spare."""
        if self._plan.strategy is Strategy.CMR_WALK:
            return []
        between = slivers(self._facts, self._tdmr, self.holes)
        found: list[Remedy] = []
        for count in dict.fromkeys((self._goal, self._roomy)):
            joined = self._joined(between, count, more=bool(found))
            if joined is None:
                break
            found.append(joined)
        return found

    def _joined(self, between: Sequence[Sliver], count: int, *, more: bool) -> Remedy | None:
        """To give up the memory that it takes to have so many holes less.

        None when it is too much, or when the plan without that memory is no better.
        """
        joins = between[: max(count, 0)]
        given_up = sum(sliver.size for sliver in joins)
        if not joins or len(joins) < count or given_up > MAX_GIVEN_UP:
            return None
        tried = planned(_without(self._facts, joins), self._plan.strategy)
        if tried is None or quality(tried) <= quality(self._plan):
            return None
        arguments = tuple(punch(j.start, j.size) for j in joins)
        text = (_give_up_more if more else _give_up)(show_size(given_up), " ".join(arguments))
        return Remedy(RemedyKind.ADD_ARGUMENTS, text, arguments, count, given_up, computed=True)

    def smallest(self) -> list[Remedy]:
        """Which holes the firmware's vendor should look at."""
        if self._plan.strategy is Strategy.CMR_WALK or self._goal <= 0:
            return []
        candidates = sorted((h for h in self.holes if h.start >= MIB), key=lambda r: r.size)[:MAX_CANDIDATES]
        kinds = self._facts.firmware_map
        named = ", ".join(f"{show(*h)} {show_size(h.size)}{_what(h, kinds)}" for h in candidates)
        if not named:
            return []
        ask = "Ask the firmware's vendor for fewer holes there"
        public = f"{ask}: {_ON_THE_HOST} which are the smallest."
        text = Sentence(f"{ask}; the smallest are {named}.", public=public)
        return [Remedy(RemedyKind.FIRMWARE_MAP, text)]


def _give_up(size: str, arguments: str) -> Sentence:
    # The kernel goes through its arguments in order: what adds RAM has to come before.
    return Sentence(
        f"Or give up {size} of memory between holes, so that they become one: {arguments} at the end of the"
        " kernel's command line, just so in /etc/default/grub and in any boot entry: nothing in it needs"
        " quoting.",
        public="Or give up a little memory between holes, so that they become one, with memmap= at the end of"
        f" the kernel's command line: {_ON_THE_HOST} with which.",
    )


def _give_up_more(size: str, arguments: str) -> Sentence:
    return Sentence(
        f"For room to spare give up {size} in the same way: {arguments}.",
        public="For room to spare give up a little more in the same way.",
    )


def _without(facts: HostFacts, given_up: Sequence[Sliver]) -> HostFacts:
    holes = [(sliver.start, sliver.start + sliver.size) for sliver in given_up]
    left = tuple(
        MemoryRegion(*piece, region.node)
        for region in facts.memory_regions or ()
        for piece in subtract([(region.start, region.end)], holes)
    )
    return replace(facts, memory_regions=left)


def slivers(facts: HostFacts, tdmr: Tdmr, holes: Sequence[Range]) -> list[Sliver]:
    """Memory between two neighbouring holes of a TDMR, the shortest first."""
    near = (r for r in facts.memory_regions or () if r.start < tdmr.end and r.end > tdmr.base)
    inside = clip(union((r.start, r.end) for r in tdx_memory_list(near)), tdmr.base, tdmr.end)
    starts = {hole.start for hole in holes}
    ends = {hole.end for hole in holes}
    between = [Sliver(r.start, r.size) for r in inside if r.start in ends and r.end in starts]
    return sorted(between, key=lambda s: s.size)


def _split(plan: Plan, index: int, max_tdmrs: int) -> list[Remedy]:
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
    return [Remedy(RemedyKind.CHANGE_KERNEL, text)]


def _fullest_gib(tdmr: Tdmr) -> int:
    """The most areas that lie in one GiB of the TDMR, in whole or in part."""
    # Not GiB by GiB: in facts from outside a TDMR may have as many as fit into 64 bits.
    steps: Counter[int] = Counter()
    for area in tdmr.reserved_areas:
        steps[area.offset // GIB] += 1
        steps[(area.offset + area.size - 1) // GIB + 1] -= 1
    return max(accumulate(steps[piece] for piece in sorted(steps)), default=0)


def _what(hole: Range, firmware: Sequence[FirmwareRange] | None) -> str:
    """What the firmware's map says a hole is made of."""
    kinds = sorted({r.kind for r in firmware or () if r.start < hole.end and r.end > hole.start})
    named = [kind for kind in kinds if kind != "System RAM"]
    return f" ({', '.join(named)})" if named else ""
