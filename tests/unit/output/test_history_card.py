# SPDX-License-Identifier: Apache-2.0
"""The page's section on earlier boots."""

from __future__ import annotations

import re
from typing import Any

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.output.history_card import AREA, history_section
from tdx_headroom.output.page import render_page
from tdx_headroom.verdict.assessment import assess

MR = "memory-regions"


def boot(needed: int | None, **more: Any) -> BootRecord:  # noqa: ANN401
    """A boot that needed so many areas; None: nobody knows."""
    values: dict[str, Any] = {
        "began": 1_760_000_000.0,
        "kernel_release": "6.16.1",
        "bios_version": "2.1",
        "arguments": (),
        "regions": (MemoryRegion(MIB, 2 * GIB, 0),),
        "strategy": MR,
        "areas": () if needed is None else (StrategyAreas(MR, (Areas(0, GIB, needed, 16, needed),)),),
        "outcome": ModuleState.INITIALIZED,
    }
    return BootRecord(RecordFrom.AGENT, **{**values, **more})


def test_a_bar_a_boot() -> None:
    """As high as what it needed; one of which that is unknown has none, and keeps its place."""
    section = history_section(
        [boot(4), boot(None, outcome=ModuleState.UNKNOWN), boot(17, outcome=ModuleState.FAILED)]
    )
    assert section is not None
    chart = section["chart"]
    assert [bar.height for bar in chart.bars] == [4 * AREA, None, 17 * AREA]
    assert [bar.look for bar in chart.bars] == ["up", "other", "down"]
    assert len({bar.x for bar in chart.bars}) == 3
    assert chart.base - chart.limit_y == 16 * AREA
    assert min(chart.base - (bar.height or 0) for bar in chart.bars) >= 0
    assert chart.words == "3 boots, the newest on the right: 4 to 17 of 16 areas needed."


def test_none_needed_is_not_unknown() -> None:
    """A boot that needed no area has its place on the line, and no question mark."""
    page = render_page(assess(HostFacts()), records=[boot(0), boot(1)])
    assert ">?<" not in page
    assert ">?<" in render_page(assess(HostFacts()), records=[boot(None), boot(1)])


def test_marks_where_something_changed() -> None:
    """Each kind in a row of its own, over the boot before which it changed."""
    section = history_section(
        [boot(4), boot(4, bios_version="2.3"), boot(5, kernel_release="6.17.0", bios_version="2.3")]
    )
    assert section is not None
    chart = section["chart"]
    rows = {row.name: row.xs for row in chart.marks}
    assert list(rows) == ["kernel", "BIOS"]
    middle = [bar.x + 5 for bar in chart.bars]
    assert (rows["BIOS"], rows["kernel"]) == ((middle[1],), (middle[2],))
    assert [row["changed"] for row in section["rows"]] == ["", "another BIOS", "another kernel; 1 area more"]


def test_boots_that_need_thousands() -> None:
    """The picture stays as high as a page can show; the table has the number."""
    section = history_section([boot(4), boot(5000)])
    assert section is not None
    assert section["chart"].height < 400
    assert section["rows"][1]["needed"] == "5000 of 16"


def test_nothing_to_draw() -> None:
    """One boot is no history, nor are boots of which nothing is known."""
    assert history_section([]) is None
    assert history_section([boot(4)]) is None
    assert history_section([boot(None), boot(None)]) is None
    assert 'id="history"' not in render_page(assess(HostFacts()), records=[boot(4)])


def test_what_others_wrote_is_escaped() -> None:
    """A kernel's or a firmware's version is text, whatever it holds."""
    page = render_page(
        assess(HostFacts()), records=[boot(4, bios_version="<b>&"), boot(5, kernel_release="<i>")]
    )
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_no_fine_address() -> None:
    """Over the network nobody learns more of an address than its GiB."""
    regions = (MemoryRegion(MIB, 0x12345000, 0), MemoryRegion(0x12347000, 2 * GIB, 0))
    page = render_page(assess(HostFacts()), records=[boot(4), boot(5, regions=regions)])
    assert "+1 hole in [0x0, 0x40000000)" in page
    for address in re.findall(r"0x[0-9a-f]+", page):
        assert int(address, 16) % GIB == 0
