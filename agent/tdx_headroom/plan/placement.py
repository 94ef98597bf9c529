# SPDX-License-Identifier: Apache-2.0
"""Where the kernel will put each PAMT (``alloc_contig_pages()``, mm/page_alloc.c).

The kernel tries the node's zones from NORMAL down, then other nodes. In a zone it starts at the zone's first
page, aligned to the block's length as if that were a power of two, and goes up in steps of that length until a
block is free of holes, reserved and unmovable pages. The last cannot be known from outside: the prediction
takes the first block that nothing known stands against, and says how far the truth can be from it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import MIB, PAGE, Range, align_down, align_up, intersect, page_round, subtract, union
from tdx_headroom.zones import MOVABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts import MemoryRegion
    from tdx_headroom.observations import Zone

PAGEBLOCK = 2 * MIB
"""Pages are isolated by pageblock: a block next to a PAMT in the same pageblock is passed over too."""

ROOMY = 64
"""A zone with so many places for a block is never passed over whole, as far as it has been seen."""

_ZONE_ORDER = {"Normal": 0, "DMA32": 1, "DMA": 2}


class Places(NamedTuple):
    """One PAMT's predicted place and all places where it could be.

    ``base`` is None when no zone has a free block: the kernel fails with -ENOMEM. ``reach`` are the addresses
    that the block could cover, whichever place it takes.
    """

    base: int | None
    reach: tuple[Range, ...]


def predict(
    sizes: Sequence[int],
    nodes: Sequence[int | None],
    regions: Iterable[MemoryRegion],
    zones: Sequence[Zone],
    reserved: Iterable[tuple[int, int]],
) -> list[Places]:
    """A place for every PAMT, in TDMR order.

    Args:
        sizes: bytes of each TDMR's PAMT.
        nodes: the node of each TDMR, None where unknown.
        regions: all memory, below 1 MiB too.
        zones: of all nodes.
        reserved: memory that boot has reserved for good, as far as it is known.
    """
    free = _Free(regions, zones, reserved)
    places = []
    for size, node in zip(sizes, nodes, strict=True):
        base, reach = None, []
        room = 0
        for zone in free.zonelist(node):
            spans = free.spans(zone, size)
            if room < ROOMY:
                reach += [Range(span.start, span.end) for span in spans]
                room += sum(span.size // size for span in spans)
            if base is None:
                base = free.take(zone, size, spans)
            if base is not None and room >= ROOMY:
                break
        places.append(Places(base, tuple(union(reach))))
    return places


class _Free:
    """What is free in each zone, less the PAMTs placed so far."""

    def __init__(
        self,
        regions: Iterable[MemoryRegion],
        zones: Sequence[Zone],
        reserved: Iterable[tuple[int, int]],
    ) -> None:
        self._zones = [zone for zone in zones if zone.name in _ZONE_ORDER]
        self._taken: list[Range] = []
        memory = list(regions)
        busy = union(reserved)
        self._free: dict[Zone, list[Range]] = {}
        for zone in self._zones:
            own = ((r.start, r.end) for r in memory if None in (r.node, zone.node) or r.node == zone.node)
            movable = ((z.start, z.end) for z in zones if z.name == MOVABLE and z.node == zone.node)
            inside = intersect(page_round(own), [(zone.start, zone.end)])
            self._free[zone] = subtract(inside, [*busy, *movable])

    def zonelist(self, node: int | None) -> list[Zone]:
        """The zones in the order in which they are tried: the node's own, then those of the next nodes."""

        def distance(zone: Zone) -> tuple[int, int]:
            if node is None or zone.node is None:
                return (0, _ZONE_ORDER[zone.name])
            return ((zone.node - node) % (1 << 16), _ZONE_ORDER[zone.name])

        return sorted(self._zones, key=distance)

    def spans(self, zone: Zone, size: int) -> list[Range]:
        """The runs of whole blocks that are free in a zone, PAMTs placed before not counted."""
        first = _kernel_align(zone.start, size)
        found = []
        for start, end in self._free[zone]:
            low = first + max(0, -(-(start - first) // size)) * size
            blocks = (end - low) // size
            if blocks > 0:
                found.append(Range(low, low + blocks * size))
        return found

    def take(self, zone: Zone, size: int, spans: Sequence[Range]) -> int | None:
        """The first block in the zone that no PAMT stands against; it is taken."""
        first = _kernel_align(zone.start, size)
        for span in spans:
            at = span.start
            while at + size <= span.end:
                obstacle = self._obstacle(at, at + size)
                if obstacle is None:
                    end = align_up(at + size, PAGEBLOCK)
                    self._taken = union([*self._taken, (align_down(at, PAGEBLOCK), end)])
                    return at
                at = first + -(-(obstacle - first) // size) * size
        return None

    def _obstacle(self, start: int, end: int) -> int | None:
        """The end of the PAMT in the way, if there is one."""
        i = bisect_right(self._taken, (end - 1, end)) - 1
        if i >= 0 and self._taken[i].end > start:
            return self._taken[i].end
        return None


def _kernel_align(address: int, size: int) -> int:
    """``ALIGN(start_pfn, nr_pages)`` in bytes: the bit-mask form, also for no power of two."""
    pages = size // PAGE
    return ((address // PAGE + pages - 1) & ~(pages - 1)) * PAGE
