# SPDX-License-Identifier: Apache-2.0
"""The runs under a CMR strategy, as far as they need no kernel."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tests.kernel import agent, cmr_kernel
from tests.kernel.build import Kernel, build_key
from tests.kernel.cmr_check import compare_cmrs, known_to_kernel
from tests.kernel.cmr_lists import KINDS, MAX_CMRS, memory_of
from tests.kernel.cmr_wrong import wrong_planners
from tests.kernel.compare import compare
from tests.kernel.guestmap import CMR_SUBREGION, CMR_WALK, GIB, KIB, MEMORY_REGIONS, MIB, GuestMap, Module
from tests.kernel.maps import generate
from tests.kernel.store import Case
from tests.kernel.strategies import boot_case, under
from tests.kernel.tools import KernelTestError
from tests.kernel.truth import Allocation, HandedTdmr, Truth

if TYPE_CHECKING:
    from tests.kernel.pieces import Span

BOOTS = Path(__file__).parent / "boots"
CMR_STRATEGIES = (CMR_SUBREGION, CMR_WALK)
PARAMETER_SIZE = 1024
COMMAND_LINE_SIZE = 2048

FACTS = HostFacts(
    memory_regions=(MemoryRegion(MIB, GIB - 64 * KIB, 0), MemoryRegion(GIB + 64 * KIB, 2 * GIB, 0))
)
"""Two TDMRs with a hole in each, at the border between them; their PAMTs are in the first."""
PAMT = 0x403000
PLACES = (256 * MIB, 256 * MIB + 0x500000)
FIRST_MIB = (0, MIB)
PAMTS = tuple((place, PAMT) for place in PLACES)

INSIDE = ((MIB, GIB), (GIB, GIB + 32 * KIB), (0, 0), (GIB + 64 * KIB, 2 * GIB))
BEHIND = ((MIB, GIB), (0, 0), (GIB, 2 * GIB))
ACROSS = ((MIB, GIB - 32 * KIB), (GIB - 32 * KIB, 2 * GIB))
EXAMPLES: list[tuple[str, tuple[Span, ...], tuple[Span, ...], tuple[Span, ...]]] = [
    # The second hole reaches out of the CMR that it begins in.
    (CMR_SUBREGION, INSIDE, (FIRST_MIB, *PAMTS), ((0, 64 * KIB),)),
    # It is inside a CMR, which the kernel does not know.
    (CMR_SUBREGION, BEHIND, (FIRST_MIB, *PAMTS), ((0, 64 * KIB),)),
    # The first hole lies across two CMRs that touch.
    (CMR_SUBREGION, ACROSS, (FIRST_MIB, *PAMTS, (GIB - 64 * KIB, 64 * KIB)), ()),
    (CMR_WALK, INSIDE, (FIRST_MIB, *PAMTS), ((32 * KIB, GIB - 32 * KIB),)),
    (CMR_WALK, BEHIND, (FIRST_MIB, *PAMTS), ((0, GIB),)),
    (CMR_WALK, ACROSS, (FIRST_MIB, *PAMTS), ()),
]
"""Strategy, CMRs, and the areas of both TDMRs by the rules of docs/concepts.md, made by hand."""


def example(strategy: str, cmrs: tuple[Span, ...], first: tuple[Span, ...], second: tuple[Span, ...]) -> Case:
    """A boot that came up so."""
    guest = under(GuestMap(0, "example", 2 * GIB), strategy, cmrs)
    allocations = tuple(
        Allocation(i * GIB, GIB, PAMT >> 12, 0, place, 0, "DMA32") for i, place in enumerate(PLACES)
    )
    tdmrs = tuple(
        HandedTdmr(i * GIB, GIB, place, 0x400000, 0x2000, 0x1000, areas)
        for i, (place, areas) in enumerate(zip(PLACES, (first, second), strict=True))
    )
    number = "[{}]" if strategy == CMR_WALK else ""
    lines = tuple(
        f"CMR{number.format(i)}: [{start:#x}, {end:#x})"
        for i, (start, end) in enumerate(known_to_kernel(cmrs))
    )
    done = (f"{2 * PAMT // 1024} KB allocated for PAMT", "TDX-Module initialized")
    return Case(guest, "7.3", "1", Path(), Truth(allocations, tdmrs, 0, (*lines, *done)))


def read_by_agent(case: Case) -> HostFacts:
    """What the agent would have read."""
    known = known_to_kernel(case.guest.module.cmrs or ())
    return replace(FACTS, cmrs=tuple((start, end - start) for start, end in known))


@pytest.mark.parametrize(("strategy", "cmrs", "first", "second"), EXAMPLES)
def test_the_plan_of_a_strategy(
    strategy: str, cmrs: tuple[Span, ...], first: tuple[Span, ...], second: tuple[Span, ...]
) -> None:
    """Areas that were made by hand are the agent's, and areas that are not its own are a difference."""
    case = example(strategy, cmrs, first, second)
    planner = agent.planner(strategy)
    assert compare(case, FACTS, planner) == []
    for other in (((0, 2 * MIB), *first[1:]), first[1:], (*first, (GIB - 4096, 4096))):
        wrong = example(strategy, cmrs, other, second)
        assert {d.what for d in compare(wrong, FACTS, planner)} & {"TDMR 0: areas", "TDMR 0: areas needed"}


