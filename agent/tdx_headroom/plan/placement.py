# SPDX-License-Identifier: Apache-2.0
"""Where the kernel will put each PAMT (``alloc_contig_pages()``, mm/page_alloc.c).

The kernel tries the node's zones from NORMAL down, then other nodes. In a zone it starts at the zone's first
page, aligned to the block's length as if that were a power of two, and goes up in steps of that length until
a block is free of holes, reserved and unmovable pages. The last cannot be known from outside: the prediction
takes the first block that nothing known stands against, and says how far the truth can be from it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import (
    MIB,
    PAGE,
    Range,
    align_down,
    align_up,
    clip,
    page_round,
    subtract,
    union,
)
from tdx_headroom.plan.zones import MOVABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts.host_facts import MemoryRegion
    from tdx_headroom.facts.observations import Zone

PAGEBLOCK = 2 * MIB
"""Pages are isolated by pageblock: a block next to a PAMT in the same pageblock is passed over too."""

ROOMY = 64
"""A zone with so many places for a block is never passed over whole, as far as it has been seen."""

MAX_NODES = 1 << 10
"""``MAX_NUMNODES`` on x86-64."""

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
    hugetlb: int = 0,
) -> list[Places]:
    """A place for every PAMT, in TDMR order.

    Args:
        sizes: bytes of each TDMR's PAMT.
        nodes: the node of each TDMR, None where unknown.
        regions: all memory, below 1 MiB too.
        zones: of all nodes.
        reserved: memory that boot has reserved for good, as far as it is known.
        hugetlb: bytes in huge pages, wherever they are. They take no part in the prediction, but may fill a
            zone, so that blocks have to go to the next.
    """
    free = _Free(regions, zones, reserved)
    reaches: dict[tuple[int, int | None], tuple[Range, ...]] = {}
    places = []
    for size, node in zip(sizes, nodes, strict=True):
        zonelist = free.zonelist(node)
        if (size, node) not in reaches:
            reaches[size, node] = _reach(free, zonelist, size, hugetlb)
        found = (free.take(zone, size) for zone in zonelist)
        base = next((base for base in found if base is not None), None)
        places.append(Places(base, reaches[size, node]))
    return places


def _reach(free: _Free, zonelist: Sequence[Zone], size: int, hugetlb: int) -> tuple[Range, ...]:
    """All places that a block of this size could take: those of each zone until one has room to spare."""
    reach: list[Range] = []
    room = -(hugetlb // size)
    for zone in zonelist:
        if room >= ROOMY:
            break
        spans = free.spans(zone, size)
        reach += spans
        room += sum(span.size // size for span in spans)
    return tuple(union(reach))


class _Free:
    """What is free in each zone, and the PAMTs placed so far."""

    def __init__(
        self,
        regions: Iterable[MemoryRegion],
        zones: Sequence[Zone],
        reserved: Iterable[tuple[int, int]],
    ) -> None:
        self._zones = [zone for zone in zones if zone.name in _ZONE_ORDER]
        self._zonelists: dict[int | None, list[Zone]] = {}
        self._taken: list[Range] = []
        self._spans: dict[tuple[Zone, int], list[Range]] = {}
        self._next: dict[tuple[Zone, int], tuple[int, int]] = {}
        self._memory = list(regions)
        self._busy = union(reserved)
        self._movable = [zone for zone in zones if zone.name == MOVABLE]
        self._pages: dict[int | None, list[Range]] = {}
        self._by_size: dict[Zone, list[Range]] = {}

    def zonelist(self, node: int | None) -> list[Zone]:
        """The zones in the order in which they are tried: the node's own, then those of the next nodes."""

        def distance(zone: Zone) -> tuple[int, int]:
            if node is None or zone.node is None:
                return (0, _ZONE_ORDER[zone.name])
            return ((zone.node - node) % MAX_NODES, _ZONE_ORDER[zone.name])

        if node not in self._zonelists:
            self._zonelists[node] = sorted(self._zones, key=distance)
        return self._zonelists[node]

    def spans(self, zone: Zone, size: int) -> list[Range]:
        """The runs of whole blocks that are free in a zone, by address; PAMTs placed before are not counted.

        Only ranges as long as the block are looked at, so that thousands of small ones cost nothing.
        """
        key = (zone, size)
        if key not in self._spans:
            first = _kernel_align(zone.start, size)
            found = []
            for start, end in takewhile(lambda r: r.size >= size, self._largest_first(zone)):
                low = first + max(0, -(-(start - first) // size)) * size
                blocks = (end - low) // size
                if blocks > 0:
                    found.append(Range(low, low + blocks * size))
            self._spans[key] = sorted(found)
        return self._spans[key]

    def _largest_first(self, zone: Zone) -> list[Range]:
        """What is free in a zone before any PAMT; most zones are never asked."""
        if zone not in self._by_size:
            free = clip(self._pages_of(zone.node), zone.start, zone.end)
            taken = [*self._busy, *((z.start, z.end) for z in self._movable if z.node == zone.node)]
            if taken:
                free = subtract(free, taken)
            self._by_size[zone] = sorted(free, key=lambda r: r.size, reverse=True)
        return self._by_size[zone]

    def _pages_of(self, node: int | None) -> list[Range]:
        """The whole pages of a node's memory; memory and zones whose node is unknown are everybody's."""
        if node not in self._pages:
            own = ((r.start, r.end) for r in self._memory if None in (r.node, node) or r.node == node)
            self._pages[node] = page_round(own)
        return self._pages[node]

    def take(self, zone: Zone, size: int) -> int | None:
        """The first block in the zone that no PAMT stands against; it is taken."""
        key = (zone, size)
        spans = self.spans(zone, size)
        # What was passed over once stays taken: the next block of this size is looked for behind it.
        i, at = self._next.get(key, (0, 0))
        while i < len(spans):
            at = max(at, spans[i].start)
            while at + size <= spans[i].end:
                obstacle = self._obstacle(at, at + size)
                if obstacle is None:
                    self._next[key] = (i, at + size)
                    insort(self._taken, Range(align_down(at, PAGEBLOCK), align_up(at + size, PAGEBLOCK)))
                    return at
                at += -(-(obstacle - at) // size) * size
            i += 1
        return None

    def _obstacle(self, start: int, end: int) -> int | None:
        """The end of a PAMT in the way, if there is one, its last pageblock included."""
        i = bisect_left(self._taken, (end, 0)) - 1
        if i >= 0 and self._taken[i].end > start:
            return self._taken[i].end
        return None


def _kernel_align(address: int, size: int) -> int:
    """``ALIGN(start_pfn, nr_pages)`` in bytes: the bit-mask form, also for no power of two."""
    pages = size // PAGE
    return ((address // PAGE + pages - 1) & ~(pages - 1)) * PAGE
