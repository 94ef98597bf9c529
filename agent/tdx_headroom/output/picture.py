# SPDX-License-Identifier: Apache-2.0
"""The geometry of the page's pictures: a TDMR drawn to scale, and the gauge of its reserved areas.

Everything is in whole units of a picture; nothing here knows of HTML. A map is cut into slots of equal size,
and whatever lies in a slot is drawn as wide as the slot: no address finer than that can be read from it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby, islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import show, show_size, total, union
from tdx_headroom.output.looks import ORDER, Area, Look

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.plan import Tdmr

COARSE_SLOTS = 64
"""What a TDMR is divided into for readers who may not see addresses."""
EXACT_SLOTS = (1024, 512, 256, 128, COARSE_SLOTS)
"""The same for those who may; more than one a pixel would not show."""
MAX_EXACT_SHAPES = 2000
"""On a whole page: beyond it, pictures get coarser."""
WIDTH = 1024
BAND_HEIGHT = 40
TALLY_HEIGHT = 30
TALLY_GAP = 4
"""The tally stands above the band, so its y is negative."""

_TALLY_BINS = 64
_TALLY_UNIT = 5
_TALLY_SQUARES = 48
_TITLE_AREAS = 3

CELL_WIDTH = 12
CELL_HEIGHT = 20
CELL_STEP = 15
MAX_CELLS = 32
MAX_CELLS_OVER = 8


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
        rise: how far the tally rises above the band, with the gap between them.
        amounts: bytes of each look.
        quarters: how many areas begin in each quarter of the TDMR.
    """

    slots: int
    shapes: tuple[Shape, ...]
    tally: str
    rise: int
    amounts: tuple[Amount, ...]
    quarters: tuple[int, int, int, int]


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
    tally, rise = _tally(begins)
    quarters = (quarter[0], quarter[1], quarter[2], quarter[3])
    return Map(slots, tuple(shapes), tally, rise, tuple(amounts), quarters)


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
        for i, look in enumerate(sorted(here, key=ORDER.__getitem__)):
            x, y, width = first * step, i * height, (at - first) * step
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


def _tally(begins: Counter[int]) -> tuple[str, int]:
    """A square for each area above the place where it begins, bars where there are many; and how high."""
    if not begins:
        return "", 0
    step = WIDTH // _TALLY_BINS
    most = max(begins.values())
    squares = most * _TALLY_UNIT <= TALLY_HEIGHT and begins.total() <= _TALLY_SQUARES
    high = most * _TALLY_UNIT if squares else TALLY_HEIGHT
    path = []
    for slot, count in sorted(begins.items()):
        start = f"M{slot * step + 1} "
        end = f"h-{step - 2}z"
        if squares:
            ys = (-TALLY_GAP - i * _TALLY_UNIT for i in range(count))
            path += [f"{start}{y}h{step - 2}v{1 - _TALLY_UNIT}{end}" for y in ys]
        else:
            path.append(f"{start}{-TALLY_GAP}h{step - 2}v-{max(1, count * high // most)}{end}")
    return "".join(path), high + TALLY_GAP


@dataclass(frozen=True, slots=True)
class Gauge:
    """How full a TDMR is: a cell an area, a line where the limit is.

    Args:
        shapes: filled cells.
        worst: an SVG path of the cells that would be filled too if every PAMT that could land there did.
        free: an SVG path of the others.
        past: an SVG path of the cells past the limit; they are in ``shapes`` too.
        limit_x: where the limit is.
        width: of the whole.
        each: how many areas a cell stands for.
    """

    shapes: tuple[Shape, ...]
    worst: str
    free: str
    past: str
    limit_x: int
    width: int
    each: int


def draw_gauge(areas: Sequence[Area], limit: int, worst: int) -> Gauge:
    """The gauge of a TDMR, in the order in which the kernel adds areas: holes, PAMTs, what could come on top.

    Args:
        areas: from ``areas_of()``.
        limit: how many there may be.
        worst: how many there could be.
    """
    each = -(-limit // MAX_CELLS)
    cells = -(-limit // each)
    looks = sorted((a.look for a in areas), key=lambda look: look is Look.PAMT)[::each]
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
        past="".join(_cell(i, cells) for i in range(cells, min(len(looks), shown))),
        limit_x=cells * CELL_STEP + 1,
        width=last * CELL_STEP + (8 if last > cells else 4),
        each=each,
    )


def _cell(index: int, cells: int) -> str:
    """One cell; those past the limit stand apart."""
    x = index * CELL_STEP + (1 if index < cells else 6)
    return f"M{x} 2h{CELL_WIDTH}v{CELL_HEIGHT}h-{CELL_WIDTH}z"
