# SPDX-License-Identifier: Apache-2.0
"""What an update of the firmware has cost a host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.verdict.firmware_steps import Need, firmware_steps, newest_firmware_step
from tdx_headroom.verdict.history import holes_before

MR, WALK = "memory-regions", "cmr-walk"


def boot(bios: str | None, needed: int, **more: Any) -> BootRecord:  # noqa: ANN401
    """A boot under that firmware which needs so many areas, and two fewer under cmr-walk."""
    record = BootRecord(
        RecordFrom.AGENT,
        kernel_release="6.12.5",
        arguments=("nohibernate",),
        bios_version=bios,
        regions=(MemoryRegion(MIB, 2 * GIB, 0),),
        strategy=MR,
        areas=(
            StrategyAreas(MR, (Areas(0, 2 * GIB, needed, 16, needed),)),
            StrategyAreas(WALK, (Areas(0, 2 * GIB, needed - 2, 16, needed - 2),)),
        ),
    )
    return replace(record, **more)


def test_an_update_that_took_areas() -> None:
    """The cost is the difference of the medians; what is certain is what no boot before explains."""
    records = [boot("2.1", n) for n in (10, 12, 11)] + [boot("2.3", n) for n in (14, 15, 13, 13)]
    (step,) = firmware_steps(records)
    assert (step.before, step.after) == ("2.1", "2.3")
    assert step.need_before == Need(3, 10, 11, 12)
    assert step.need_after == Need(4, 13, 13, 15)
    assert (step.areas, step.took) == (2, 1)


def test_a_host_that_varies_anyway() -> None:
    """One boot after the update that lies within those before it is no cost that is certain."""
    (step,) = firmware_steps([boot("2.1", 11), boot("2.1", 14), boot("2.3", 13)])
    assert (step.areas, step.took) == (2, 0)


def test_an_update_that_gives_back() -> None:
    """Fewer areas are a gain, and nothing was taken."""
    (step,) = firmware_steps([boot("2.1", 14), boot("2.3", 11)])
    assert (step.areas, step.took) == (-3, 0)


def test_many_boots_that_do_not_compare() -> None:
    """It takes no look at holes: 64 boots with hundreds each, and every update with another command line."""
    regions = tuple(MemoryRegion((4 * i + 1) * MIB, (4 * i + 2) * MIB, 0) for i in range(500))
    moved = tuple(MemoryRegion(r.start + MIB // 2, r.end + MIB // 2, 0) for r in regions)
    old = [boot("1", 10, regions=regions, arguments=(f"a={i}",)) for i in range(32)]
    new = [boot("2", 11, regions=moved, arguments=(f"b={i}",)) for i in range(32)]
    with patch("tdx_headroom.verdict.history.holes_of", side_effect=AssertionError):
        assert firmware_steps([*old, *new]) == ()
        holes_before([*old, *new[:-1]], new[-1])


def test_forth_and_back() -> None:
    """Each change is a step of its own, the oldest first."""
    steps = firmware_steps([boot("1", 10), boot("2", 13), boot("1", 10), boot("3", 11)])
    assert [(s.before, s.after, s.areas) for s in steps] == [("1", "2", 3), ("2", "1", -3), ("1", "3", 1)]


def test_what_else_changed_is_no_cost_of_the_firmware() -> None:
    """Boots with another command line or another amount of memory are not compared."""
    line = ("nohibernate", "memmap=4K$0x3ffff000")
    memory = (MemoryRegion(MIB, 3 * GIB, 0),)
    assert firmware_steps([boot("1", 10), boot("2", 13, arguments=line)]) == ()
    assert firmware_steps([boot("1", 10), boot("2", 13, regions=memory)]) == ()
    (step,) = firmware_steps([boot("1", 10), boot("1", 11, arguments=line), boot("2", 13, arguments=line)])
    assert step.need_before == Need(1, 11, 11, 11)


def test_the_last_boot_after_the_update_differs() -> None:
    """A command line that was changed later does not hide what the update cost before."""
    (step,) = firmware_steps([boot("1", 10), boot("2", 13), boot("2", 9, arguments=("mem=1G",))])
    assert (step.areas, step.need_after.boots) == (3, 1)


def test_another_kernel() -> None:
    """All boots count under the strategy of the newest kernel, whatever they ran."""
    (step,) = firmware_steps(
        [boot("1", 10), boot("2", 13, strategy=WALK, kernel_release="6.14.0-1009-intel")]
    )
    assert (step.need_before.most, step.need_after.most, step.areas) == (8, 11, 3)


def test_versions_that_are_not_known() -> None:
    """A boot without a version is on neither side, and does not part two boots of one version."""
    records = [boot("1", 10), boot(None, 15), boot("1", 11), boot(None, 1), boot("2", 12)]
    (step,) = firmware_steps(records)
    assert (step.need_before, step.need_after) == (Need(2, 10, 10, 11), Need(1, 12, 12, 12))
    assert firmware_steps([boot(None, 10), boot(None, 12)]) == ()
    assert firmware_steps([boot("1", 10)]) == ()
    assert firmware_steps([]) == ()


def test_boots_of_which_nothing_is_planned() -> None:
    """Boots whose log has lost its memory map are left out."""
    blank = {"areas": (), "strategy": None, "regions": None}
    assert firmware_steps([boot("1", 10, **blank), boot("2", 12)]) == ()
    (step,) = firmware_steps([boot("1", 10), boot("2", 12, **blank), boot("2", 13)])
    assert step.need_after == Need(1, 13, 13, 13)


def test_the_newest_step() -> None:
    """It is the change to the present version, dated by the first boot with it."""
    records = [boot("1", 10, began=1.0), boot("2", 13, began=2.0), boot("3", 14, began=3.0), boot("3", 15)]
    step = newest_firmware_step(records)
    assert step is not None
    assert (step.before, step.after, step.began, step.took) == ("2", "3", 3.0, 1)


def test_the_newest_step_has_no_figures() -> None:
    """An older step does not stand in for a change that cannot be judged; one version alone is no change."""
    records = [boot("1", 10), boot("2", 13), boot("3", 13, arguments=("mem=1G",))]
    assert firmware_steps(records)
    assert newest_firmware_step(records) is None
    assert newest_firmware_step([boot("1", 10), boot("1", 12), boot(None, 14)]) is None
    assert newest_firmware_step([]) is None
