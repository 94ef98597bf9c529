# SPDX-License-Identifier: Apache-2.0
"""What the parts of a TDMR look like in a picture: why they are reserved, and what the firmware has there."""

from __future__ import annotations

from bisect import bisect_right
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import Range, sorted_and_disjoint, subtract, union
from tdx_headroom.plan import AreaKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.observations import FirmwareRange
    from tdx_headroom.plan import Tdmr


class Look(StrEnum):
    """What a part of a TDMR is, as drawn: usable, a PAMT, or a hole by what the firmware has there."""

    RESERVED = "reserved"
    ACPI = "acpi"
    OTHER = "other"
    RAM = "ram"
    GAP = "gap"
    UNKNOWN = "unknown"
    PAMT = "pamt"
    USABLE = "usable"


ORDER = {look: i for i, look in enumerate(Look)}
"""In what order looks are drawn where several share a place."""

_BY_FIRMWARE = {
    "reserved": Look.RESERVED,
    "system ram": Look.RAM,
    "usable": Look.RAM,
    "acpi tables": Look.ACPI,
    "acpi data": Look.ACPI,
    "acpi non-volatile storage": Look.ACPI,
    "acpi nvs": Look.ACPI,
}


class Piece(NamedTuple):
    """Addresses ``[start, end)`` in bytes that look the same."""

    start: int
    end: int
    look: Look


class Firmware:
    """What the firmware's map has at an address; where its entries overlap, RAM yields.

    Args:
        ranges: the map, or None when it is unknown.
    """

    def __init__(self, ranges: Sequence[FirmwareRange] | None) -> None:
        self._known = ranges is not None
        pieces = sorted(
            Piece(r.start, r.end, _BY_FIRMWARE.get(r.kind.lower(), Look.OTHER)) for r in ranges or ()
        )
        self._pieces = (
            pieces if sorted_and_disjoint([(p.start, p.end) for p in pieces]) is None else _disjoint(pieces)
        )
        self._ends = [p.end for p in self._pieces]

    def pieces(self, start: int, end: int) -> list[Piece]:
        """The hole ``[start, end)``, cut where what the firmware has there changes."""
        if not self._known:
            return [Piece(start, end, Look.UNKNOWN)]
        found: list[Piece] = []
        at = start
        i = bisect_right(self._ends, start)
        while i < len(self._pieces) and self._pieces[i].start < end:
            piece = self._pieces[i]
            if piece.start > at:
                found.append(Piece(at, piece.start, Look.GAP))
            at = max(at, piece.start)
            found.append(Piece(at, min(piece.end, end), piece.look))
            at = min(piece.end, end)
            i += 1
        if at < end:
            found.append(Piece(at, end, Look.GAP))
        return found


def _disjoint(pieces: Sequence[Piece]) -> list[Piece]:
    """The same without overlaps: looks yield to those before them."""
    taken: list[Range] = []
    kept: list[Piece] = []
    for look in Look:
        own = subtract(((p.start, p.end) for p in pieces if p.look is look), taken)
        kept += [Piece(r.start, r.end, look) for r in own]
        taken = union([*taken, *own])
    return sorted(kept)


class Area(NamedTuple):
    """One reserved area by address, what most of it is, and its pieces."""

    start: int
    end: int
    look: Look
    pieces: tuple[Piece, ...]


def areas_of(tdmr: Tdmr, firmware: Firmware) -> list[Area]:
    """The reserved areas of a TDMR with what they are made of."""
    areas = []
    for area in tdmr.reserved_areas:
        start = tdmr.base + area.offset
        end = start + area.size
        if area.kind is AreaKind.PAMT:
            areas.append(Area(start, end, Look.PAMT, (Piece(start, end, Look.PAMT),)))
            continue
        pieces = firmware.pieces(start, end)
        most = max(pieces, key=lambda p: p.end - p.start).look if pieces else Look.UNKNOWN
        areas.append(Area(start, end, most, tuple(pieces)))
    return areas
