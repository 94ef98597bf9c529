# SPDX-License-Identifier: Apache-2.0
"""Lists of CMRs for a memory map: each kind makes one from a random generator and the map.

CMRs are ``[start, end)`` in table order, empty entries (both ends the same) included. The stand-in's table
always has 32 entries, as every module's so far: what a list leaves is empty.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from tests.kernel.guestmap import GIB, HIGH, KIB, LOW_TAIL, MIB
from tests.kernel.pieces import PAGE, Span, apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.kernel.guestmap import GuestMap

    Kind = Callable[[Random, GuestMap], list[Span]]

MAX_CMRS = 32
LONGEST = 1000
"""Characters: the kernel takes no parameter that is longer than 1024."""
LONGEST_LINE = 1800
"""Characters of a command line: an x86 kernel takes 2048, and there is more than the map's on it."""

REFUSE = "tdx_cmrs.refuse=1"
"""Ends the initialization where a memory region is not inside one CMR (``standin/tdx_cmrs.c``)."""

_EMPTY: Span = (0, 0)
_TABLES = 128 * KIB
"""Of SeaBIOS, at the end of low memory."""
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}


def memory_of(guest: GuestMap) -> list[Span]:
    """Where the guest's memory is, nearly: its arguments on top of the firmware's map, in any order."""
    found = [(MIB, guest.low_end - _TABLES), (HIGH, guest.high_end)]
    pieces = [piece for argument in guest.arguments for piece in _pieces(argument)]
    if "memmap=exactmap" in guest.arguments:
        found = [span for kind, span in pieces if kind == "@" and span[1] > MIB]
    for kind, (low, high) in pieces:
        if kind != "@":
            found = [
                part
                for start, end in found
                for part in ((start, min(end, low)), (max(start, high), end))
                if part[0] < part[1]
            ]
    rounded = ((-(-start // PAGE) * PAGE, end // PAGE * PAGE) for start, end in found)
    return _joined(sorted(span for span in rounded if span[0] < span[1]))


def _pieces(argument: str) -> list[tuple[str, Span]]:
    if not argument.startswith("memmap="):
        return []
    found = []
    for text in argument.removeprefix("memmap=").split(","):
        if match := re.fullmatch(r"(0x[0-9a-f]+|\d+)([KMG]?)([@$#!])(0x[0-9a-f]+|\d+)([KMG]?)", text):
            start = int(match[4], 0) * _UNITS[match[5]]
            found.append((match[3], (start, start + int(match[1], 0) * _UNITS[match[2]])))
    return found


def _joined(spans: Iterable[Span]) -> list[Span]:
    made: list[Span] = []
    for start, end in spans:
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((start, end))
    return made


def _holes(guest: GuestMap) -> list[Span]:
    """What lies between the pieces of memory, the PCI hole left out."""
    memory = memory_of(guest)
    between = [(a[1], b[0]) for a, b in pairwise(memory)]
    return [hole for hole in between if hole[1] <= guest.low_end or hole[0] >= HIGH]


def firmware(_r: Random, guest: GuestMap) -> list[Span]:
    """All that the machine has, as firmware makes it: one CMR below 4 GiB, and one above."""
    ends = [(MIB, guest.low_end), (HIGH, guest.high_end)]
    return [span for span in ends if span[0] < span[1]]


def one(_r: Random, guest: GuestMap) -> list[Span]:
    """One CMR over everything, the PCI hole too."""
    return [(MIB, -(-(guest.high_end + sum(guest.dimms)) // GIB) * GIB + GIB)]


def tail(r: Random, guest: GuestMap) -> list[Span]:
    """Empty entries behind the CMRs, some of them with an address."""
    made = firmware(r, guest)
    empty = r.choice((_EMPTY, (made[-1][1],) * 2))
    return [*made, *[empty] * (MAX_CMRS - len(made))]


def full(r: Random, guest: GuestMap) -> list[Span]:
    """All 32 entries are in use."""
    return _cut(r, firmware(r, guest), MAX_CMRS)


def memory(_r: Random, guest: GuestMap) -> list[Span]:
    """The memory, and nothing else: the least holes between its pieces go where there are too many."""
    return _at_most(memory_of(guest), MAX_CMRS)


def touching(r: Random, guest: GuestMap) -> list[Span]:
    """CMRs that touch, some of them inside a hole of the memory."""
    holes = _holes(guest)
    places = [r.randrange(a, b + PAGE, PAGE) for a, b in r.sample(holes, min(len(holes), r.randint(1, 5)))]
    return _cut(r, firmware(r, guest), r.randint(2, 8), places)


def partial(r: Random, guest: GuestMap) -> list[Span]:
    """CMRs that end somewhere inside the holes of the memory, so that each is covered in part."""
    spans = memory_of(guest)
    starts, ends = [span[0] for span in spans], [span[1] for span in spans]
    for i, (before, after) in enumerate(pairwise(spans)):
        if before[1] >= HIGH or after[0] < HIGH:
            low, high = sorted(r.randrange(before[1], after[0] + PAGE, PAGE) for _ in range(2))
            ends[i], starts[i + 1] = r.choice(((low, high), (low, after[0]), (before[1], high)))
    return _at_most(_joined(zip(starts, ends, strict=True)), MAX_CMRS)


def fragmented(r: Random, guest: GuestMap) -> list[Span]:
    """More gaps between CMRs than between pieces of memory, anywhere."""
    made = firmware(r, guest)
    for _ in range(r.randint(2, MAX_CMRS - 2)):
        i = r.randrange(len(made))
        start, end = made[i]
        size = r.choice((PAGE, 2 * PAGE, 64 * KIB, MIB, 4 * MIB))
        if end - start > size + 4 * MIB:
            at = r.randrange(start + MIB, end - size - MIB, PAGE)
            made[i : i + 1] = [(start, at), (at + size, end)]
    return made


def limit(r: Random, guest: GuestMap) -> list[Span]:
    """So many gaps in the low TDMR that the CMRs need one area less than the limit, the limit, or one more.

    One is the first MiB already, and one what lies behind the end of memory, where that is no GiB border.
    """
    made = firmware(r, guest)
    low, high = max(GIB, guest.low_end // 2), guest.low_end - LOW_TAIL
    have = 1 + bool(guest.low_end % GIB)
    gaps = min(guest.module.max_reserved - have + r.choice((-1, 0, 1)), MAX_CMRS - len(made))
    if gaps < 1 or high - low < gaps * MIB:
        return made
    return _without(made, [(at, at + size) for at, size in apart(r, (low, high), gaps)])


def outside(r: Random, guest: GuestMap) -> list[Span]:
    """The end of the memory lies in no CMR, as that of CXL devices; modules that ACPI adds do too."""
    made = firmware(r, guest)
    start, end = made[-1]
    at = r.randrange(max(start + 256 * MIB, end - 3 * GIB), end, PAGE) if end - start > 300 * MIB else end
    if r.random() < 0.5 and at // GIB * GIB > start:
        at = at // GIB * GIB
    return [*made[:-1], (start, at)]


def empty_inside(r: Random, guest: GuestMap) -> list[Span]:
    """An empty entry in the middle: kernels stop reading there, and the module does not."""
    made = _cut(r, firmware(r, guest), r.randint(2, 6))
    i = r.randrange(1, len(made))
    return [*made[:i], r.choice((_EMPTY, (made[i][0],) * 2)), *made[i:]]


def empty_first(r: Random, guest: GuestMap) -> list[Span]:
    """An empty entry before all others: for such a kernel there is no CMR at all."""
    return [_EMPTY, *firmware(r, guest)]


def refused(r: Random, guest: GuestMap) -> list[Span]:
    """A table that the module takes for damaged: out of order, overlapping, or not page aligned."""
    made = _cut(r, firmware(r, guest), r.randint(2, 5))
    i = r.randrange(1, len(made))
    kind = r.choice(("order", "overlap", "unaligned"))
    if kind == "order":
        made[i - 1], made[i] = made[i], made[i - 1]
    elif kind == "overlap":
        made[i] = (made[i - 1][1] - PAGE, made[i][1])
    else:
        made[i] = (made[i][0] + 0x800, made[i][1])
    return made


KINDS: dict[str, tuple[int, Kind]] = {
    "firmware": (2, firmware),
    "one": (1, one),
    "empty tail": (1, tail),
    "full": (1, full),
    "memory": (3, memory),
    "touching": (2, touching),
    "partial": (3, partial),
    "fragmented": (2, fragmented),
    "limit": (3, limit),
    "outside": (2, outside),
    "empty inside": (1, empty_inside),
    "empty first": (1, empty_first),
    "table refused": (1, refused),
    "memory refused": (1, outside),
}
"""Each kind with its share."""


def with_cmrs(guests: Sequence[GuestMap], strategy: str, seed: int) -> list[GuestMap]:
    """The same maps with CMRs of all kinds, for a strategy; both strategies get the same.

    A module whose PAMT entries are smaller than those of every real module is given those: the module's
    checks know no others.
    """
    made = []
    deck: list[str] = []
    for i, guest in enumerate(guests):
        if not deck:
            deck = [name for name, (share, _) in KINDS.items() for _ in range(share)]
            Random(f"{seed}/cmr-kinds/{i}").shuffle(deck)
        made.append(_with_kind(guest, strategy, deck.pop(), Random(f"{seed}/cmrs/{i}")))
    return made


def _with_kind(guest: GuestMap, strategy: str, name: str, r: Random) -> GuestMap:
    size = tuple(max(16, size) for size in guest.module.pamt_entry_size)
    module = replace(guest.module, pamt_entry_size=(size[0], size[1], size[2]))
    arguments = (*guest.arguments, *((REFUSE,) if name == "memory refused" else ()))
    for kind in (name, "firmware"):
        given = replace(module, cmrs=tuple(KINDS[kind][1](r, guest)))
        note = f"{guest.note}; CMRs: {kind}".removeprefix("; ")
        full_guest = replace(guest, strategy=strategy, note=note, arguments=arguments, module=given)
        if max(map(len, given.arguments())) <= LONGEST and len(full_guest.command_line) <= LONGEST_LINE:
            break
    return full_guest


def _cut(r: Random, spans: Sequence[Span], count: int, places: Sequence[int] = ()) -> list[Span]:
    """The spans cut into ``count`` pieces that touch, at these places first."""
    made = list(spans)
    wanted = list(places)
    while len(made) < count:
        at = wanted.pop() if wanted else None
        if at is None:
            start, end = max(made, key=lambda span: span[1] - span[0])
            at = r.randrange(start + PAGE, end, PAGE)
        made = [
            part
            for start, end in made
            for part in (((start, at), (at, end)) if start < at < end else ((start, end),))
        ]
    return made


def _without(spans: Sequence[Span], gaps: Iterable[Span]) -> list[Span]:
    made = list(spans)
    for low, high in gaps:
        made = [
            part
            for start, end in made
            for part in ((start, min(end, low)), (max(start, high), end))
            if part[0] < part[1]
        ]
    return made


def _at_most(spans: Sequence[Span], count: int) -> list[Span]:
    """The spans with the least gaps between them closed until there are no more than ``count``."""
    made = list(spans)
    while len(made) > count:
        i = min(range(len(made) - 1), key=lambda n: made[n + 1][0] - made[n][1])
        made[i : i + 2] = [(made[i][0], made[i + 1][1])]
    return made
