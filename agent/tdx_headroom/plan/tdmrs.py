# SPDX-License-Identifier: Apache-2.0
"""TDMRs from memory regions, and the node of each (``fill_out_tdmrs()``, ``tdmr_get_nid()``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, Range, align_down, align_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.host_facts import MemoryRegion

TDMR_NR_WARN = 4
"""The kernel warns when fewer TDMRs than this are left."""


def tdmr_ranges(regions: Sequence[MemoryRegion]) -> list[Range]:
    """All TDMRs that the regions need, without a limit.

    A TDMR never grows: two touching regions, split by their node alone, cost two TDMRs when the second
    one's rounded end lies further up.
    """
    tdmrs: list[Range] = []
    covered = 0
    for region in regions:
        start = align_down(region.start, GIB)
        end = align_up(region.end, GIB)
        if tdmrs and end <= covered:
            continue
        if tdmrs and start < covered:
            start = covered
        tdmrs.append(Range(start, end))
        covered = end
    return tdmrs


def tdmr_nodes(tdmrs: Sequence[Range], regions: Sequence[MemoryRegion]) -> list[int | None]:
    """The node for each TDMR's PAMT: that of the first region which ends above the TDMR's base."""
    nodes: list[int | None] = []
    i = 0
    for tdmr in tdmrs:
        while regions[i].end <= tdmr.start:
            i += 1
        nodes.append(regions[i].node)
    return nodes


def limit_warning(used: int, max_tdmrs: int) -> str | None:
    """The kernel's warning that TDMRs are running out, printed before any later failure."""
    if max_tdmrs - used < TDMR_NR_WARN:
        return f"consumed TDMRs reaching limit: {used} used out of {max_tdmrs}"
    return None
