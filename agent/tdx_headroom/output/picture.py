# SPDX-License-Identifier: Apache-2.0
"""The geometry of the page's pictures: a TDMR drawn to scale, and the gauge of its reserved areas.

Everything is in whole units of a picture; nothing here knows of HTML. A map is cut into slots of equal size, and
whatever lies in a slot is drawn as wide as the slot: no address finer than that can be read from it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import Range, show, show_size, subtract, total, union
from tdx_headroom.plan import AreaKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.observations import FirmwareRange
    from tdx_headroom.plan import Tdmr

COARSE_SLOTS = 64
"""What a TDMR is divided into for readers who may not see addresses."""
EXACT_SLOTS = (1024, 512, 256, 128, COARSE_SLOTS)
"""The same for those who may; more than one a pixel would not show."""
MAX_EXACT_SHAPES = 3000
"""On a whole page: beyond it, pictures get coarser."""
WIDTH = 1024
TALLY_HEIGHT = 30
BAND_TOP = 34
BAND_HEIGHT = 40
HEIGHT = BAND_TOP + BAND_HEIGHT

_TALLY_BINS = 64
_TALLY_UNIT = 5
_TALLY_SQUARES = 48
_TITLE_AREAS = 3

CELL_WIDTH = 12
CELL_HEIGHT = 20
CELL_STEP = 15
MAX_CELLS = 32
MAX_CELLS_OVER = 8


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


_ORDER = {look: i for i, look in enumerate(Look)}
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
        by_look: dict[Look, list[Range]] = {}
        for r in ranges or ():
            by_look.setdefault(_BY_FIRMWARE.get(r.kind.lower(), Look.OTHER), []).append(Range(r.start, r.end))
        taken: list[Range] = []
        pieces: list[Piece] = []
        for look in (Look.RESERVED, Look.ACPI, Look.OTHER, Look.RAM):
            own = subtract(by_look.get(look, ()), taken)
            pieces += [Piece(r.start, r.end, look) for r in own]
            taken = union([*taken, *own])
        self._pieces = sorted(pieces)
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


class Area(NamedTuple):
    """One reserved area by address, what most of it is, and its pieces."""

    start: int
    end: int
    look: Look
    pieces: tuple[Piece, ...]


class Shape(NamedTuple):
    """What is drawn in one go: an SVG path, how it looks, and what to say about it, if anything."""

    look: Look
    path: str
    title: str | None


class Amount(NamedTuple):
    """How many bytes of a TDMR look one way."""

    look: Look
    size: int


@dataclass(frozen=True, slots=True)
class Map:
    """A TDMR drawn to scale.

    Args:
        slots: how many steps it is cut into.
        shapes: everything that is not usable.
        tally: an SVG path with a mark for each area above the place where it begins.
        amounts: bytes of each look.
        quarters: how many areas begin in each quarter of the TDMR.
    """

    slots: int
    shapes: tuple[Shape, ...]
    tally: str
    amounts: tuple[Amount, ...]
    quarters: tuple[int, int, int, int]


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


def exact_slots(counts: Iterable[int]) -> int:
    """Into how many steps to cut each map of a page, given how many areas each has."""
    maps = list(counts)
    for slots in EXACT_SLOTS:
        if sum(min(2 * count, slots) for count in maps) <= MAX_EXACT_SHAPES:
            return slots
    return COARSE_SLOTS


def draw_map(tdmr: Tdmr, areas: Sequence[Area], slots: int, *, titles: bool = False) -> Map:
    """The map of a TDMR.

    Args:
        tdmr: which.
        areas: from ``areas_of()``.
        slots: how many steps to cut it into; a divisor of ``WIDTH``.
        titles: whether to say of each shape at which addresses its areas lie.
    """
    looks: list[set[Look]] = [set() for _ in range(slots)]
    for area in areas:
        for piece in area.pieces:
            for slot in _slots(tdmr, piece.start, piece.end, slots):
                looks[slot].add(piece.look)
    shapes = _runs(tdmr, areas, looks) if titles else _paths(looks)
    sizes: Counter[Look] = Counter()
    for area in areas:
        for piece in area.pieces:
            sizes[piece.look] += piece.end - piece.start
    covered = total(union((a.start, a.end) for a in areas))
    amounts = [Amount(Look.USABLE, tdmr.size - covered)]
    amounts += [Amount(look, sizes[look]) for look in Look if sizes[look]]
    begins = Counter(_slots(tdmr, a.start, a.end, _TALLY_BINS).start for a in areas)
    quarter = Counter(4 * slot // _TALLY_BINS for slot in begins.elements())
    return Map(
        slots,
        tuple(shapes),
        _tally(begins),
        tuple(amounts),
        (quarter[0], quarter[1], quarter[2], quarter[3]),
    )


def _slots(tdmr: Tdmr, start: int, end: int, slots: int) -> range:
    """The slots that addresses ``[start, end)`` touch."""
    first = (start - tdmr.base) * slots // tdmr.size
    last = ((end - tdmr.base) * slots - 1) // tdmr.size
    return range(min(max(first, 0), slots - 1), min(last, slots - 1) + 1)


def _bars(looks: Sequence[set[Look]]) -> Iterable[tuple[int, int, Look, str]]:
    """Runs of slots that look the same, as ``(first, end, look, path)``; several looks share the height."""
    at = 0
    step = WIDTH // len(looks)
    for here, run in groupby(looks):
        first, at = at, at + len(list(run))
        height = BAND_HEIGHT // len(here) if here else 0
        for i, look in enumerate(sorted(here, key=_ORDER.__getitem__)):
            x, y, width = first * step, BAND_TOP + i * height, (at - first) * step
            yield first, at, look, f"M{x} {y}h{width}v{height}h-{width}z"


def _paths(looks: Sequence[set[Look]]) -> list[Shape]:
    """One path a look."""
    paths: dict[Look, str] = {}
    for _, _, look, path in _bars(looks):
        paths[look] = paths.get(look, "") + path
    return [Shape(look, paths[look], None) for look in Look if look in paths]


def _runs(tdmr: Tdmr, areas: Sequence[Area], looks: Sequence[set[Look]]) -> list[Shape]:
    """One path a run, which says what is there."""
    slots = len(looks)
    shapes = []
    passed = 0
    for first, end, look, path in _bars(looks):
        low, high = tdmr.base + first * tdmr.size // slots, tdmr.base + end * tdmr.size // slots
        while passed < len(areas) and areas[passed].end <= low:
            passed += 1
        near = takewhile(lambda a: a.start < high, islice(areas, passed, None))  # noqa: B023  used up within the round
        pieces = [p for a in near for p in a.pieces if p.look is look and p.start < high and p.end > low]
        names = [f"{show(p.start, p.end)} {show_size(p.end - p.start)}" for p in pieces]
        more = f" and {len(names) - _TITLE_AREAS} more" if len(names) > _TITLE_AREAS else ""
        shapes.append(Shape(look, path, ", ".join(names[:_TITLE_AREAS]) + more))
    return shapes


def _tally(begins: Counter[int]) -> str:
    """A square for each area above the place where it begins; bars where there are many."""
    if not begins:
        return ""
    step = WIDTH // _TALLY_BINS
    most = max(begins.values())
    unit = min(_TALLY_UNIT, TALLY_HEIGHT / most)
    squares = unit == _TALLY_UNIT and begins.total() <= _TALLY_SQUARES
    path = []
    for slot, count in sorted(begins.items()):
        x = slot * step + 1
        if squares:
            path += [f"M{x} {TALLY_HEIGHT - i * _TALLY_UNIT}h{step - 2}v-4h-{step - 2}z" for i in range(count)]
        else:
            height = max(1, round(count * unit))
            path.append(f"M{x} {TALLY_HEIGHT}h{step - 2}v-{height}h-{step - 2}z")
    return "".join(path)


@dataclass(frozen=True, slots=True)
class Gauge:
    """How full a TDMR is: a cell an area, a line where the limit is.

    Args:
        shapes: filled cells.
        worst: an SVG path of the cells that would be filled too if every PAMT that could land there did.
        free: an SVG path of the others.
        over: an SVG path of the cells past the limit; they are in ``shapes`` too.
        limit_x: where the limit is.
        width: of the whole.
        each: how many areas a cell stands for.
    """

    shapes: tuple[Shape, ...]
    worst: str
    free: str
    over: str
    limit_x: int
    width: int
    each: int


def draw_gauge(areas: Sequence[Area], limit: int, worst: int) -> Gauge:
    """The gauge of a TDMR: holes first, then PAMTs, then what could come on top.

    Args:
        areas: from ``areas_of()``.
        limit: how many there may be.
        worst: how many there could be.
    """
    each = -(-limit // MAX_CELLS)
    cells = -(-limit // each)
    looks = sorted((a.look for a in areas), key=_ORDER.__getitem__)[::each]
    possible = max(-(-worst // each), len(looks))
    shown = cells + MAX_CELLS_OVER
    paths: dict[Look, str] = {}
    for i, look in enumerate(looks[:shown]):
        paths[look] = paths.get(look, "") + _cell(i, cells)
    last = min(max(cells, possible), shown)
    return Gauge(
        shapes=tuple(Shape(look, path, None) for look, path in paths.items()),
        worst="".join(_cell(i, cells) for i in range(len(looks), min(possible, shown))),
        free="".join(_cell(i, cells) for i in range(possible, cells)),
        over="".join(_cell(i, cells) for i in range(cells, min(len(looks), shown))),
        limit_x=cells * CELL_STEP + 1,
        width=last * CELL_STEP + (8 if last > cells else 4),
        each=each,
    )


def _cell(index: int, cells: int) -> str:
    """One cell; those past the limit stand apart."""
    x = index * CELL_STEP + (1 if index < cells else 6)
    return f"M{x} 2h{CELL_WIDTH}v{CELL_HEIGHT}h-{CELL_WIDTH}z"
