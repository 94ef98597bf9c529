# SPDX-License-Identifier: Apache-2.0
"""Physical addresses: bytes, half-open ranges, and the few operations the project needs on them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAGE = 1 << 12
KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
ADDRESS_SPACE = 1 << 64


class Range(NamedTuple):
    """Addresses ``[start, end)`` in bytes."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start


def align_down(address: int, unit: int) -> int:
    """The largest multiple of ``unit`` (a power of two) that is not above ``address``."""
    return address & -unit


def align_up(address: int, unit: int) -> int:
    """The smallest multiple of ``unit`` (a power of two) that is not below ``address``."""
    return (address + unit - 1) & -unit


def union(ranges: Iterable[tuple[int, int]]) -> list[Range]:
    """The same addresses as sorted, disjoint ranges; touching ranges become one, empty ones go."""
    merged: list[Range] = []
    first = last = -1
    for start, end in sorted([(r[0], r[1]) for r in ranges]):
        if end <= start:
            continue
        if start > last:
            if last >= 0:
                merged.append(Range(first, last))
            first, last = start, end
        elif end > last:
            last = end
    if last >= 0:
        merged.append(Range(first, last))
    return merged


def page_round(ranges: Iterable[tuple[int, int]]) -> list[Range]:
    """The whole 4 KiB pages inside the ranges: touching ranges are joined first, then rounded inwards."""
    rounded = (Range(align_up(r.start, PAGE), align_down(r.end, PAGE)) for r in union(ranges))
    return [r for r in rounded if r.end > r.start]


def subtract(ranges: Iterable[tuple[int, int]], holes: Iterable[tuple[int, int]]) -> list[Range]:
    """What is in ``ranges`` and not in ``holes``, sorted and disjoint; linear after sorting."""
    return cut_out(union(ranges), union(holes))


def cut_out(ranges: Iterable[Range], cut: Sequence[Range]) -> list[Range]:
    """The same where both are sorted and disjoint already; ranges that touch stay apart."""
    rest: list[Range] = []
    first = 0
    for start, end in ranges:
        while first < len(cut) and cut[first].end <= start:
            first += 1
        at = start
        i = first
        while i < len(cut) and cut[i].start < end:
            if cut[i].start > at:
                rest.append(Range(at, cut[i].start))
            at = max(at, cut[i].end)
            i += 1
        if at < end:
            rest.append(Range(at, end))
    return rest


def intersect(ranges: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> list[Range]:
    """What is in both, sorted and disjoint."""
    first, second = union(ranges), union(others)
    both: list[Range] = []
    i = j = 0
    while i < len(first) and j < len(second):
        start = max(first[i].start, second[j].start)
        end = min(first[i].end, second[j].end)
        if start < end:
            both.append(Range(start, end))
        if first[i].end < second[j].end:
            i += 1
        else:
            j += 1
    return both


def clip(ranges: Iterable[Range], start: int, end: int) -> list[Range]:
    """What of each range lies in ``[start, end)``; ranges that have nothing there go."""
    if start >= end:
        return []
    return [
        r if start <= r.start and r.end <= end else Range(max(r.start, start), min(r.end, end))
        for r in ranges
        if r.start < end and r.end > start
    ]


def total(ranges: Iterable[tuple[int, int]]) -> int:
    """Bytes in the ranges, each address counted as often as it appears."""
    return sum(r[1] - r[0] for r in ranges)


def overlap(ranges: Iterable[Range], others: Sequence[Range]) -> bool:
    """Whether an address is in both; ``others`` are sorted and disjoint."""
    for start, end in ranges:
        i = bisect_left(others, (end, 0)) - 1
        if i >= 0 and others[i].end > start:
            return True
    return False


class Containment:
    """Answers "does one of these ranges hold all of [start, end)?" in logarithmic time.

    The ranges may overlap and come in any order; nothing is joined, since neither the kernel nor the
    TDX module joins CMRs beyond what the caller did before.
    """

    __slots__ = ("_reach", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        ordered = sorted((r[0], r[1]) for r in ranges if r[1] > r[0])
        self._starts = [start for start, _ in ordered]
        self._reach: list[int] = []
        furthest = 0
        for _, end in ordered:
            furthest = max(furthest, end)
            self._reach.append(furthest)

    def holds(self, start: int, end: int) -> bool:
        """Whether one range holds every address of ``[start, end)``."""
        i = bisect_right(self._starts, start) - 1
        return i >= 0 and self._reach[i] >= end


def sorted_and_disjoint(ranges: Sequence[tuple[int, ...]]) -> int | None:
    """Index of the first range that starts before its predecessor ends, or None when all is in order."""
    end = 0
    for i, r in enumerate(ranges):
        if r[0] < end:
            return i
        end = r[1]
    return None


def show(start: int, end: int) -> str:
    """``[0x0, 0x80000000)``, as the kernel prints TDMRs and CMRs."""
    return f"[0x{start:x}, 0x{end:x})"


def show_size(size: int) -> str:
    """A size for people: ``64 KiB``, ``1.5 GiB``; exact where that is short."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError
