# SPDX-License-Identifier: Apache-2.0
"""What QEMU's firmware tells of a guest, memory map and SRAT, for runs that did not keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.observations import FirmwareRange, NodeRange
from tests.kernel.guestmap import GIB, HIGH, KIB, MIB, low_end

if TYPE_CHECKING:
    from collections.abc import Sequence

_RAM, _KEPT = "System RAM", "Reserved"
_BORDERS = 640 * KIB, MIB


def firmware_map(memory: int, machine: str) -> list[FirmwareRange]:
    """The E820 table of SeaBIOS."""
    low = low_end(memory, machine)
    tables = low - (132 if memory > 64 * GIB else 128) * KIB
    rows = [
        (0, 0x9FC00, _RAM),
        (0x9FC00, 0xA0000, _KEPT),
        (0xF0000, MIB, _KEPT),
        (MIB, tables, _RAM),
        (tables, low, _KEPT),
    ]
    if machine == "q35":
        rows += [(0xB000_0000, 0xC000_0000, _KEPT), (0xFED1_C000, 0xFED2_0000, _KEPT)]
    rows += [(0xFFFC_0000, HIGH, _KEPT)]
    if memory > low:
        rows += [(HIGH, HIGH + memory - low, _RAM)]
    return [FirmwareRange(*row) for row in [*rows, (1012 * GIB, 1024 * GIB, _KEPT)]]


def srat(memory: int, machine: str, nodes: Sequence[int]) -> list[NodeRange]:
    """Nodes one after the other, around the holes below 1 MiB and below 4 GiB (``build_srat()`` of QEMU)."""
    low = low_end(memory, machine)
    spans = ((0, _BORDERS[0]), (_BORDERS[1], low), (HIGH, HIGH + memory - low))
    found: list[NodeRange] = []
    at = 0
    for node, size in enumerate(nodes):
        first, last = (_address(n, low) for n in (at, at + size))
        at += size
        if last > low and last < HIGH:
            last = low
        for start, end in spans:
            if max(start, first) < min(end, last):
                found.append(NodeRange(max(start, first), min(end, last), node))
    return found


def _address(offset: int, low: int) -> int:
    """Where so much memory ends."""
    return offset if offset <= low else offset - low + HIGH
