# SPDX-License-Identifier: Apache-2.0
"""Several sources' views of memory: which view to use, and how views differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, Range, page_round, subtract
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.sources import Disagreement, MemorySource

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    own = chosen.pages
    views = [(view.source, view.pages) for view in maps if view is not chosen]
    return tuple(
        Disagreement(chosen.source, source, tuple(subtract(own, pages)), tuple(subtract(pages, own)))
        for source, pages in views
        if pages != own
    )
