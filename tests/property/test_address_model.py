# SPDX-License-Identifier: Apache-2.0
"""Address arithmetic against sets of small units."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdx_headroom.address import (
    GIB,
    MIB,
    PAGE,
    Containment,
    Range,
    align_down,
    align_up,
    clip,
    intersect,
    page_round,
    show,
    show_size,
    sorted_and_disjoint,
    subtract,
    total,
    union,
)
from tdx_headroom.facts.node_map import NodeMap
from tdx_headroom.facts.observations import NodeRange

if TYPE_CHECKING:
    from collections.abc import Iterable

UNIT = PAGE // 4
"""Bounds are multiples of a quarter page, so that a set of quarters is an exact model."""

END = 64
moderate = settings(max_examples=150)

ranges = st.lists(
    st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda r: (r[0] * UNIT, r[1] * UNIT)), max_size=8
)
proper = st.tuples(st.integers(0, END - 1), st.integers(1, 16)).map(
    lambda r: (r[0] * UNIT, min(r[0] + r[1], END) * UNIT)
)


def quarters(them: Iterable[tuple[int, int]]) -> set[int]:
    """The model: which quarter pages the ranges hold; inverted ranges hold none."""
    return {unit for start, end in them for unit in range(start // UNIT, end // UNIT)}


def check_form(them: list[Range]) -> None:
    """Sorted, none empty, none touching its neighbour."""
    assert all(r.start < r.end for r in them)
    assert all(a.end < b.start for a, b in pairwise(them))


@given(ranges)
@moderate
def test_union(a: list[tuple[int, int]]) -> None:
    """A union holds the same addresses once, in as few ranges as can be."""
    joined = union(a)
    check_form(joined)
    assert quarters(joined) == quarters(a)
    assert total(joined) == len(quarters(a)) * UNIT
    assert union(joined) == joined


@given(ranges, ranges)
@moderate
def test_difference(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    """A difference holds what the first has and the second has not."""
    rest = subtract(a, b)
    check_form(rest)
    assert quarters(rest) == quarters(a) - quarters(b)


@given(ranges, st.tuples(st.integers(0, END * UNIT), st.integers(0, END * UNIT)))
@moderate
def test_clipping(a: list[tuple[int, int]], window: tuple[int, int]) -> None:
    """What is clipped is what an intersection with the window has; a window of no byte shows nothing."""
    assert clip(union(a), *window) == intersect(a, [window])


@given(ranges, ranges)
@moderate
def test_intersection(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    """An intersection holds what both have, whichever comes first."""
    common = intersect(a, b)
    assert quarters(common) == quarters(a) & quarters(b)
    check_form(common)
    assert common == intersect(b, a)


@given(ranges)
@moderate
def test_whole_pages(a: list[tuple[int, int]]) -> None:
    """Exactly the pages of which every part is covered remain."""
    rounded = page_round(a)
    covered = quarters(a)
    pages = {page for page in range(END // 4 + 1) if {page * 4 + i for i in range(4)} <= covered}
    assert {unit // 4 for unit in quarters(rounded)} == pages
    assert all(bound % PAGE == 0 for r in rounded for bound in r)


@given(st.lists(proper, max_size=8), proper)
@moderate
def test_containment(a: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    """A range is held when one single range covers it, not several together."""
    expected = any(quarters([wanted]) <= quarters([one]) for one in a)
    assert Containment(a).holds(*wanted) is expected


@given(ranges, proper)
@moderate
def test_containment_ignores_empty_ranges(a: list[tuple[int, int]], wanted: tuple[int, int]) -> None:
    """Empty and inverted ranges hold nothing."""
    assert Containment(a).holds(*wanted) is any(quarters([wanted]) <= quarters([one]) for one in a)


@given(st.integers(0, 1 << 64), st.sampled_from([1, 2, PAGE, MIB, GIB]))
@moderate
def test_alignment(address: int, unit: int) -> None:
    """Aligned addresses are the nearest multiples on either side."""
    down, up = align_down(address, unit), align_up(address, unit)
    assert down % unit == up % unit == 0
    assert down <= address <= up
    assert address - down < unit
    assert up - address < unit


@given(st.lists(proper, max_size=6))
@moderate
def test_first_range_out_of_order(a: list[tuple[int, int]]) -> None:
    """The first range that starts below its predecessor's end is found."""
    naive = next((i for i in range(1, len(a)) if a[i][0] < a[i - 1][1]), None)
    assert sorted_and_disjoint(a) == naive


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [(0, 0x8000_0000, "[0x0, 0x80000000)"), (1 << 63, 1 << 64, f"[{1 << 63:#x}, {1 << 64:#x})")],
)
def test_range_as_the_kernel_prints_it(start: int, end: int, shown: str) -> None:
    """Bounds are hexadecimal without leading zeros."""
    assert show(start, end) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 << 10, "64 KiB"),
        (GIB, "1 GiB"),
        (3 * GIB // 2, "1.5 GiB"),
        (1 << 50, "1024 TiB"),
        (-4096, "-4 KiB"),
    ],
)
def test_size_for_people(size: int, shown: str) -> None:
    """A size comes in the largest unit of which it has at least one."""
    assert show_size(size) == shown


@st.composite
def disjoint_nodes(draw: st.DrawFn) -> list[NodeRange]:
    """Node ranges as a host has them: in any order of nodes, with gaps, never overlapping."""
    bounds = sorted(draw(st.sets(st.integers(0, END), max_size=12)))
    found = []
    for start, end in pairwise(bounds):
        node = draw(st.none() | st.integers(0, 3))
        if node is not None:
            found.append(NodeRange(start * UNIT, end * UNIT, node))
    return draw(st.permutations(found))


@given(disjoint_nodes(), st.lists(proper, max_size=6))
@moderate
def test_split_by_nodes(nodes: list[NodeRange], a: list[tuple[int, int]]) -> None:
    """Splitting keeps every address, gives each its node, and cuts only where the node changes."""
    found = NodeMap("test", nodes)
    of = {unit: r.node for r in nodes for unit in quarters([r[:2]])}
    joined = union(a)
    regions = found.split(joined)
    assert [unit for r in regions for unit in range(r.start // UNIT, r.end // UNIT)] == sorted(quarters(a))
    for region in regions:
        assert {of.get(unit) for unit in quarters([region[:2]])} == {region.node}
        assert found.node_of(region.start) == region.node
    inside = {r.start for r in joined}
    for before, after in pairwise(regions):
        assert after.start in inside or before.node != after.node


@given(st.lists(st.tuples(proper, st.integers(0, 3)), max_size=8), st.lists(proper, max_size=4))
@moderate
def test_split_by_overlapping_nodes(
    nodes: list[tuple[tuple[int, int], int]], a: list[tuple[int, int]]
) -> None:
    """Even where node ranges contradict each other no address is lost and none is doubled."""
    joined = union(a)
    regions = NodeMap("test", [NodeRange(start, end, node) for (start, end), node in nodes]).split(joined)
    assert [unit for r in regions for unit in range(r.start // UNIT, r.end // UNIT)] == sorted(quarters(a))
