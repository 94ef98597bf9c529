# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.browser.states import host, pages
from tests.golden.test_golden import NAMES, assess_host

from tdx_headroom.address import GIB, MIB, PAGE, Range, show, show_size, total
from tdx_headroom.facts.boots import BootEntry, BootInventory, Role
from tdx_headroom.facts.host_facts import HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.facts.sources import Disagreement, MemorySource, SourceStatus
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.cards import MAX_CARDS
from tdx_headroom.output.looks import Area, Firmware, Look, Piece, areas_of
from tdx_headroom.output.page import render_page, stylesheet
from tdx_headroom.output.picture import EXACT_SLOTS, WIDTH, draw_gauge, draw_map, exact_slots
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.output.whole import pieces
from tdx_headroom.plan import AreaKind, Pamt, ReservedArea, Strategy, Tdmr
from tdx_headroom.sources.iomem import parse_iomem
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.verdict.assessment import Assessment

HOSTS = Path(__file__).parents[2] / "hosts"
LEFT = re.compile(r"M(-?\d+) (-?\d+)h(\d+)v(-?\d+)h-\d+z")


def tdmr_with(holes: Sequence[tuple[int, int]], limit: int = 16, size: int = GIB) -> Tdmr:
    areas = tuple(ReservedArea(start, length, AreaKind.HOLE) for start, length in holes)
    return Tdmr(4 * GIB, size, limit, 0, Pamt(None, 0, 0, 0), areas, len(areas), 0, len(areas))


def rectangles(path: str) -> list[tuple[int, int, int]]:
    """Left edge, width and height of each rectangle in a path."""
    return [(int(x), int(width), abs(int(height))) for x, _, width, height in LEFT.findall(path)]


def every_page() -> dict[str, str]:
    captured = {name: render_page(assess_host(name)) for name in NAMES}
    full = {f"{name} full": render_page(assess_host(name), full_addresses=True) for name in NAMES}
    return captured | full | pages()


