# SPDX-License-Identifier: Apache-2.0
"""Memory that a host can do without, and what giving it up does to its TDMRs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import (
    GIB,
    MIB,
    PAGE,
    Range,
    align_down,
    align_up,
    clip,
    cut_out,
    overlap,
    total,
    union,
)
from tdx_headroom.boots.memory_map import KERNEL_HIGH
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.plan import AreaKind, Strategy
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.plan.tdmrs import tdmr_ranges
from tdx_headroom.plan.zones import MOVABLE
from tdx_headroom.verdict.staged import movable_zones

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.observations import Zone
    from tdx_headroom.plan import Plan, Tdmr

KERNEL_ROOM = 112 * MIB
"""So much memory in one piece the kernel's image is taken to need."""

KERNEL_FROM = 16 * MIB
"""Where the EFI stub begins to look for a place, with ``memmap=`` on the line (``LOAD_PHYSICAL_ADDR``)."""

MAX_GIVEN_UP = 256 * MIB
"""More memory than this is not given up."""

LARGE = 16 * MIB
"""What boot has reserved in one piece of this size stays."""

MAX_BORDERS = 8
"""Of a TDMR's GiB borders, so many are tried: those between which nothing lies are alike."""


class Move(NamedTuple):
    """Memory to give up in one piece: one argument of the kernel.

    Args:
        range: the first and last of it; there may be holes between.
        cost: bytes of memory in it.
    """

    range: Range
    cost: int


class Memory:
    """The memory of a host, and which of it must stay.

    Args:
        facts: of the host.

    Attributes:
        ranges: all of it.
        never: what no ``memmap=`` takes away: the place of the kernel's image with what lies below, and
            what a driver adds after the boot.
        kept: that, and all that boot has reserved in one large piece, such as the crash kernel's memory or
            pages of 1 GiB: it may find no other place.
    """

    def __init__(self, facts: HostFacts) -> None:
        regions = facts.memory_regions or ()
        self.ranges = union((r.start, r.end) for r in tdx_memory_list(regions))
        self._starts = [r.start for r in self.ranges]
        late = (Range(s.start, s.end) for s in facts.suspects if s.late)
        self.never = union([_kernels(self.ranges), *late])
        large = (r for r in facts.reserved or () if r.size >= LARGE)
        self.kept = union([*self.never, *large])

    def within(self, start: int, end: int) -> list[Range]:
        """What of the memory lies between two addresses."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        return clip(self.ranges[first : bisect_left(self._starts, end)], start, end)

    def move(self, start: int, end: int, given_up: Sequence[Range] = ()) -> Move | None:
        """Giving up all memory between two addresses; None where there is none, too much, or it must stay.

        Args:
            start: the first byte.
            end: the byte after the last.
            given_up: what is given up already, by address, and costs nothing any more.
        """
        memory = self.within(start, end)
        if given_up:
            memory = cut_out(memory, given_up)
        cost = total(memory)
        if not 0 < cost <= MAX_GIVEN_UP or self.must_stay(start, end):
            return None
        # The arguments are about whole pages, and no longer than what they take.
        return Move(Range(memory[0].start, memory[-1].end), cost)

    def merged(self, ranges: Iterable[Range]) -> tuple[Range, ...]:
        """Ranges, by address, with nothing but holes between them as one: it takes one argument."""
        merged: list[Range] = []
        for found in ranges:
            if merged and not self.within(merged[-1].end, found.start):
                merged[-1] = Range(merged[-1].start, found.end)
            else:
                merged.append(found)
        return tuple(merged)

    def must_stay(self, start: int, end: int) -> bool:
        """Whether some of the memory between two addresses must not be given up."""
        return overlap(self.within(start, end), self.kept)


def _kernels(memory: Sequence[Range]) -> Range:
    """The place of the kernel's image, which the kernel makes RAM again (``e820_add_kernel_range()``)."""
    first = next((max(r.start, KERNEL_FROM) for r in memory if _has_room(r)), KERNEL_FROM)
    return Range(0, max(first + KERNEL_ROOM, KERNEL_HIGH))


def _has_room(memory: Range) -> bool:
    return memory.end - max(memory.start, KERNEL_FROM) >= KERNEL_ROOM


def without(facts: HostFacts, given_up: Iterable[Range]) -> HostFacts:
    """The facts with memory given up."""
    holes = union(given_up)
    left: list[MemoryRegion] = []
    for region in facts.memory_regions or ():
        # Most regions stay whole, and this is done for every step of a search.
        if any(hole.start < region.end and region.start < hole.end for hole in holes):
            pieces = cut_out([Range(region.start, region.end)], holes)
            left += [MemoryRegion(*piece, region.node) for piece in pieces]
        elif region.end > region.start:
            left.append(region)
    return replace(facts, memory_regions=tuple(left), zones=_zones(facts, left))


def _zones(facts: HostFacts, left: Sequence[MemoryRegion]) -> tuple[Zone, ...] | None:
    """The zones with less memory: ``movablecore=`` keeps its size, and what is given up is the kernel's."""
    if not any(zone.name == MOVABLE for zone in facts.zones or ()):
        return facts.zones
    return movable_zones(left, facts.command_line or ()) or facts.zones


