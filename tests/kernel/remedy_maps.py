# SPDX-License-Identifier: Apache-2.0
"""Memory maps of the remedy test: too many areas, or nearly, in one TDMR or in several; too many TDMRs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.kernel.families import exactmap, limit, movable, tdmrs
from tests.kernel.guestmap import GIB, HIGH, LOW_TAIL, MIB, GuestMap, Module
from tests.kernel.maps import deal
from tests.kernel.pieces import KINDS, PAGE, apart, piece

if TYPE_CHECKING:
    from random import Random

    from tests.kernel.families import Families

LIMIT = 16


def crowded(r: Random, turn: int, g: GuestMap) -> GuestMap:
    """Holes in the last GiB below the PCI hole, above it, or both: from three below the limit to ten over."""
    g = replace(g, memory=r.choice((4, 5, 6, 8)) * GIB + r.choice((0, 0, 300 * MIB)))
    where = ("low", "high", "both")[turn % 3]
    low = (GIB + MIB, g.low_end - LOW_TAIL)
    end = g.high_end // GIB * GIB
    high = (max(end - GIB, HIGH) + MIB, end - MIB)
    arguments = []
    for name, span in (("low", low), ("high", high)):
        if where in (name, "both"):
            count = LIMIT + r.choice((-3, -2, -1, 0, 0, 1, 2, 4, 10))
            arguments += [piece(r.choice(KINDS), *hole) for hole in _holes(r, span, count)]
    return replace(g, note=where, arguments=tuple(arguments))


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
    share = r.uniform(0.88, 0.99)
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
    "crowded": (8, crowded),
    "nodes": (3, nodes),
    "limit": (3, limit),
    "exactmap": (2, exactmap),
    "tdmrs": (2, tdmrs),
    "movable": (1, movable),
    "kernel": (1, near_the_kernel),
    "set-aside": (1, set_aside),
}


def generate(seed: int, count: int) -> list[GuestMap]:
    """The first maps of a seed, under the limit of areas that modules have."""
    made = deal(FAMILIES, f"remedy-{seed}", count)
    return [replace(g, module=replace(g.module, max_reserved=Module().max_reserved)) for g in made]