PAGES = every_page()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound(name: str) -> None:
    """Ids are unique, references lead somewhere, and there is neither script nor inline style."""
    page = PAGES[name]
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    named = re.findall(r'aria-(?:labelledby|describedby)="([^"]*)"', page)
    assert set(named) <= set(ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) <= set(ids)
    assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|https?://", page)
    for tag in ("section", "article", "div", "svg", "table", "ul", "ol", "dl", "p", "details", "span"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


@pytest.mark.parametrize("name", NAMES)
def test_no_fine_address_without_leave(name: str) -> None:
    """No address on the page is finer than 1 GiB, and every edge in a map lies on 1/64 of the TDMR."""
    page = render_page(assess_host(name))
    assert not [a for a in re.findall(r"0x[0-9a-f]+", page) if int(a, 16) >= MIB and int(a, 16) % GIB]
    maps = re.findall(r'<svg class="map".*?</svg>', page, re.DOTALL)
    assert maps
    for shape in re.findall(r'<path d="([^"]*)" fill', "".join(maps)):
        assert all(x % 16 == 0 and width % 16 == 0 for x, width, _ in rectangles(shape))


def test_it_says_when_the_host_was_read() -> None:
    """The page of a running agent has the time of its view, for people and for programs."""
    page = render_page(assess_host("small-vm"), assessed_at=1_700_000_000.9)
    assert '<time datetime="2023-11-14T22:13:20Z">2023-11-14 22:13:20 UTC</time>' in page
    assert "<time" not in render_page(assess_host("small-vm"))


def test_full_addresses_are_all_there() -> None:
    """With leave every area is listed with its addresses, and each shape says what it is."""
    page = render_page(assess_host("emerald-rapids"), full_addresses=True)
    assert page.count("[0x64159000, 0x64195000)") >= 3
    assert "memmap=4K%0x64158000-1+2" in page
    assert "Maps are coarse" not in page
    assert "0x…" not in page


def test_text_from_outside_is_escaped() -> None:
    """Names and errors are text, whatever is in them."""
    evil = '"><script>alert(1)</script>\n'
    facts = replace(
        host(1, 2),
        host=evil,
        kernel_release=evil,
        sources=(SourceStatus("iomem", evil, ok=False, error=f"iomem: {evil}"),),
        memory_source=MemorySource(evil),
    )
    page = render_page(assess(facts), telemetry_path='/"><script>')
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("line", ["5d169000-5d22bfff ACPI", "'5d169000-5d22bfff' \" ACPI"])
def test_a_quoted_line_stays_on_the_host(line: str) -> None:
    """The line that made a source fail may hold any address; over the network it is left out."""
    with pytest.raises(Exception, match="5d169000") as caught:
        parse_iomem(f"00000000-00000fff : Reserved\n{line}\n")
    facts = replace(host(1, 2), sources=(SourceStatus("iomem", "", ok=False, error=str(caught.value)),))
    assessment = assess(facts)
    assert "5d169000" in render_page(assessment, full_addresses=True)
    page = render_page(assessment)
    assert "5d169000" not in page
    assert "line 2" in page


def test_it_says_what_is_missing() -> None:
    """Each thing that would make the answer surer is there with its command; an offending line is not."""
    error = "log-e820: line 3: not a range: 'BIOS-e820: 5d169000-5d22bfff'"
    facts = replace(
        host(1, 2), memory_regions=None, sources=(SourceStatus("log-e820", "dmesg", ok=False, error=error),)
    )
    assessment = assess(facts)
    page = render_page(assessment)
    assert "<h3>What is missing</h3>" in page
    assert '<code class="whole">sudo cat /proc/iomem</code>' in page
    assert "see below" in page
    assert "5d169000" in render_page(assessment, full_addresses=True)
    assert "5d169000" in json.dumps(to_json(assessment))
    assert "5d169000" not in page + json.dumps(to_json(assessment, full_addresses=False))
    assert "What is missing" not in render_page(assess_host("emerald-rapids"))


def test_equal_pictures_are_drawn_once() -> None:
    """Strategies that need the same areas in a TDMR share its picture, and so do TDMRs with the same need."""
    page = render_page(assess_host("emerald-rapids"))
    assert page.count('<svg class="map"') == 4
    assert page.count("<h4>every strategy</h4>") == 2
    assert "<summary>and 2 equal ones</summary>" in page
    assert "; 2 more need the same</p>" in page
    assert "<h4>cmr-subregion and cmr-walk</h4>" in page


def test_the_tdmr_that_fails_is_first() -> None:
    """TDMRs over the limit come first and are marked in words."""
    page = render_page(assess_host("granite-rapids-like"))
    first = page.index('<article class="card tdmr')
    assert page.index("[0x40000000, 0x80000000)", first) < page.index("[0x0, 0x40000000)", first)
    assert page.count("over the limit</span>") == 1


@pytest.mark.parametrize(("tdmrs", "holes"), [(64, 1), (64, 30), (64, 200), (1, 1000)])
def test_page_is_bounded(tdmrs: int, holes: int) -> None:
    """However many TDMRs and holes there are, the page does not exceed 200 kB."""
    assessed = assess(host(tdmrs, holes))
    for full in (False, True):
        page = render_page(assessed, full_addresses=full)
        assert len(page.encode()) < 200_000
        assert 4 <= page.count("<article") <= MAX_CARDS + 3


@pytest.mark.parametrize("full", [False, True], ids=["coarse", "full"])
@pytest.mark.parametrize("sizes", [range(3, 19), range(17, 25), range(1, 14)], ids=str)
def test_a_large_host_that_fails_is_a_small_page(sizes: range, *, full: bool) -> None:
    """64 TDMRs of all kinds under three strategies: a bounded page, and the worst is drawn first."""
    facts = servers([sizes[i % len(sizes)] for i in range(64)])
    cmrs = tuple((4 * GIB * (i + 1) + 12 * MIB, GIB - 12 * MIB) for i in range(64))
    assessment = assess(replace(facts, cmrs=cmrs, kernel_release="6.16.0"))
    page = render_page(assessment, full_addresses=full)
    assert len(page.encode()) <= (80_000 if full else 60_000)
    cards = page[page.index('class="cards"') :]
    assert cards.index(f"<strong>{max(sizes)} of 16</strong>") < cards.index("</article>")
    assert page.count('class="map"') in range(2, 9)
    if full:
        assert f"Areas with their addresses: {max(sizes)} of {max(sizes)}" in page


def servers(sizes: Sequence[int]) -> HostFacts:
    """A host with a TDMR of 1 GiB for each number, which is how many holes it has."""
    regions = []
    for node, holes in enumerate(sizes):
        base = 4 * GIB * (node + 1)
        starts = [base + i * 8 * MIB for i in range(holes)]
        regions += [MemoryRegion(start + MIB, start + 8 * MIB, node) for start in starts]
        regions.append(MemoryRegion(base + holes * 8 * MIB, base + GIB, node))
    return HostFacts(memory_regions=tuple(regions), kernel_release="6.16.0", pamt_placement=Placement.NONE)


@pytest.mark.parametrize("full", [False, True], ids=["coarse", "full"])
def test_a_large_healthy_host_is_a_small_page(*, full: bool) -> None:
    """64 TDMRs that fit are a few rows and cards, and at most 60 kB."""
    for sizes in ([3] * 64, [i % 4 for i in range(64)]):
        page = render_page(assess(servers(sizes)), full_addresses=full)
        assert len(page.encode()) <= 60_000
        assert all(show(4 * GIB * n, 4 * GIB * n + GIB) in page for n in range(1, 65))


def test_full_tdmrs_are_not_folded() -> None:
    """Those that have little room or none stand alone, equal or not, where they are few."""
    page = render_page(assess(servers([14, 3, 14, 3, 3])))
    first = page.index('<article class="card tdmr')
    assert page.count('<article class="card tdmr') == 3
    assert page.count("nearly full</span>") == 2
    assert page.index('id="numbers"') < first
    assert "<summary>and 2 equal ones</summary>" in page


def test_the_fullest_by_this_kernel_is_first() -> None:
    """What has least room under another kernel's strategy comes behind what has least under this one's."""
    facts = replace(
        servers([5, 9]), kernel_release="6.8.0-1010-intel", cmrs=((4 * GIB, 4 * MIB), (8 * GIB, GIB))
    )
    page = render_page(assess(facts))
    table = page[page.index('id="numbers"') :]
    assert table.index("[0x100000000, 0x140000000)") < table.index("[0x200000000, 0x240000000)")


def test_a_bad_verdict_has_nothing_green() -> None:
    """A TDMR with room to spare is no good news where something else stops TDX, or another view is red."""
    log = KernelReport(ModuleState.FAILED, FailureReason.KEYIDS, keyids=(0, 0))
    for facts in (replace(servers([3]), kernel_log=log), read_facts(Root(HOSTS / "emerald-rapids"))):
        page = render_page(assess(facts))
        verdict = page[page.index('<section class="card verdict') : page.index('id="tdmrs"')]
        red = re.findall(r'(?s)<article class="card tdmr over.*?</article>', page)
        assert 'class="card verdict bad"' in verdict
        for part in (verdict, *red):
            assert "#i-good" not in part


def test_a_healthy_host_is_told_of_other_kernels() -> None:
    """That nothing is to be done goes with how it would fare elsewhere."""
    page = render_page(assess_host("good-2-node"))
    assert (
        "Nothing. Under kernels that look for holes in another way it fits, too, with 10 areas left." in page
    )
    entries = (
        BootEntry(release="6.16.0", arguments=("nohibernate",), roles=(Role.RUNNING,), differs=()),
        BootEntry("e", release="7.3.0", arguments=("nohibernate",), roles=(Role.NEXT,)),
    )
    boots = BootInventory(entries=entries, configured=True)
    said = render_page(assess(replace(servers([3]), boots=boots)))
    assert "some other kernels is unknown, since the CMRs are" in said
    assert "boot entries." in said


def test_findings_lead_to_their_runbooks() -> None:
    """What stands in the way names its runbook, as a link where it is known where they can be read."""
    assessment = assess_host("emerald-rapids")
    named = "<code>docs/runbooks/TDXReservedAreasExhausted.md</code>"
    assert named in render_page(assessment)
    linked = render_page(assessment, runbook_url="https://wiki.example/run&books/")
    assert '<a href="https://wiki.example/run&amp;books/TDXReservedAreasExhausted.md">' in linked
    assert "Runbooks:" not in render_page(assess_host("good-2-node"))


def test_an_error_number_is_one_piece() -> None:
    """No line ends inside of "errno -28"."""
    page = render_page(assess_host("emerald-rapids"))
    assert '<span class="whole">errno -28</span>' in page
    assert page.count("errno -") == page.count('<span class="whole">errno -')
    assert ".whole { white-space: nowrap; }" in stylesheet()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("TDMR [0x0, 0x80000000) needs 17 of 16.", ["[0x0, 0x80000000)"]),
        ("split at 1 GiB borders, under memory-regions:", ["1 GiB", "memory-regions"]),
        (
            "memmap=4K%0x64158000-1+2 memmap=8K%0x619e0000-1+2.",
            ["memmap=4K%0x64158000-1+2", "memmap=8K%0x619e0000-1+2"],
        ),
        ("a host - of 2 nodes, and /proc/iomem", []),
        (f"a word with a hyphen that fits no phone: long-{'x' * 30}", []),
        ("[0x10000000000000, 0x20000000000000)", []),
    ],
)
def test_what_stays_in_one_line(text: str, whole: list[str]) -> None:
    """Ranges, amounts, arguments and names stay in one piece, unless they are too long for a phone."""
    found = pieces(text)
    assert "".join(piece for piece, _ in found) == text
    assert [piece for piece, one in found if one] == whole