def moves(memory: Memory, plan: Plan, tdmr: Tdmr, given_up: Sequence[Range]) -> list[Move]:
    """What can be given up for fewer areas in one TDMR.

    Joins make one hole of two. Splits end the TDMR at a GiB border, by a page beside it: each part then has
    a limit of its own. The TDMR as a whole can go, where it is small.

    Args:
        memory: the host's.
        plan: with what is given up already.
        tdmr: one of its TDMRs.
        given_up: already.
    """
    found = [*_splits(memory, plan, tdmr, given_up), *joins(memory, plan, tdmr, given_up)[:1]]
    whole = memory.move(tdmr.base, tdmr.end, given_up)
    return [*found, whole] if whole is not None else found


def holes_of(tdmr: Tdmr) -> list[Range]:
    """The holes of a TDMR for which it has areas, by address."""
    return sorted(
        Range(tdmr.base + a.offset, tdmr.base + a.offset + a.size)
        for a in tdmr.reserved_areas
        if a.kind is AreaKind.HOLE
    )


def joins(memory: Memory, plan: Plan, tdmr: Tdmr, given_up: Sequence[Range] = ()) -> list[Move]:
    """The pieces of memory between two neighbouring holes of a TDMR, the cheapest first."""
    if plan.strategy is Strategy.CMR_WALK:
        # Holes are what CMRs leave, whatever memory there is.
        return []
    found = (memory.move(a.end, b.start, given_up) for a, b in pairwise(holes_of(tdmr)))
    return sorted((move for move in found if move is not None), key=lambda move: move.cost)


def islands(memory: Memory, facts: HostFacts, given_up: Sequence[Range] = ()) -> list[Move]:
    """All memory of a TDMR, the cheapest first: without it there is one TDMR less.

    Args:
        memory: the host's.
        facts: of the host, without what is given up already.
        given_up: already.
    """
    tdmrs = tdmr_ranges(tdx_memory_list(facts.memory_regions or ()))
    found = (memory.move(*tdmr, given_up) for tdmr in tdmrs)
    return sorted((move for move in found if move is not None), key=lambda move: move.cost)


def crowded_gib(tdmr: Tdmr) -> tuple[Range, int]:
    """The GiB of a TDMR with the most holes, and how many: no split brings that below."""
    counts: dict[int, int] = {}
    for hole in holes_of(tdmr):
        for cell in {align_down(hole.start, GIB), align_down(hole.end - 1, GIB)}:
            counts[cell] = counts.get(cell, 0) + 1
    cell = max(counts, key=lambda start: counts[start], default=tdmr.base)
    return Range(cell, cell + GIB), counts.get(cell, 0)


def _splits(memory: Memory, plan: Plan, tdmr: Tdmr, given_up: Sequence[Range]) -> Iterator[Move]:
    for border in _borders(tdmr):
        below = memory.move(border - PAGE, border, given_up)
        above = memory.move(border, border + PAGE, given_up)
        # The page below leaves a hole at the end of the lower part, the one above at the start of the upper.
        yield from (move for move in (below, above) if move is not None)
        if plan.strategy is Strategy.MEMORY_REGIONS:
            yield from _to_the_hole(memory, tdmr, border, given_up)


def _to_the_hole(memory: Memory, tdmr: Tdmr, border: int, given_up: Sequence[Range]) -> Iterator[Move]:
    """All between a border and the nearest hole below or above it: a split without another hole."""
    holes = holes_of(tdmr)
    below = max((hole.end for hole in holes if hole.end <= border), default=None)
    above = min((hole.start for hole in holes if hole.start >= border), default=None)
    for start, end in ((below, border), (border, above)):
        if start is not None and end is not None and end - start > PAGE:
            move = memory.move(start, end, given_up)
            if move is not None:
                yield move


def _borders(tdmr: Tdmr) -> list[int]:
    """Borders inside a TDMR at which to split it, one for all those between the same two areas."""
    first, last = tdmr.base + GIB, tdmr.end - GIB
    if first > last:
        return []
    starts = sorted(tdmr.base + area.offset for area in tdmr.reserved_areas)
    found = {first, last}
    for at in starts:
        found.update(b for b in (align_down(at, GIB), align_up(at, GIB)) if first <= b <= last)
    borders = sorted(found)
    if len(borders) <= MAX_BORDERS:
        return borders
    # The lower part as long as it may be, the upper one as long as it may be, and both ends.
    limit = tdmr.limit
    below = [bisect_left(starts, border) for border in borders]
    fits_below = max((i for i, n in enumerate(below) if n < limit), default=0)
    fits_above = min((i for i, n in enumerate(below) if len(starts) - n < limit), default=len(borders) - 1)
    chosen = {
        0,
        1,
        fits_below,
        fits_below - 1,
        fits_above,
        fits_above + 1,
        len(borders) - 2,
        len(borders) - 1,
    }
    return [borders[i] for i in sorted(chosen) if 0 <= i < len(borders)]
