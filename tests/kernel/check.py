# SPDX-License-Identifier: Apache-2.0
"""Everything that is checked on one kept boot, and the data that is kept of it."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kernel import agent
from tests.kernel.agreement import Fallback, check_fallbacks, unexplained_disagreements
from tests.kernel.cmr_check import compare_cmrs
from tests.kernel.compare import Difference, compare, compare_observed
from tests.kernel.places import Places, check_places

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tests.kernel.store import Case


@dataclass(frozen=True, slots=True)
class Result:
    """What came out for one boot.

    Args:
        case: the boot.
        facts: what the agent read; None when the guest sent nothing.
        differences: between kernel and agent.
        fallbacks: hosts with fewer sources.
        disagreements: of the sources among each other, without a reason.
        places: where the agent expects the PAMTs.
        explained: why kernel and agent made different plans, where that is as it must be.
    """

    case: Case
    facts: HostFacts | None
    differences: tuple[Difference, ...]
    fallbacks: tuple[Fallback, ...] = ()
    disagreements: tuple[str, ...] = ()
    places: Places | None = None
    explained: str | None = None

    @property
    def problems(self) -> list[str]:
        """All that must not be, in words."""
        return [
            *map(str, self.differences),
            *self.disagreements,
            *(
                f"{f.name}: another plan ({f.differs}), no reason known"
                for f in self.fallbacks
                if not f.explained
            ),
        ]

    @property
    def headroom(self) -> int | None:
        """Areas left in the worst TDMR by the agent's plan; None when kernel and agent disagree."""
        if self.facts is None or self.case.truth is None or self.differences or self.explained:
            return None
        given = agent.with_module(self.facts, self.case.guest.module)
        planner = agent.planner(self.case.guest.strategy)
        plan = planner(agent.with_places(given, self.case.truth, planner))
        left = [t["headroom"] for t in plan["tdmrs"] if t["headroom"] is not None] if plan else []
        return min(left, default=None)

    @property
    def outcome(self) -> str:
        """How the boot ended for TDX, in one word or two."""
        truth = self.case.truth
        if truth is None:
            return "no dump"
        if truth.initialized:
            return "initialized"
        if truth.failed_tdmr is not None:
            return "areas exhausted"
        if any("TDMRs exhausted" in line for line in truth.lines):
            return "TDMRs exhausted"
        if truth.no_room:
            return "no room for a PAMT"
        return "failed in the module" if truth.constructed else "failed before the plan"


def check(case: Case) -> Result:
    """Check one kept boot."""
    if case.truth is None:
        return Result(case, None, (Difference("dump", "none", case.error),))
    facts = agent.read_root(case.root)
    with tempfile.TemporaryDirectory(prefix="reduced-", dir=case.root.parent) as scratch:
        fallbacks = check_fallbacks(case, facts, Path(scratch))
    planner = agent.planner(case.guest.strategy)
    differences = compare(case, facts, planner)
    explained = None
    if differences and (late := offline_memory(case.root)):
        differences = compare(case, _without(facts, late), planner)
        explained = (
            "memory was added after TDX came up, so it is not in the kernel's plan; its blocks stay offline"
        )
    return Result(
        case=case,
        facts=facts,
        differences=(*differences, *compare_observed(case, facts), *compare_cmrs(case, facts)),
        fallbacks=tuple(fallbacks),
        disagreements=tuple(unexplained_disagreements(case, facts)),
        places=check_places(case, facts),
        explained=explained,
    )


def offline_memory(root: Path) -> list[tuple[int, int]]:
    """Memory blocks that are there but not in use, ``[start, end)`` in bytes (drivers/base/memory.c)."""
    folder = root / "sys/devices/system/memory"
    size = int((folder / "block_size_bytes").read_text(), 16)
    numbers = (
        int(state.parent.name.removeprefix("memory"))
        for state in folder.glob("memory*/state")
        if state.read_text().strip() == "offline"
    )
    return sorted((number * size, (number + 1) * size) for number in numbers)


def _without(facts: HostFacts, ranges: list[tuple[int, int]]) -> HostFacts:
    """The facts without memory in these ranges."""
    regions = list(facts.memory_regions or ())
    for start, end in ranges:
        regions = [
            part
            for region in regions
            for part in (
                region._replace(end=min(region.end, start)),
                region._replace(start=max(region.start, end)),
            )
            if part.start < part.end
        ]
    return replace(facts, memory_regions=tuple(regions))


def data(result: Result) -> dict[str, Any]:
    """One boot as a JSON object: the map, what the kernel made of it, and where it put the PAMTs."""
    case, truth = result.case, result.case.truth
    row: dict[str, Any] = {
        "map": case.guest.name,
        "kernel": case.series,
        "package": case.version,
        **{k: v for k, v in asdict(case.guest).items() if k != "number"},
        "command_line": case.guest.command_line,
        "outcome": result.outcome,
        "problems": result.problems,
        "explained": result.explained,
        "fallbacks": [asdict(fallback) for fallback in result.fallbacks],
    }
    if truth is None:
        return row
    regions = result.facts.memory_regions if result.facts else None
    row |= {
        "errno": truth.errno,
        "pamt_kib": truth.pamt_kib,
        "lines": truth.lines,
        "memory_regions": regions,
        "zones": _zones((case.root / "proc/zoneinfo").read_text()),
        "reserved": _reserved((case.root / "sys/kernel/debug/memblock/reserved").read_text()),
        "pamts": [asdict(allocation) for allocation in truth.allocations],
        "predicted": result.places.predicted if result.places else None,
        "areas": None if truth.tdmrs is None else [tdmr.areas for tdmr in truth.tdmrs],
    }
    return row


def _zones(zoneinfo: str) -> list[dict[str, Any]]:
    """Node, name and page numbers of each zone with memory (mm/vmstat.c, zoneinfo_show_print())."""
    zones: list[dict[str, Any]] = []
    for line in zoneinfo.splitlines():
        if found := re.fullmatch(r"Node (\d+), zone\s+(\w+)", line):
            zones.append({"node": int(found[1]), "zone": found[2]})
        elif found := re.fullmatch(r"\s+(spanned|present|managed)\s+(\d+)", line):
            zones[-1][found[1]] = int(found[2])
        elif found := re.fullmatch(r"\s+start_pfn:\s+(\d+)", line):
            zones[-1]["start_pfn"] = int(found[1])
    return [zone for zone in zones if zone.get("spanned")]


def _reserved(text: str) -> list[list[int]]:
    """memblock.reserved as ``[start, end)``, bytes."""
    rows = re.findall(r"^\s*\d+: 0x([0-9a-f]+)\.\.0x([0-9a-f]+)", text, re.MULTILINE)
    return [[int(start, 16), int(end, 16) + 1] for start, end in rows]
