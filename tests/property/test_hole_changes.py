# SPDX-License-Identifier: Apache-2.0
"""Which holes of a memory map have changed from boot to boot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.address import PAGE, Range, intersect, subtract
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.verdict.history import HoleChange, between, holes_of

HOLES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda h: Range(h[0], h[0] + h[1])))


def boot(holes: list[Range], end: int) -> BootRecord:
    memory = subtract([Range(0, end)], holes)
    regions = tuple(MemoryRegion(part.start * PAGE, part.end * PAGE, 0) for part in memory)
    return BootRecord(RecordFrom.AGENT, regions=regions)


def by_pairs(before: BootRecord, after: BootRecord) -> tuple[HoleChange, ...]:
    """The definition: a hole was the first one that it meets and that no hole before it was."""
    old, new = (set(holes_of(record.regions or ())) for record in (before, after))
    left = sorted(old - new)
    found = []
    for hole in sorted(new - old):
        was = next((other for other in left if intersect([hole], [other])), None)
        if was is not None:
            left.remove(was)
        found.append(HoleChange(was, hole))
    found += [HoleChange(hole, None) for hole in left]
    return tuple(sorted(found, key=lambda change: change.after or change.before or Range(0, 0)))


@given(HOLES, HOLES)
def test_as_by_pairs(old: list[Range], new: list[Range]) -> None:
    """Whatever grew, shrank, split, joined, came or went."""
    before, after = boot(old, 100), boot(new, 100)
    assert between(before, after).holes == by_pairs(before, after)


def test_a_map_of_very_many_holes() -> None:
    """Two maps as large as records may hold, of which no hole is the same, are compared in one pass."""
    many = 50_000
    before = boot([Range(i * 10 + 2, i * 10 + 4) for i in range(many)], many * 10)
    after = boot([Range(i * 10 + 3, i * 10 + 5) for i in range(many)], many * 10)
    changes = between(before, after).holes or ()
    assert len(changes) == many
    assert all(c.before and c.after and c.after.start - c.before.start == PAGE for c in changes)
