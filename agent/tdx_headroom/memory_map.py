# SPDX-License-Identifier: Apache-2.0
"""Several sources' views of memory: nodes where a view has none, which view to use, how views differ."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, Range, page_round, subtract
from tdx_headroom.facts import Disagreement, MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.observations import NodeRange


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """One source's view: raw regions in address order, and where their nodes come from."""

    source: str
    regions: tuple[MemoryRegion, ...]
    node_source: str | None

    @property
    def pages(self) -> list[Range]:
        """What views can be compared by: whole pages from 1 MiB on."""
        return subtract(page_round((r.start, r.end) for r in self.regions), [(0, MIB)])


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


def from_ranges(source: str, ranges: Sequence[Range], nodes: NodeMap | None) -> MemoryMap:
    """The view of a source that knows no nodes."""
    if nodes is None:
        return MemoryMap(source, tuple(MemoryRegion(r.start, r.end, None) for r in ranges), None)
    return MemoryMap(source, tuple(nodes.split(ranges)), nodes.source)


def choose(maps: Sequence[MemoryMap]) -> MemoryMap | None:
    """The view to plan with: the first, but for one exception.

    The node ranges in the log are the kernel's own list, but of boot time: where ``/proc/iomem`` shows other
    memory, some was added or removed since, and the live view counts.
    """
    if not maps:
        return None
    first = maps[0]
    live = next((m for m in maps if m.source == "iomem"), None)
    if first.source == "log-node-ranges" and live is not None and live.pages != first.pages:
        return live
    return first


def disagreements(maps: Sequence[MemoryMap], chosen: MemoryMap | None) -> tuple[Disagreement, ...]:
    """How each other view differs from the chosen one."""
    if chosen is None:
        return ()
    pages = chosen.pages
    found = []
    for other in maps:
        if other is chosen:
            continue
        only_a = subtract(pages, other.pages)
        only_b = subtract(other.pages, pages)
        if only_a or only_b:
            found.append(Disagreement(chosen.source, other.source, tuple(only_a), tuple(only_b)))
    return tuple(found)