def test_this_kernels_strategy_comes_first_and_is_marked() -> None:
    """In the table, and in a map that two strategies share, it is clear which is this kernel's."""
    page = render_page(assess_host("good-2-node"))
    table = page[page.index('id="numbers"') :]
    tag = '<span class="tag">this kernel\'s</span>'
    assert re.findall(r'<th scope="colgroup"[^>]*>(.*?)</th>', table)[:2] == [
        f"cmr-subregion {tag}",
        "memory-regions",
    ]
    first = re.search(r'<th scope="row"><code>\[0x0, 0x80000000\).*?</tr>', table)
    assert first is not None
    assert re.findall(r">(\d+ \+ \d+)<", first[0]) == ["2 + 0", "6 + 0", "2 + 0"]
    assert f"<h4>cmr-subregion {tag} and cmr-walk</h4>" in page


def test_no_card_stands_beside_an_empty_place() -> None:
    """A card without a neighbour takes its row: in rows of two none is left half empty."""
    for name, facts in {
        "one": servers([1]),
        "three": servers([1, 2, 3]),
        "over": servers([1, 17, 3]),
    }.items():
        cards = re.findall(r'<article class="card tdmr ([^"]*)"', render_page(assess(facts)))
        narrow = "".join("w" if "wide" in card else "n" for card in cards)
        assert re.fullmatch("(w|nn)+", narrow), name


