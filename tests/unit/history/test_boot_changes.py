# SPDX-License-Identifier: Apache-2.0
"""What is said to differ between boots, and when the need spreads too far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.address import GIB, MIB, PAGE, Range
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.output.history_report import changes_in_words, spread_in_words
from tdx_headroom.verdict.history import HoleChange, between, holes_of, merged, spread

MR = "memory-regions"


def boot(needed: int = 12, holes: tuple[tuple[int, int], ...] = (), **more: Any) -> BootRecord:  # noqa: ANN401
    """A boot with that need, and these holes in 2 GiB."""
    edges = [MIB, *(edge for hole in holes for edge in hole), 2 * GIB]
    regions = tuple(MemoryRegion(a, b, 0) for a, b in zip(edges[::2], edges[1::2], strict=True))
    record = BootRecord(
        RecordFrom.AGENT,
        kernel_release="6.12.5",
        arguments=("nohibernate",),
        bios_version="2.1",
        regions=regions,
        strategy=MR,
        areas=(StrategyAreas(MR, (Areas(0, 2 * GIB, needed, 16, needed - 1),)),),
    )
    return replace(record, **more)


def hole(at: int, size: int = PAGE) -> tuple[int, int]:
    """A hole at so many MiB."""
    return at * MIB, at * MIB + size


def test_holes_that_came_went_and_grew() -> None:
    """Each is told once: what stayed is not told at all."""
    before = boot(holes=(hole(10), hole(20), hole(30, 4 * PAGE)))
    after = boot(13, holes=(hole(10), hole(30, 8 * PAGE), hole(1500)))
    assert between(before, after).holes == (
        HoleChange(Range(*hole(20)), None),
        HoleChange(Range(*hole(30, 4 * PAGE)), Range(*hole(30, 8 * PAGE))),
        HoleChange(None, Range(*hole(1500))),
    )
    assert list(changes_in_words(between(before, after))) == [
        "-1, 1 changed holes in [0x0, 0x40000000)",
        "+1 hole in [0x40000000, 0x80000000)",
        "1 area more",
    ]


def test_a_hole_that_swallows_others() -> None:
    """It is the first of them, grown; the others went."""
    found = between(boot(holes=(hole(10), hole(12))), boot(holes=((10 * MIB, 13 * MIB),))).holes
    assert found == (
        HoleChange(Range(*hole(10)), Range(10 * MIB, 13 * MIB)),
        HoleChange(Range(*hole(12)), None),
    )


PLACES = st.lists(st.integers(2, 500), unique=True, max_size=8)


@given(PLACES, PLACES)
def test_holes_add_up(one: list[int], other: list[int]) -> None:
    """The holes before, without those that went or changed and with those that came, are those after."""
    before = boot(holes=tuple(hole(at) for at in sorted(one)))
    after = boot(holes=tuple(hole(at) for at in sorted(other)))
    changed = between(before, after).holes or ()
    assert before.regions is not None
    assert after.regions is not None
    was, now = {*holes_of(before.regions)}, {*holes_of(after.regions)}
    gone, come = {c.before for c in changed} - {None}, {c.after for c in changed} - {None}
    assert (was - gone) | come == now
    assert not gone & now
    assert not come & was


@pytest.mark.parametrize(
    ("more", "marks"),
    [
        ({}, ()),
        ({"kernel_release": "6.14.0"}, ("kernel",)),
        ({"bios_version": "2.3"}, ("BIOS",)),
        ({"arguments": ("nohibernate", "mem=1G")}, ("command line",)),
        ({"bios_version": None}, ()),
        ({"arguments": None, "kernel_release": None}, ()),
    ],
)
def test_what_changed_beside(more: dict[str, Any], marks: tuple[str, ...]) -> None:
    """A mark for each; what is unknown in one of the two is none."""
    assert between(boot(), boot(**more)).marks == marks


def test_memory() -> None:
    """A DIMM is told, and what the kernel keeps for itself from boot to boot is not."""
    less = boot(regions=(MemoryRegion(MIB, GIB, 0),))
    assert list(changes_in_words(between(boot(), less))) == ["1 GiB less memory"]
    assert between(boot(), boot(holes=((MIB * 100, MIB * 110),))).memory == 0


@pytest.mark.parametrize(
    ("needs", "varies"),
    [
        ([14] * 20, False),
        ([11, 14, 12, 13], True),
        ([9, 13], True),
        ([10, 12], False),
        ([16, 16], False),
        ([15, 16], True),
        ([2, 3, 2], False),
        ([14], False),
    ],
)
def test_how_far_it_spreads(needs: list[int], *, varies: bool) -> None:
    """One more step as large as that from the least to the most has to fit; no step, no trouble."""
    found = spread([boot(needed) for needed in needs])
    assert found is not None
    assert (found.boots, found.least, found.most) == (len(needs), min(needs), max(needs))
    assert found.next_does_not_fit is varies


@pytest.mark.parametrize(
    "more",
    [
        {"kernel_release": "6.14.0"},
        {"bios_version": "2.0"},
        {"arguments": ("nohibernate", "memmap=4K$0x1000000")},
        {"regions": (MemoryRegion(MIB, GIB, 0),)},
        {"kernel_release": None},
        {"areas": ()},
    ],
)
def test_only_boots_that_are_alike_count(more: dict[str, Any]) -> None:
    """Another firmware, kernel, line or DIMM explains another need; what is unknown explains nothing."""
    found = spread([boot(5, **more), boot(12), boot(12)])
    assert found is not None
    assert (found.boots, found.least) == (2, 12)


def test_spread_in_words() -> None:
    """A sentence for each case."""
    assert spread_in_words(spread([boot(areas=())])).endswith("needed is unknown.")
    assert spread_in_words(spread([boot()])).startswith("No other boot")
    assert spread_in_words(spread([boot(), boot()])).endswith("needed 12 of 16 areas.")
    assert spread_in_words(spread([boot(11), boot(14)])).endswith("one more such step does not fit.")


def test_two_sources_of_one_boot() -> None:
    """The agent's record counts; what it does not know is the journal's. Two without an id are two boots."""
    own = boot(12, boot_id="a", bios_version=None)
    logged = boot(
        11,
        known_from=RecordFrom.JOURNAL,
        boot_id="a",
        bios_version="2.1",
        outcome=ModuleState.FAILED,
        errno=-28,
    )
    for records in ([own, logged], [logged, own]):
        (found,) = merged(records)
        assert found.fullest == own.fullest
        assert (found.known_from, found.bios_version) == (RecordFrom.AGENT, "2.1")
        assert (found.outcome, found.errno) == (ModuleState.FAILED, -28)
    assert len(merged([boot(), boot()])) == 2
