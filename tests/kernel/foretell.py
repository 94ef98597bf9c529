# SPDX-License-Identifier: Apache-2.0
"""What one boot foretells of the next: a pair of boots as data, the prediction, and how it compares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from tdx_headroom.boots.map_risks import set_aside
from tdx_headroom.boots.memory_map import boot_time_map, nodes_of_boot, simulate
from tdx_headroom.facts.host_facts import HostFacts, Limits, MemoryRegion, PamtEntrySize
from tdx_headroom.facts.observations import FirmwareRange, NodeRange
from tdx_headroom.host.readings import read_all
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import Outcome, Strategy, plan_host
from tdx_headroom.sources.platform import relevant_arguments
from tdx_headroom.verdict.staged import movable_zones
from tests.kernel.check import Result
from tests.kernel.guestmap import HIGH
from tests.kernel.seabios import firmware_map, srat

if TYPE_CHECKING:
    from tdx_headroom.boots.memory_map import Simulated
    from tdx_headroom.plan import Plan
    from tests.kernel.store import Case

NO_BOOT = "no dump"


class Grade(IntEnum):
    """How good a prediction is; nothing better may be said than what comes."""

    FAILS = 0
    AT_RISK = 1
    COMES_UP = 2


@dataclass(frozen=True, slots=True)
class Foretold:
    """A pair of boots, and what the first foretold.

    Args:
        row: the pair as data (see :func:`row_of`).
        simulated: the second boot's regions.
        plan: mainline's plan for them.
    """

    row: dict[str, Any]
    simulated: Simulated
    plan: Plan

    @property
    def booted(self) -> bool:
        """Whether the second kernel came up at all."""
        return bool(self.row["outcome"] != NO_BOOT)

    @property
    def same_regions(self) -> bool:
        """Whether the regions are memblock's, nodes included."""
        return bool([list(r) for r in self.simulated.regions] == self.row["regions"])

    @property
    def grade(self) -> Grade:
        """What the plan says; what is not exact, or may leave PAMTs no room, is at risk at best."""
        doubt = any(risk.of_regions or risk.may_leave_no_room for risk in self.simulated.risks)
        return min(self.plain_grade, Grade.AT_RISK) if doubt else self.plain_grade

    @property
    def plain_grade(self) -> Grade:
        """What the plan says when nobody looks at the risks."""
        if self.plan.outcome is not Outcome.OK:
            return Grade.FAILS
        worst = self.plan.headroom_worst
        return Grade.COMES_UP if worst is not None and worst >= 0 else Grade.AT_RISK

    @property
    def comes_up(self) -> bool:
        """Whether TDX came up in the second boot."""
        return bool(self.row["outcome"] == "initialized")

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        found = []
        if self.simulated.exact and self.booted and not self.same_regions:
            found.append("regions that are called exact differ")
        if self.grade is Grade.COMES_UP and not self.comes_up:
            found.append(f"better than the outcome: {self.row['outcome']}")
        return found


def foretell(row: dict[str, Any]) -> Foretold:
    """The prediction for a pair."""
    firmware, certain = boot_time_map([FirmwareRange(*r) for r in row["firmware"]], row["log"] and _rows(row))
    assert certain, row["number"]
    in_srat = [NodeRange(*r) for r in row["srat"]]
    before = [MemoryRegion(*r) for r in row["before"]]
    running, arguments = (relevant_arguments(" ".join(row[key])) for key in ("running", "arguments"))
    nodes = nodes_of_boot(before, running, srat=in_srat)
    simulated = simulate(firmware, arguments, nodes, srat=bool(in_srat), running=running)
    facts = HostFacts(
        limits=Limits(row.get("max_tdmrs", 64), row["max_reserved"], PamtEntrySize(*row.get("entries", ()))),
        memory_regions=simulated.regions,
        command_line=arguments,
        zones=movable_zones(simulated.regions, arguments),
        hugetlb_bytes=set_aside(arguments),
    )
    plan = plan_host(facts, [Strategy.MEMORY_REGIONS])[Strategy.MEMORY_REGIONS]
    assert plan is not None
    return Foretold(row, simulated, plan)


def _rows(row: dict[str, Any]) -> list[FirmwareRange]:
    return [FirmwareRange(*r) for r in row["log"]]


def row_of(first: Case, second: Case) -> dict[str, Any] | None:
    """A pair of kept boots as a JSON object; None where the first did not come up."""
    if first.truth is None:
        return None
    readings = read_all(Root(first.root))
    found = readings.found["firmware-memmap"].value
    assert found is not None
    assert readings.chosen is not None
    row: dict[str, Any] = {
        "number": first.guest.number // 2,
        "kernel": second.series,
        "package": second.version,
        "memory": first.guest.memory,
        "machine": first.guest.machine,
        "nodes": first.guest.nodes,
        "max_reserved": first.guest.module.max_reserved,
        "running": first.guest.arguments,
        "arguments": second.guest.arguments,
        "firmware": found,
        "log": readings.boot.firmware.value or [],
        "srat": readings.boot.srat.value or [],
        "before": readings.chosen.regions,
        "outcome": Result(second, None, ()).outcome,
        "regions": [],
    }
    if second.truth is not None:
        chosen = read_all(Root(second.root)).chosen
        assert chosen is not None
        row["regions"] = chosen.regions
    return row


def row_of_result(result: dict[str, Any]) -> dict[str, Any]:
    """A boot of the kernel test (``results.jsonl``) as such a pair: of the first only what the firmware says.

    Its map and nodes are those that QEMU makes for such a guest (``seabios.py``).
    """
    machine = result["memory"], result["machine"]
    return {
        "number": result["map"],
        "kernel": result["kernel"],
        "max_tdmrs": result["module"]["max_tdmrs"],
        "max_reserved": result["module"]["max_reserved"],
        "entries": result["module"]["pamt_entry_size"],
        "running": [],
        "arguments": result["arguments"],
        "firmware": firmware_map(*machine),
        "log": [],
        "srat": srat(*machine, result["nodes"]),
        "before": [(0, HIGH, 0)],
        "outcome": result["outcome"],
        "regions": result["memory_regions"],
    }
