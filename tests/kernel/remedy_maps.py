# SPDX-License-Identifier: Apache-2.0
"""Memory maps of the remedy test: too many areas, or nearly, in one TDMR or in several; too many TDMRs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.kernel.cmr_lists import with_cmrs
from tests.kernel.families import limit
from tests.kernel.guestmap import GIB, HIGH, LOW_TAIL, MEMORY_REGIONS, MIB, GuestMap, Module
from tests.kernel.maps import deal
from tests.kernel.pieces import KINDS, PAGE, apart, piece

if TYPE_CHECKING:
    from random import Random

    from tests.kernel.families import Families

LIMIT = 16


def crowded(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """Holes in the last GiB below the PCI hole, above it, or both: from two below the limit to ten over."""
    g = replace(g, memory=r.choice((4, 5, 6, 8)) * GIB + r.choice((0, 0, 300 * MIB)))
    where = ("low", "high", "both")[turn % 3]
    arguments = []
    for span in _crowds(g, where):
        count = LIMIT + r.choice((-2, -1, 0, 0, 1, 2, 4, 10))
        arguments += [piece(r.choice(KINDS), *hole) for hole in _holes(r, span, count)]
    return replace(g, note=where, arguments=tuple(arguments))


def edge(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """No area is left in one TDMR, or one or two are: it comes up, and is at risk."""
    g = replace(g, memory=r.choice((4, 5, 6, 8)) * GIB)
    where = ("low", "high")[turn % 2]
    ((start, end),) = _crowds(g, where)
    # The first MiB and what lies below the PCI hole, or two PAMTs, take two areas already.
    made = apart(r, (start, end), LIMIT - 2 - turn // 2 % 3)
    arguments = tuple(piece(r.choice(KINDS), *hole) for hole in made)
    return replace(g, note=f"{len(made)} holes, {where}", arguments=arguments)


def listed(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """``memmap=exactmap``, and the pieces between the holes of a crowd."""
    g = replace(g, memory=r.choice((4, 5, 6)) * GIB)
    ends = [(MIB, g.low_end - 2 * MIB), (HIGH, g.high_end)]
    where = ("low", "high")[turn % 2]
    ((start, end),) = _crowds(g, where)
    made = apart(r, (start, end), LIMIT + r.choice((-3, -2, -1, 0, 1, 3)))
    pieces = [piece("@", 0, 0x9FC00)]
    for first, last in ends:
        at = first
        for hole, size in made:
            if first < hole < last:
                pieces.append(piece("@", at, hole - at))
                at = hole + size
        pieces.append(piece("@", at, last - at))
    return replace(g, note=f"{len(made)} holes, {where}", arguments=("memmap=exactmap", *pieces))


def islands(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Every second GiB is gone but for a small island in some: more TDMRs are needed than the module has."""
    count = r.randint(3, 7)
    g = replace(g, memory=(2 + 2 * count) * GIB)
    small = r.randint(1, count)
    arguments = []
    for i in range(count):
        start = HIGH + (2 * i + 1) * GIB
        if i < small:
            at = start + r.randrange(64 * MIB, 900 * MIB, PAGE)
            size = r.choice((PAGE, 16 * PAGE, MIB, 24 * MIB))
            arguments += [piece("$", start, at - start), piece("$", at + size, start + GIB - at - size)]
        else:
            arguments.append(piece("$", start, GIB))
    # An island lies in a GiB of its own, between two that are full: it takes a TDMR, or joins one.
    most = r.randint(max(1, count + 1 - small), count + small)
    return replace(g, note=f"{small} islands", arguments=tuple(arguments), module=Module(max_tdmrs=most))


