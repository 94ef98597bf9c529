# SPDX-License-Identifier: Apache-2.0
"""Logs cut anywhere: the verdict is that of what is still shown, or "cannot tell", and never a wrong one.

Wrong is: a state or a prediction that the whole log contradicts; memory regions or CMRs other than those that
the whole log shows from the same list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.address import page_round
from tdx_headroom.host.choose import facts_from_log
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.sources.kernel_log.text import parse_log_text
from tdx_headroom.sources.reading import Reading
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.sources.kernel_log.records import KernelLog

LOGS = sorted((Path(__file__).parent / "logs").glob("*.log"))
HOSTS = sorted(path for path in (Path(__file__).parents[1] / "hosts").iterdir() if path.is_dir())
PREDICTIONS = (State.WILL_INITIALIZE, State.AT_RISK, State.WILL_FAIL)


def text_of(path: Path) -> str:
    """A log as dmesg prints it."""
    if path.suffix == ".log":
        return path.read_text()
    if (path / "dmesg").exists():
        return (path / "dmesg").read_text()
    records = parse_kmsg((path / "dev/kmsg").read_text()).records
    return "".join(f"[{(r.time or 0) / 1e6:12.6f}] {r.text}\n" for r in records)


def look_at(text: str) -> Assessment | None:
    reading = read_log_file("log", text)
    return None if reading.value is None else assess(facts_from_log(reading))


@dataclass(frozen=True)
class Whole:
    """What the whole log tells, from each list that it holds."""

    assessment: Assessment
    by_source: dict[str, list[tuple[int, int]]]
    cmrs: tuple[tuple[int, int], ...] | None


def whole(text: str) -> Whole:
    assessment = look_at(text)
    assert assessment is not None
    boot = read_boot_map(parse_log_text(text), "log")
    by_source = {
        "log-node-ranges": pages((r.start, r.end) for r in boot.node_ranges.value or ()),
        "log-e820": pages((r.start, r.end) for r in boot.e820.value or () if r.kind == "System RAM"),
        "log-firmware": pages((r.start, r.end) for r in boot.firmware.value or () if r.kind == "System RAM"),
    }
    log = assessment.facts.kernel_log
    shown = None if log is None or log.cmrs is None else tuple((r.start, r.size) for r in log.cmrs)
    return Whole(assessment, by_source, shown)


def pages(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    return [tuple(r) for r in page_round(ranges)]  # type: ignore[misc]


def check(part: str, full: Whole) -> None:
    """A part of a log against the whole."""
    found = look_at(part)
    if found is None:
        return
    verdict, truth = found.verdict, full.assessment.verdict
    facts = found.facts
    assert verdict.next_boot in (None, truth.next_boot)
    if verdict.state in PREDICTIONS:
        assert verdict.state is truth.next_boot
    elif verdict.state is State.CANNOT_TELL:
        assert verdict.missing
        assert "`" in "".join(verdict.missing)
    else:
        assert verdict.state is truth.state
    if facts.memory_regions is not None:
        assert facts.memory_source is not None
        used = pages((r.start, r.end) for r in facts.memory_regions)
        assert used == full.by_source[facts.memory_source]
    assert facts.cmrs in (None, full.cmrs)
    if facts.memory_source == full.assessment.facts.memory_source and facts.nodes_known:
        for strategy, plan in found.plans.items():
            whole_plan = full.assessment.plans[strategy]
            if plan is not None and whole_plan is not None:
                assert [t.needed_holes for t in plan.tdmrs] == [t.needed_holes for t in whole_plan.tdmrs]
                assert plan.errno == whole_plan.errno


@pytest.mark.parametrize("path", [*LOGS, *HOSTS], ids=lambda path: path.stem)
def test_cut_between_lines(path: Path) -> None:
    """A log that lost its end, its beginning (a ring buffer), or both, gives no wrong verdict."""
    text = text_of(path)
    lines = text.splitlines(keepends=True)
    full = whole(text)
    for at in range(len(lines) + 1):
        check("".join(lines[:at]), full)
        check("".join(lines[at:]), full)
    for first in range(0, len(lines), 5):
        for last in range(first, len(lines), 23):
            check("".join(lines[first:last]), full)


@pytest.mark.parametrize("path", [*LOGS, *HOSTS], ids=lambda path: path.stem)
def test_cut_inside_a_line(path: Path) -> None:
    """A log whose last line, or first line, is only a part of it gives no wrong verdict."""
    text = text_of(path)
    lines = text.splitlines(keepends=True)
    full = whole(text)
    for n, line in enumerate(lines):
        middle = (len(line) * (1 + n % 7)) // 8
        check("".join(lines[:n]) + line[:middle], full)
        check(line[middle:] + "".join(lines[n + 1 :]), full)


def without(path: Path, first: int, count: int) -> KernelLog:
    """A host's records, some of which were overwritten while they were read."""
    lines = [line for line in (path / "dev/kmsg").read_text().splitlines() if not line.startswith(" ")]
    return parse_kmsg("\n".join([*lines[:first], *lines[first + count :]]) + "\n")


