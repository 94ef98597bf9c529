# SPDX-License-Identifier: Apache-2.0
"""Memory regions as the kernel's TDX code takes them from memblock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, PAGE, Containment, Range, align_down, align_up, subtract, total
from tdx_headroom.facts.host_facts import MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def tdx_memory_list(raw: Iterable[MemoryRegion]) -> list[MemoryRegion]:
    """The TDX memory list, from raw memory regions in address order (``build_tdx_memlist()``).

    ``for_each_mem_pfn_range()`` rounds every region inwards to whole pages on its own; the first MiB is
    never TDX memory. Touching regions stay apart, as they do in the kernel.
    """
    regions = []
    for start, end, node in raw:
        first = max(align_up(start, PAGE), MIB)
        last = align_down(end, PAGE)
        if first < last:
            regions.append(MemoryRegion(first, last, node))
    return regions


def not_convertible(regions: Sequence[MemoryRegion], cmrs: Sequence[tuple[int, int]]) -> list[Range]:
    """Memory outside every CMR, that the page allocator may all the same give to a guest."""
    return subtract(((r.start, r.end) for r in regions), ((base, base + size) for base, size in cmrs))


def in_no_single(regions: Sequence[MemoryRegion], cmrs: Sequence[tuple[int, int]]) -> list[Range]:
    """The regions that no CMR holds whole; CMRs that touch are not joined."""
    single = Containment((base, base + size) for base, size in cmrs)
    return [Range(r.start, r.end) for r in regions if not single.holds(r.start, r.end)]


def not_convertible_bytes(regions: Sequence[MemoryRegion], cmrs: Sequence[tuple[int, int]]) -> int:
    """How many bytes of the regions no CMR covers."""
    return total(not_convertible(regions, cmrs))