def test_the_modules_answer_is_compared() -> None:
    """A module that accepts what the agent calls outside of CMRs is a difference, and so the other way."""
    case = example(*EXAMPLES[0])
    assert case.truth is not None
    refused = replace(case, truth=replace(case.truth, status=0xC0000A0200000001))
    assert [d.what for d in compare(refused, FACTS, agent.planner(CMR_SUBREGION))] == [
        "module",
        "module: TDMR",
    ]


@pytest.mark.parametrize("strategy", CMR_STRATEGIES)
def test_wrong_planners(strategy: str) -> None:
    """The examples catch each planner that is wrong about CMRs."""
    cases = [example(*row) for row in EXAMPLES if row[0] == strategy]
    for name, planner in wrong_planners(strategy).items():
        assert any(compare(case, FACTS, planner) for case in cases), name


@pytest.mark.parametrize("row", EXAMPLES)
def test_cmrs_of_the_log(row: tuple[str, tuple[Span, ...], tuple[Span, ...], tuple[Span, ...]]) -> None:
    """Those that the kernel knows are read, in the strategy's format; one that is missing is a difference."""
    case = example(*row)
    facts = read_by_agent(case)
    assert compare_cmrs(case, facts) == []
    assert facts.cmrs is not None
    assert [d.what for d in compare_cmrs(case, replace(facts, cmrs=facts.cmrs[1:]))] == ["CMRs"]
    assert [d.what for d in compare_cmrs(case, replace(facts, cmrs=None))] == ["CMRs"]
    assert case.truth is not None
    cut = replace(case, truth=replace(case.truth, lines=case.truth.lines[1:]))
    assert "lines on CMRs" in {d.what for d in compare_cmrs(cut, facts)}


def test_a_table_that_is_refused() -> None:
    """The kernel's failure line and the agent's own look at the table have to agree."""
    case = example(CMR_WALK, ((GIB, 2 * GIB), (MIB, GIB)), (), ())
    failed = replace(
        case, truth=Truth((), None, None, ("SEAMCALL (0x0000000000000021) failed: 0xc0000a2200000000",))
    )
    assert compare_cmrs(failed, FACTS) == []
    sound = replace(failed, guest=under(failed.guest, CMR_WALK, ACROSS))
    assert [d.what for d in compare_cmrs(sound, FACTS)] == ["table of CMRs"]


def test_areas_that_overlap_have_no_order() -> None:
    """The kernel's sort leaves overlapping areas in any order; the module refuses the TDMR in each."""
    cmrs = ((MIB, 128 * MIB), (512 * MIB, 2 * GIB))
    hole = (128 * MIB, 384 * MIB)
    for areas in ((FIRST_MIB, hole, *PAMTS), (FIRST_MIB, PAMTS[0], hole, PAMTS[1])):
        case = example(CMR_WALK, cmrs, areas, ())
        assert case.truth is not None
        truth = replace(case.truth, status=0xC0000A2100000000, lines=())
        found = compare(replace(case, truth=truth), FACTS, agent.planner(CMR_WALK))
        assert found == []