def test_a_host_without_tdx_has_evidence_for_its_plan_only() -> None:
    """What a plan rests on is not how it is known that there is no TDX."""
    page = render_page(assess_host("no-tdx"))
    assert "<h3>What the plan rests on</h3>" in page
    assert "How that is known" not in page
    log = KernelReport(ModuleState.UNSUPPORTED)
    nothing = assess(HostFacts(kernel_log=log))
    assert nothing.verdict.state is State.NOT_TDX
    assert "rests on" not in render_page(nothing)
    assert "Why" not in render(nothing, Style())


def test_telemetry_path_and_states() -> None:
    """Links are relative, so that a proxy may serve the page below any path; stale is said."""
    page = render_page(assess(host(1, 2)), stale=True, telemetry_path="/prom/x")
    assert 'href="prom/x"' in page
    assert "this is the last good view" in page
    assert "Not assessed yet" in render_page(None)
    assert "Tdx" not in "".join(PAGES.values())


def with_verdict(state: State, next_boot: State | None) -> Assessment:
    assessment = assess_host("good-2-node")
    return replace(assessment, verdict=replace(assessment.verdict, state=state, next_boot=next_boot))


NEXT = (State.WILL_INITIALIZE, State.AT_RISK, State.WILL_FAIL, None)


@pytest.mark.parametrize(("state", "next_boot"), list(product(State, NEXT)))
def test_every_verdict_has_a_headline(state: State, next_boot: State | None) -> None:
    """Each verdict is said in a sentence; what has happened and what comes next are told apart."""
    page = render_page(with_verdict(state, next_boot))
    assert re.search(r'<h2 id="verdict"><svg[^\n]*</svg>\w', page)
    answers = re.findall(r"<dt>(This boot|This host|Next initialization)</dt><dd><strong>\w[^<]*\.", page)
    assert len(answers) == (2 if state in (State.INITIALIZED, State.FAILED) else 1)