@pytest.mark.parametrize("path", [h for h in HOSTS if (h / "dev/kmsg").exists()], ids=lambda path: path.name)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_records_lost_in_the_middle(path: Path, count: int) -> None:
    """A list that lost rows in its middle, or its first or last ones, is no list."""
    full = whole(text_of(path))
    kinds = set()
    for first in range(1, len((path / "dev/kmsg").read_text().splitlines()) - count):
        log = without(path, first, count)
        facts = facts_from_log(Reading("kernel-log", "kmsg", log))
        if facts.memory_regions is not None:
            assert facts.memory_source is not None
            used = pages((r.start, r.end) for r in facts.memory_regions)
            assert used == full.by_source[facts.memory_source]
        kinds.add(facts.memory_source)
        assert facts.cmrs in (None, full.cmrs)
    assert {"log-node-ranges", "log-e820"} <= kinds


def test_a_map_cut_at_two_gib_is_said_to_be() -> None:
    """When CMRs show much more memory than the map does, the verdict says that the map is not whole."""
    found = look_at(text_of(Path(__file__).parent / "logs" / "kvm-lore-cmr-patch-emr.log"))
    assert found is not None
    assert found.verdict.next_boot is State.WILL_FAIL
    assert found.verdict.warnings[0].startswith(
        "The log shows only a part of the memory map: CMRs show 253.7 GiB"
    )


def part_of(name: str, end: str) -> str:
    """A host's E820 up to an address, and the lines about TDX."""
    text = text_of(Path(__file__).parents[1] / "hosts" / name)
    kept = []
    for line in text.splitlines(keepends=True):
        if "node  " in line or "Early memory" in line or "SRAT" in line or "Zone" in line:
            continue
        if "BIOS-e820: [mem" in line and line.partition("-0x")[2][:16] > end:
            continue
        kept.append(line)
    return "".join(kept)


@pytest.mark.parametrize("without", ["CMR", "KB allocated"])
def test_a_map_that_is_proven_partial_promises_nothing(without: str) -> None:
    """That a part of the memory fits proves nothing, by CMRs or by the PAMT that the kernel took."""
    text = part_of("good-2-node", "00000000ffffffff")
    text = "".join(line for line in text.splitlines(keepends=True) if without not in line)
    found = look_at(text.replace("6.8.0-1007-intel", "6.17.0-1-generic"))
    assert found is not None
    assert found.verdict.state is State.INITIALIZED
    assert found.verdict.next_boot is None
    assert "shows only a part of the memory map" in found.verdict.warnings[0]


def test_a_log_that_has_lost_its_kernel_does_not_condemn_it() -> None:
    """Mainline cannot do this map, a kernel that looks at CMRs can: without its name nobody knows."""
    text = text_of(Path(__file__).parents[1] / "hosts" / "emerald-rapids")
    text = text.replace("6.8.0-1004-intel", "6.8.0-1006-intel").replace("BOOT_IMAGE=", "image=")
    text = "".join(line for line in text.splitlines(keepends=True) if "initialization failed" not in line)
    named = look_at(text)
    assert named is not None
    assert named.verdict.next_boot is State.WILL_INITIALIZE
    found = look_at(text.partition("\n")[2])
    assert found is not None
    assert (found.verdict.state, found.verdict.next_boot) == (State.CANNOT_TELL, None)
    assert "TDMR [0x0, 0x80000000) needs 17 reserved areas of 16" in found.verdict.summary
    assert "Which kernel it is: `uname -r`" in found.verdict.missing
