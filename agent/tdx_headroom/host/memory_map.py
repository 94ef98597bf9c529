# SPDX-License-Identifier: Apache-2.0
"""Several sources' views of memory: which view to use, and how views differ."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, Range, page_round, subtract
from tdx_headroom.facts.command_line import edited, map_edits
from tdx_headroom.facts.e820 import entries_of, ram_of
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.sources import Disagreement, MemorySource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts.command_line import MapEdit
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.node_map import NodeMap


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """One source's view: raw regions in address order, and where their nodes come from."""

    source: MemorySource
    regions: tuple[MemoryRegion, ...]
    node_source: str | None

    @property
    def pages(self) -> list[Range]:
        """What views can be compared by: whole pages from 1 MiB on."""
        return subtract(page_round((r.start, r.end) for r in self.regions), [(0, MIB)])


def from_ranges(source: MemorySource, ranges: Sequence[Range], nodes: NodeMap | None) -> MemoryMap:
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
    live = next((m for m in maps if m.source is MemorySource.IOMEM), None)
    if first.source is MemorySource.LOG_NODE_RANGES and live is not None and live.pages != first.pages:
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


def without_edits(facts: HostFacts, dropped: Sequence[MapEdit]) -> HostFacts | None:
    """The facts as if these edits were not on the command line; None where the firmware's map is unknown.

    What the firmware has there decides what comes back, and all other edits stay.
    """
    if facts.firmware_map is None or facts.memory_regions is None:
        return None
    table = entries_of(facts.firmware_map)
    edits = map_edits(facts.command_line or ())
    now = ram_of(edited(table, edits))
    then = ram_of(edited(table, [edit for edit in edits if edit not in dropped]))
    regions = list(facts.memory_regions)
    back = subtract(subtract(then, now), ((r.start, r.end) for r in regions))
    if not back:
        return facts
    inside = not subtract(back, ((zone.start, zone.end) for zone in facts.zones or ()))
    return replace(
        facts,
        memory_regions=tuple(_joined(sorted([*regions, *_of_the_node_below(regions, back)]))),
        zones=facts.zones if inside else None,
    )


def _of_the_node_below(regions: Sequence[MemoryRegion], ranges: Iterable[Range]) -> Iterable[MemoryRegion]:
    """Ranges as regions: a gap belongs to the node below it, out of which it was punched."""
    starts = [region.start for region in regions]
    for start, end in ranges:
        below = max(bisect_right(starts, start) - 1, 0)
        yield MemoryRegion(start, end, regions[below].node if regions else None)


def _joined(regions: Iterable[MemoryRegion]) -> list[MemoryRegion]:
    """Touching regions of one node as one."""
    joined: list[MemoryRegion] = []
    for region in regions:
        if joined and joined[-1].end == region.start and joined[-1].node == region.node:
            joined[-1] = MemoryRegion(joined[-1].start, region.end, region.node)
        else:
            joined.append(region)
    return joined
