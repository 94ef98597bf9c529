# SPDX-License-Identifier: Apache-2.0
"""Zones from a memory map, where ``/proc/zoneinfo`` is not at hand (mm/mm_init.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import ADDRESS_SPACE, GIB, MIB, PAGE
from tdx_headroom.facts.observations import Zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tdx_headroom.facts.host_facts import MemoryRegion

MOVABLE = "Movable"

X86_ZONES = (
    ("DMA", PAGE, 16 * MIB),
    ("DMA32", 16 * MIB, 4 * GIB),
    ("Normal", 4 * GIB, ADDRESS_SPACE),
)
"""``zone_sizes_init()`` of arch/x86/mm/init.c: name, lowest and highest possible address."""


def zones_of(
    regions: Iterable[MemoryRegion],
    ranges: Sequence[tuple[str, int, int]] = X86_ZONES,
    movable: Mapping[int, int] | None = None,
) -> list[Zone]:
    """The zones of every node, as ``zone_spanned_pages_in_node()`` bounds them.

    Args:
        regions: memory regions; all those without a node count as one node.
        ranges: name, lowest and highest possible address of each zone, as the log's ``Zone ranges`` has them.
        movable: start of the movable zone by node, where ``kernelcore=`` or the like makes one.
    """
    spans: dict[int | None, tuple[int, int]] = {}
    for region in regions:
        low, high = spans.get(region.node, (region.start, region.end))
        spans[region.node] = (min(low, region.start), max(high, region.end))
    found = []
    for node, (low, high) in sorted(spans.items(), key=lambda item: item[1]):
        border = (movable or {}).get(node if node is not None else 0, ADDRESS_SPACE)
        for name, lowest, highest in ranges:
            start, end = max(low, lowest), min(high, highest, border)
            if start < end:
                found.append(Zone(node, name, start, end))
        if border < high:
            found.append(Zone(node, MOVABLE, max(low, border), high))
    return found