def little_normal(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """``kernelcore=`` and ``movablecore=`` that leave little for PAMTs: all memory lies below 4 GiB."""
    memory = r.choice((2, 2, 1)) * GIB
    core = r.randrange(64, 176, 4)
    argument = f"kernelcore={core}M" if turn % 2 else f"movablecore={memory // MIB - core}M"
    return replace(g, note=argument, memory=memory, arguments=(argument,))


def _crowds(g: GuestMap, where: str) -> list[tuple[int, int]]:
    """Where holes crowd: in the last GiB below the PCI hole, in one above it, or in both."""
    end = g.high_end // GIB * GIB
    spans = {
        "low": (GIB + MIB, g.low_end - LOW_TAIL),
        "high": (max(end - GIB, HIGH) + MIB, end - MIB),
    }
    return [span for name, span in spans.items() if where in (name, "both")]


def nodes(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """Two or three nodes, each with its own crowd."""
    sizes = tuple(r.randint(2, 4) * GIB + r.choice((0, 512 * MIB)) for _ in range(r.randint(2, 3)))
    g = replace(g, memory=sum(sizes), nodes=sizes)
    at = HIGH - g.low_end  # what lies below 4 GiB belongs to the first node
    arguments = []
    border = at
    for size in sizes:
        border += size
        span = (max(border - GIB + 16 * MIB, HIGH + 64 * MIB), border - 16 * MIB)
        if span[1] - span[0] > 256 * MIB:
            arguments += [
                piece(r.choice(KINDS), *hole) for hole in _holes(r, span, r.choice((4, 14, 17, 20)))
            ]
    return replace(g, note=f"{len(sizes)} nodes", arguments=tuple(arguments))


def near_the_kernel(r: Random, _turn: int, g: GuestMap) -> GuestMap:
    """The shortest pieces of memory lie where the kernel's image does; longer ones above."""
    g = replace(g, memory=r.choice((2, 3)) * GIB)
    high = min(g.low_end, GIB)
    arguments = [piece("$", *hole) for hole in apart(r, (high - 512 * MIB, high - LOW_TAIL), 14)]
    arguments += [piece("$", 64 * MIB + 12 * MIB * i, PAGE) for i in range(4)]
    return replace(g, note="4 below 128 MiB", arguments=tuple(arguments))


def set_aside(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """Nearly all memory in huge pages or CMA."""
    g = replace(g, memory=r.choice((2, 3, 4, 6)) * GIB)
    share = r.uniform(0.93, 0.999)
    arguments: tuple[str, ...]
    match turn % 3:
        case 0:
            arguments = ("hugepagesz=2M", f"hugepages={int(g.memory * share) // (2 * MIB)}")
        case 1:
            arguments = ("hugepagesz=1G", f"hugepages={g.memory // GIB}")
        case _:
            arguments = (f"cma={int(g.memory * share) // MIB}M",)
    return replace(g, note="set aside", arguments=arguments)


def _holes(r: Random, span: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Holes that leave between them from a page to many MiB."""
    if r.random() < 0.5:
        return apart(r, span, count)
    found = []
    at = span[0]
    for _ in range(count):
        size = r.choice((PAGE, PAGE, 16 * PAGE, MIB))
        at += r.choice((PAGE, 2 * PAGE, 64 * PAGE, 5 * MIB, 20 * MIB))
        if at + size >= span[1]:
            break
        found.append((at, size))
        at += size
    return found


FAMILIES: Families = {
    "crowded": (9, crowded),
    "edge": (5, edge),
    "listed": (3, listed),
    "nodes": (3, nodes),
    "limit": (2, limit),
    "islands": (2, islands),
    "little-normal": (1, little_normal),
    "kernel": (1, near_the_kernel),
    "set-aside": (1, set_aside),
}


def generate(seed: int, count: int, strategy: str = MEMORY_REGIONS) -> list[GuestMap]:
    """The first maps of a seed, under the limit of areas that modules have; with CMRs for a CMR strategy."""
    made = deal(FAMILIES, f"remedy-{seed}", count)
    made = [replace(g, module=replace(g.module, max_reserved=LIMIT)) for g in made]
    return made if strategy == MEMORY_REGIONS else with_cmrs(made, strategy, seed)