@pytest.mark.parametrize("seed", range(1, 4))
def test_lists_of_cmrs(seed: int) -> None:
    """As the module takes them but for the kind that it does not, and short enough for the command line."""
    maps = generate(seed, 120, CMR_WALK)
    for guest in maps:
        cmrs = guest.module.cmrs
        assert cmrs is not None
        assert len(cmrs) <= MAX_CMRS
        assert len(guest.command_line) < COMMAND_LINE_SIZE - 200
        assert max(map(len, guest.command_line.split())) < PARAMETER_SIZE
        used = [span for span in cmrs if span[0] != span[1]]
        ends = [address for span in used for address in span]
        takes = ends == sorted(ends) and all(address % 4096 == 0 for address in ends)
        assert takes != guest.note.endswith("table refused"), guest.note
    assert {guest.note.rpartition("CMRs: ")[2] for guest in maps} == set(KINDS)


def test_the_same_maps_under_every_strategy() -> None:
    """The strategies get the same maps and CMRs, a longer run begins with a shorter one, and seeds differ."""
    walk, subregion = (generate(5, 90, strategy) for strategy in (CMR_WALK, CMR_SUBREGION))
    assert [replace(guest, strategy=CMR_WALK) for guest in subregion] == walk
    assert generate(5, 30, CMR_WALK) == walk[:30]
    assert generate(6, 90, CMR_WALK) != walk
    plain = generate(5, 90)
    assert [(g.memory, g.nodes) for g in plain] == [(g.memory, g.nodes) for g in walk]
    assert not any("tdx_cmrs" in guest.command_line for guest in plain)
    assert all(f"tdx_cmrs.strategy={CMR_WALK}" in guest.command_line for guest in walk)


def test_memory_is_where_kernels_had_it() -> None:
    """Of maps that are holes in the firmware's, to the page: else no list of CMRs is exactly the memory."""
    with lzma.open(BOOTS / "7.3-seed2.results.jsonl.xz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    seen = 0
    for row in rows:
        if row["family"] not in ("holes", "limit", "borders", "plain"):
            continue
        guest = GuestMap(0, "", row["memory"], machine=row["machine"], arguments=tuple(row["arguments"]))
        joined: list[list[int]] = []
        for start, end, _ in row["memory_regions"]:
            if end > MIB:
                joined.append([max(start, MIB), end])
        if guest.memory <= 64 * GIB:
            seen += 1
            assert [list(span) for span in memory_of(guest)] == joined, row["map"]
    assert seen > 100


def test_an_edit_that_finds_no_place_is_an_error(tmp_path: Path) -> None:
    """The kernel has changed, and the edit must be looked at again."""
    folder = tmp_path / "arch/x86/virt/vmx/tdx"
    folder.mkdir(parents=True)
    (folder / "tdx.c").write_text("int nothing;\n")
    with pytest.raises(KernelTestError, match="0 places match"):
        cmr_kernel.apply(tmp_path)


@pytest.mark.parametrize("series", ["6.12", "7.3"])
def test_kernels_with_and_without_are_kept_apart(series: str) -> None:
    """One with the strategies never takes the place of one without."""
    assert build_key(series) != build_key(series, cmrs=True)


def test_a_kernel_without_the_strategy_is_not_booted(tmp_path: Path) -> None:
    """It would do what mainline does, and nobody would see it."""
    kernel = Kernel("7.3", "1", "0", tmp_path / "bzImage", tmp_path / "initramfs", {})
    guest = under(GuestMap(0, "example", GIB), CMR_WALK, ACROSS)
    with pytest.raises(KernelTestError, match="without cmr-walk"):
        boot_case(kernel, guest, tmp_path)


def test_a_guest_under_a_strategy() -> None:
    """Strategy, CMRs and arguments are on the command line, behind the map's own."""
    guest = GuestMap(0, "example", GIB, arguments=("mem=1G",), module=Module(max_reserved=8))
    made = under(guest, CMR_SUBREGION, ((MIB, GIB), (0, 0)), ["memmap=4K$1M"])
    assert made.command_line == (
        "mem=1G memmap=4K$1M tdx_cmrs.strategy=cmr-subregion"
        " tdx_standin.max_rsvd=8 tdx_standin.cmrs=0x100000-0x40000000,0x0-0x0"
    )
    assert under(made, MEMORY_REGIONS).module == made.module
