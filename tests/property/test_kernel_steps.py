# SPDX-License-Identifier: Apache-2.0
"""The simulated map against the kernel's own steps on its table, for any map and command line."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.address import ADDRESS_SPACE, KIB, MIB, PAGE, align_down, align_up
from tdx_headroom.boots.map_risks import MapRisk
from tdx_headroom.boots.memory_map import RAM_KIND, boot_time_map, nodes_of_boot, simulate
from tdx_headroom.boots.movable import movable_starts
from tdx_headroom.facts.e820 import KINDS
from tdx_headroom.facts.observations import FirmwareRange, NodeRange
from tdx_headroom.plan.regions import tdx_memory_list

if TYPE_CHECKING:
    from tdx_headroom.boots.memory_map import Simulated

UNIT = 0x400
SPACE = 4096
"""So many units: 4 MiB, where the first page and 640 KiB to 1 MiB matter too."""
ONE = (NodeRange(0, ADDRESS_SPACE, 0),)

Table = list[list[int]]
"""Entries as the kernel has them: start, size, type."""


def add(table: Table, start: int, size: int, kind: int) -> None:
    table.append([start, size, kind])


def update(table: Table, start: int, size: int, old: int, new: int) -> None:
    """``__e820__range_update()``."""
    end = start + size
    for entry in table:  # entries that are added on the way are visited, too
        if entry[2] != old:
            continue
        first, last = entry[0], entry[0] + entry[1]
        if first >= start and last <= end:
            entry[2] = new
        elif first < start and last > end:
            add(table, start, size, new)
            add(table, end, last - end, entry[2])
            entry[1] = start - first
        elif (low := max(start, first)) < (high := min(end, last)):
            add(table, low, high - low, new)
            entry[1] -= high - low
            if first >= low:
                entry[0] = high


def remove(table: Table, start: int, size: int, kind: int) -> None:
    """``e820__range_remove()``; 0: of any type."""
    end = start + min(size, ADDRESS_SPACE - 1 - start)
    for entry in table:
        if kind and entry[2] != kind:
            continue
        first, last = entry[0], entry[0] + entry[1]
        if first >= start and last <= end:
            entry[:] = [0, 0, 0]
        elif first < start and last > end:
            add(table, end, last - end, entry[2])
            entry[1] = start - first
        elif (low := max(start, first)) < (high := min(end, last)):
            entry[1] -= high - low
            if first >= low:
                entry[0] = high


def ram(table: Table) -> list[tuple[int, int]]:
    """What ``e820__update_table()``, ``trim_bios_range()`` and ``e820__memblock_setup()`` make of it."""
    borders = sorted(
        {at for start, size, _ in table for at in (start, start + size)} | {PAGE, 640 * KIB, MIB}
    )
    found: list[tuple[int, int]] = []
    for low, high in pairwise(borders):
        kinds = [kind for start, size, kind in table if start <= low and high <= start + size]
        if max(kinds, default=0) != 1 or high <= PAGE or 640 * KIB <= low < MIB:
            continue
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    pages = [(align_up(low, PAGE), align_down(high, PAGE)) for low, high in found]
    return [(low, high) for low, high in pages if low < high]


@st.composite
def firmware_maps(draw: st.DrawFn) -> list[FirmwareRange]:
    """Sorted, disjoint entries, as the kernel has them after its first look."""
    borders = sorted(draw(st.sets(st.integers(0, SPACE), min_size=3, max_size=12)))
    kinds = draw(
        st.lists(st.sampled_from([*KINDS, "System RAM"]), min_size=len(borders), max_size=len(borders))
    )
    return [
        FirmwareRange(low * UNIT, high * UNIT, kind)
        for (low, high), kind in zip(pairwise(borders), kinds, strict=False)
    ]


amounts = st.integers(1, SPACE).map(lambda n: n * UNIT)
places = st.integers(0, SPACE).map(lambda n: n * UNIT)
types = st.sampled_from([1, 2, 3, 4, 7, 12, 0xEFFFFFFF])
steps = st.one_of(
    st.tuples(st.just("exact")),
    st.tuples(st.just("limit"), amounts),
    st.tuples(st.just("add"), amounts, places, types),
    st.tuples(st.just("remove"), amounts, places, st.one_of(st.just(0), types)),
    st.tuples(st.just("update"), amounts, places, types, types),
)


def step(table: Table, made: tuple[str, int, int, int, int]) -> str:
    """Do a step on the table; gives its argument."""
    what, *rest = made
    if what == "exact":
        table.clear()
        return "memmap=exactmap"
    if what == "limit":
        remove(table, rest[0], ADDRESS_SPACE - 1 - rest[0], 1)
        return f"mem={rest[0]:#x}"
    size, start, kind = rest[:3]
    if what == "add":
        add(table, start, size, kind)
        return f"memmap={size:#x}%{start:#x}+{kind:#x}"
    if what == "remove":
        remove(table, start, size, kind)
        return f"memmap={size:#x}%{start:#x}" + (f"-{kind}" if kind else "")
    update(table, start, size, kind, rest[3])
    return f"memmap={size:#x}%{start:#x}-{kind}+{rest[3]}"


@given(firmware=firmware_maps(), made=st.lists(steps, max_size=8))
def test_the_kernels_own_steps(
    firmware: list[FirmwareRange], made: list[tuple[str, int, int, int, int]]
) -> None:
    """Whatever is added, converted, removed and forgotten: the same RAM, and the same panics."""
    table = [[r.start, r.end - r.start, KINDS[r.kind]] for r in firmware]
    arguments = [step(table, one) for one in made]
    found = simulate(firmware, arguments, ONE)
    senseless = any(one[0] == "update" and one[3] == one[4] for one in made)
    assert (MapRisk.NO_BOOT in found.risks) == (bool(made) and (len(table) < 2 or senseless))
    if not senseless:
        assert [(r.start, r.end) for r in found.regions] == ram(table)


@st.composite
def node_lists(draw: st.DrawFn) -> list[NodeRange]:
    """Disjoint ranges of a few nodes."""
    borders = sorted(draw(st.sets(st.integers(0, SPACE), min_size=2, max_size=8)))
    return [
        NodeRange(low * UNIT, high * UNIT, draw(st.integers(0, 3)))
        for low, high in pairwise(borders)
        if draw(st.booleans())
    ]


@given(firmware=firmware_maps(), nodes=node_lists(), srat=st.booleans())
def test_nodes_take_no_memory_away(
    firmware: list[FirmwareRange], nodes: list[NodeRange], *, srat: bool
) -> None:
    """The same memory with nodes as without, in order, and exact only where every node is known."""
    whole = simulate(firmware, (), ONE)
    split = simulate(firmware, (), nodes, srat=srat)
    assert joined(split) == joined(whole)
    for before, after in pairwise(split.regions):
        assert before.end <= after.start
        assert before.end < after.start or before.node != after.node
    assert split.exact is all(r.node is not None for r in split.regions)


def joined(made: Simulated) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end, _ in made.regions:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


@given(text=st.text('0123456789kMG@#$!%-+,=:memapxctnufo" ', max_size=40), firmware=firmware_maps())
def test_any_command_line_is_simulated(text: str, firmware: list[FirmwareRange]) -> None:
    """Nothing on it ends in an error, and the regions are what a plan takes."""
    for arguments in (
        [text],
        [f"memmap={text}"],
        [f"mem={text}"],
        [f"kernelcore={text}"],
        [f"hugepages={text}"],
    ):
        made = simulate(firmware, arguments, ONE)
        assert len(tdx_memory_list(made.regions)) <= len(made.regions)
        starts = movable_starts(made.regions, arguments)
        assert starts is None or all(start % PAGE == 0 for start in starts.values())
        nodes_of_boot(made.regions, arguments)


@given(firmware=firmware_maps(), added=st.lists(st.tuples(places, amounts), max_size=3), early=st.booleans())
def test_only_ram_is_taken_for_added(
    firmware: list[FirmwareRange], added: list[tuple[int, int]], *, early: bool
) -> None:
    """What goes is RAM, all of it lies behind the boot's own entries or before them."""
    above = [
        FirmwareRange(SPACE * UNIT + start, SPACE * UNIT + start + size, RAM_KIND) for start, size in added
    ]
    given_map = [*above, *firmware] if early else [*firmware, *above]
    left, certain = boot_time_map(given_map)
    gone = [entry for entry in given_map if entry not in left]
    assert {entry.kind for entry in gone} <= {RAM_KIND}
    if certain and not any(a.end == b.start and a.kind == b.kind for a, b in pairwise(firmware)):
        assert list(left) == firmware