def test_a_host_that_is_up_and_will_fail_looks_bad() -> None:
    """The worse of the two answers gives the page its colour."""
    page = render_page(with_verdict(State.INITIALIZED, State.WILL_FAIL))
    assert 'class="card verdict bad"' in page
    assert "TDX is up, but its next initialization will fail" in page
    # The plan of this host fits, so it cannot be what stops TDX.
    assert "something else stops TDX" in page


def test_a_page_wide_hole_is_one_step_wide() -> None:
    """A hole narrower than a step is drawn one step wide, in the step where it lies."""
    tdmr = tdmr_with([(GIB // 2 + PAGE, PAGE)])
    drawn = draw_map(tdmr, areas_of(tdmr, Firmware(())), 64)
    assert [(s.look, rectangles(s.path)) for s in drawn.shapes] == [(Look.GAP, [(WIDTH // 2, 16, 40)])]
    assert drawn.quarters == (0, 0, 1, 0)
    assert dict(drawn.amounts) == {Look.USABLE: GIB - PAGE, Look.GAP: PAGE}


def test_looks_in_one_step_share_it() -> None:
    """Where a step has holes of two types both are drawn, one above the other."""
    tdmr = tdmr_with([(0, PAGE), (2 * PAGE, PAGE)])
    at = tdmr.base + 2 * PAGE
    firmware = Firmware((FirmwareRange(at, at + PAGE, "ACPI Tables"),))
    drawn = draw_map(tdmr, areas_of(tdmr, firmware), 64)
    assert [(s.look, rectangles(s.path)) for s in drawn.shapes] == [
        (Look.ACPI, [(0, 16, 20)]),
        (Look.GAP, [(0, 16, 20)]),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 262143), st.integers(1, 9)), max_size=40), st.sampled_from(EXACT_SLOTS)
)
def test_every_area_is_drawn_and_counted(spans: list[tuple[int, int]], slots: int) -> None:
    """Each area's place is covered by a shape, and each has its mark in the tally."""
    holes = sorted((s * PAGE, min(n, 262144 - s) * PAGE) for s, n in spans)
    tdmr = tdmr_with(holes)
    drawn = draw_map(tdmr, areas_of(tdmr, Firmware(None)), slots)
    boxes = [box for shape in drawn.shapes for box in rectangles(shape.path)]
    for start, size in holes:
        first, last = start * WIDTH / GIB, (start + size) * WIDTH / GIB
        assert any(x <= first and last <= x + width for x, width, _ in boxes)
    assert sum(drawn.quarters) == len(holes)
    assert drawn.amounts[0].size <= GIB - max((size for _, size in holes), default=0)
    assert all(x >= 0 and x + width <= WIDTH for x, width, _ in boxes)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50),
            st.integers(1, 20),
            st.sampled_from(["System RAM", "Reserved", "ACPI Tables", "Unusable memory", "new type"]),
        ),
        max_size=12,
    ),
    st.integers(0, 60),
    st.integers(1, 30),
)
def test_pieces_are_the_hole(entries: list[tuple[int, int, str]], start: int, size: int) -> None:
    """Whatever the firmware says, the pieces of a hole follow each other and are just the hole."""
    firmware = Firmware([FirmwareRange(s, s + n, kind) for s, n, kind in entries])
    pieces = firmware.pieces(start, start + size)
    assert pieces[0].start == start
    assert pieces[-1].end == start + size
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert total((p.start, p.end) for p in pieces) == size


