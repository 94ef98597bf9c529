# SPDX-License-Identifier: Apache-2.0
"""Which NUMA node an address belongs to."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from tdx_headroom.facts.host_facts import MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.address import Range
    from tdx_headroom.facts.observations import NodeRange


class NodeMap:
    """Which node an address belongs to, from the first of several sources that tells."""

    def __init__(self, source: str, ranges: Iterable[NodeRange]) -> None:
        self.source = source
        self._ranges = sorted(ranges)
        self._starts = [r.start for r in self._ranges]

    def node_of(self, address: int) -> int | None:
        """The node of an address; None where the source says nothing about it."""
        i = bisect_right(self._starts, address) - 1
        return self._ranges[i].node if i >= 0 and address < self._ranges[i].end else None

    def split(self, ranges: Iterable[Range]) -> list[MemoryRegion]:
        """The ranges, cut where the node changes, as memblock cuts them (``memblock_set_node()``)."""
        regions: list[MemoryRegion] = []
        for start, end in ranges:
            at = start
            while at < end:
                i = bisect_right(self._starts, at) - 1
                node = None
                stop = self._starts[i + 1] if i + 1 < len(self._starts) else end
                if i >= 0 and at < self._ranges[i].end:
                    node = self._ranges[i].node
                    stop = self._ranges[i].end
                stop = min(stop, end)
                if regions and regions[-1].end == at and regions[-1].node == node and at > start:
                    regions[-1] = MemoryRegion(regions[-1].start, stop, node)
                else:
                    regions.append(MemoryRegion(at, stop, node))
                at = stop
        return regions