def cells(path: str) -> int:
    return path.count("M")


@pytest.mark.parametrize(
    ("areas", "limit", "worst", "expected"),
    [
        (0, 16, 0, (0, 0, 16, 0)),
        (17, 16, 17, (17, 0, 0, 1)),
        (15, 16, 18, (15, 3, 0, 0)),
        (1000, 16, 1000, (24, 0, 0, 8)),
        (3, 1, 3, (3, 0, 0, 2)),
        (10, 1000, 10, (1, 0, 31, 0)),
    ],
)
def test_gauge(areas: int, limit: int, worst: int, expected: tuple[int, int, int, int]) -> None:
    """Filled, possible, free and excess cells; a cell stands for several areas where the limit is high."""
    holes = [Area(i, i + 1, Look.RESERVED, (Piece(i, i + 1, Look.RESERVED),)) for i in range(areas)]
    gauge = draw_gauge(holes, limit, worst)
    filled = sum(cells(shape.path) for shape in gauge.shapes)
    assert (filled, cells(gauge.worst), cells(gauge.free), cells(gauge.past)) == expected
    assert gauge.each == -(-limit // 32)


def test_pictures_get_coarser_when_there_are_many() -> None:
    """One TDMR is drawn to the pixel, a page full of fragmented ones in 64 steps each."""
    assert exact_slots([17]) == 1024
    assert exact_slots([1000] * 3) == 512
    assert exact_slots([1000] * 192) == 64
    assert exact_slots([]) == 1024


def test_without_memory_map_no_picture() -> None:
    """What is not known is not drawn: no plan, no TDMRs, and what is missing is said."""
    page = render_page(assess(HostFacts()))
    assert '<svg class="map"' not in page
    assert "No source tells the memory regions" in page
    assert "Give the agent what is missing" in page


def test_odd_limits() -> None:
    """A limit of one area and one of a billion are both shown."""
    for limit in (1, 10**9):
        facts = replace(host(1, 3), limits=Limits(max_reserved_per_tdmr=limit))
        assert f"of {limit}</strong>" in render_page(assess(facts))


def test_a_pamt_is_a_pamt() -> None:
    """A PAMT is drawn as one, whatever the firmware has there."""
    page = render_page(assess_host("good-2-node"))
    assert 'fill="url(#p-pamt)"' in page
    tdmr = tdmr_with([])
    tdmr = replace(tdmr, reserved_areas=(ReservedArea(0, MIB, AreaKind.PAMT),), needed_pamts=1)
    assert [a.look for a in areas_of(tdmr, Firmware(()))] == [Look.PAMT]


def test_style_asks_for_nothing() -> None:
    """The style sheet loads no font and no picture from anywhere."""
    assert not re.search(r"url\(|@import|@font-face|https?:", stylesheet())


def test_regions_that_touch_a_border() -> None:
    """Memory up to the last byte of a TDMR leaves no shape outside of the picture."""
    facts = HostFacts(memory_regions=(MemoryRegion(GIB, 2 * GIB, 0),), pamt_placement=Placement.NONE)
    assessment = assess(facts)
    plan = assessment.plans[Strategy.MEMORY_REGIONS]
    assert plan is not None
    assert draw_map(plan.tdmrs[0], areas_of(plan.tdmrs[0], Firmware(None)), 64).shapes == ()
    assert "under memory-regions</title>" in render_page(assessment)


def test_what_is_past_the_limit_is_what_the_kernel_has_no_room_for() -> None:
    """The kernel adds holes in address order, then PAMTs; the gauge does too."""
    looks = [Look.PAMT, *[Look.ACPI] * 16, Look.RESERVED]
    areas = [Area(i, i + 1, look, (Piece(i, i + 1, look),)) for i, look in enumerate(looks)]
    gauge = draw_gauge(areas, 16, 18)
    past = gauge.past.split("M")[1:]
    drawn = {shape.look: shape.path for shape in gauge.shapes}
    assert [cell in drawn[look] for cell, look in zip(past, (Look.RESERVED, Look.PAMT), strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("pages", [1, 3, 17, 123, 5000])
@pytest.mark.parametrize("own", [False, True], ids=["firmware's", "operator's"])
def test_no_size_of_a_hole_without_leave(pages: int, *, own: bool) -> None:
    """A hole that ends with its TDMR begins where its size says: no text, picture or number shows it."""
    size = pages * 4096
    start = 2 * GIB - size
    holed = [MemoryRegion(MIB + i * 8 * MIB, MIB + (i * 8 + 7) * MIB, 0) for i in range(15)]
    regions = (*holed, MemoryRegion(GIB, start, 0), MemoryRegion(4 * GIB, 12 * GIB, 0))
    firmware = (
        *(FirmwareRange(r.start, r.end, "System RAM") for r in regions),
        FirmwareRange(start, 2 * GIB, "System RAM" if own else "Reserved"),
    )
    facts = HostFacts(
        memory_regions=regions,
        firmware_map=firmware,
        command_line=(f"memmap={size}%{start:#o}-1+2",) if own else (),
        disagreements=(Disagreement("a", "b", (Range(start, 2 * GIB),), ()),),
    )
    assessment = assess(facts)
    assert show_size(size) in render_page(assessment, full_addresses=True)
    page, plan = render_page(assessment), json.dumps(to_json(assessment, full_addresses=False))
    for text in (page, plan):
        assert show_size(size) not in re.findall(r"[0-9.]+ (?:B|[KMG]iB)\b", text)
        assert not re.search(r"memmap=[0-9]", text)
        assert not [a for a in re.findall(r"0x[0-9a-f]+", text) if int(a, 16) >= MIB and int(a, 16) % GIB]


@pytest.mark.parametrize("name", ["emerald-rapids", "granite-rapids-like"])
def test_remedies_over_the_network_point_to_the_host(name: str) -> None:
    """What to give up and which holes are small is for who is on the host."""
    assessment = assess_host(name)
    for text in (render_page(assessment), json.dumps(to_json(assessment, full_addresses=False))):
        assert "Give up a little memory" in text
        assert "give up 4 KiB" not in text
        assert "KiB (Reserved)" not in text
        assert "on the host shows" in text
    amounts = re.findall(r"</svg> [^<]+ <strong>([^<]+)</strong>", render_page(assessment))
    assert amounts
    assert all(amount.startswith(("about ", "less than ")) for amount in amounts)
