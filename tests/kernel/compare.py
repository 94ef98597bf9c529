# SPDX-License-Identifier: Apache-2.0
"""The agent's plan against what the kernel did, in everything that the kernel shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import AgentError
from tests.kernel import agent

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tests.kernel.agent import Planner
    from tests.kernel.store import Case
    from tests.kernel.truth import Truth

STATUS = {
    0x00000000: "TDX_SUCCESS",
    0xC0000A00: "TDX_INVALID_TDMR",
    0xC0000A01: "TDX_NON_ORDERED_TDMR",
    0xC0000A02: "TDX_TDMR_OUTSIDE_CMRS",
    0xC0000A10: "TDX_INVALID_PAMT",
    0xC0000A11: "TDX_PAMT_OUTSIDE_CMRS",
    0xC0000A12: "TDX_PAMT_OVERLAP",
    0xC0000A20: "TDX_INVALID_RESERVED_IN_TDMR",
    0xC0000A21: "TDX_NON_ORDERED_RESERVED_IN_TDMR",
}
"""Upper half of what TDH.SYS.CONFIG returns."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that kernel and agent do not agree on."""

    what: str
    kernel: object
    agent: object

    def __str__(self) -> str:
        return f"{self.what}: kernel {_show(self.kernel)}, agent {_show(self.agent)}"


def _show(value: object) -> str:
    return (
        hex(value) if isinstance(value, int) and not isinstance(value, bool) and value > 9999 else str(value)
    )


def compare(case: Case, facts: HostFacts, planner: Planner) -> list[Difference]:
    """All differences between the kernel and a planner that is given the facts.

    Args:
        case: a kept boot.
        facts: what the agent read from its root.
        planner: the planner to test.
    """
    truth = case.truth
    if truth is None:
        return [Difference("dump", "none", case.error)]
    if not truth.attempted:  # TDX failed before the kernel made a plan: nothing to compare it with
        return []
    try:
        given = agent.with_places(agent.with_module(facts, case.guest.module), truth, planner)
        plan = planner(given)
    except AgentError as error:
        return [Difference("plan", "made one", str(error))]
    if plan is None:
        return [Difference("memory regions", "known", "unknown")]
    return [*_outcome(truth, plan), *_tdmrs(truth, plan), *_module(case, truth, plan)]


def compare_observed(case: Case, facts: HostFacts) -> list[Difference]:
    """What the agent read from the log about the boot's outcome, against the kernel's lines."""
    truth = case.truth
    if truth is None:
        return []
    seen = agent.observed(facts)
    state = seen["module_state"]
    if truth.initialized:
        return _differ(
            [("observed state", "initialized", state), ("observed KiB", truth.pamt_kib, seen["pamt_kib"])]
        )
    if truth.errno is not None:
        named = seen["failed_tdmr"]
        return _differ(
            [
                ("observed state", "failed", state),
                ("observed errno", truth.errno, seen["errno"]),
                ("observed TDMR", truth.failed_tdmr, tuple(named) if named else None),
            ]
        )
    return [Difference("observed state", "not initialized", state)] if state == "initialized" else []


def _differ(rows: list[tuple[str, object, object]]) -> list[Difference]:
    return [Difference(what, kernel, said) for what, kernel, said in rows if kernel != said]


def _outcome(truth: Truth, plan: dict[str, Any]) -> list[Difference]:
    if truth.no_room:
        # Given places cannot tell that there was none for one more PAMT; sizes and nodes are compared below.
        return []
    rows: list[tuple[str, object, object]] = [
        ("errno", 0 if truth.constructed else truth.errno, plan["errno"]),
        ("lines", truth.messages, tuple(plan["messages"])),
    ]
    if truth.initialized:
        rows.append(("KiB of PAMT", truth.pamt_kib, plan["pamt_kib"]))
    if truth.failed_tdmr is not None:
        index = plan["failed_tdmr"]
        known = index is not None and index < len(plan["tdmrs"])
        named = _ends(plan["tdmrs"][index]) if known else None
        rows.append(("TDMR that fails", truth.failed_tdmr, named))
    return _differ(rows)


def _ends(tdmr: dict[str, Any]) -> tuple[int, int]:
    return tdmr["base"], tdmr["base"] + tdmr["size"]


def _tdmrs(truth: Truth, plan: dict[str, Any]) -> list[Difference]:
    planned = plan["tdmrs"]
    found = []
    if truth.allocations and not truth.no_room:
        found += _differ([("TDMRs", len(truth.allocations), plan["tdmrs_needed"])])
    for i, (allocation, tdmr) in enumerate(zip(truth.allocations, planned, strict=False)):
        pamt = tdmr["pamt"]
        found += _differ(
            [
                (f"TDMR {i}", (allocation.base, allocation.size), (tdmr["base"], tdmr["size"])),
                (f"TDMR {i}: node", allocation.nid, tdmr["node"]),
                (
                    f"TDMR {i}: pages of PAMT",
                    allocation.pages,
                    (pamt["size_4k"] + pamt["size_2m"] + pamt["size_1g"]) // 4096,
                ),
            ]
        )
    if truth.tdmrs is None:
        return found
    found += _differ([("TDMRs", len(truth.tdmrs), len(planned))])
    pamts = [(a.at, a.at + (a.pages << 12)) for a in truth.allocations if a.at is not None]
    for i, (handed, tdmr) in enumerate(zip(truth.tdmrs, planned, strict=False)):
        pamt = tdmr["pamt"]
        sizes = (pamt["base"], pamt["size_4k"], pamt["size_2m"], pamt["size_1g"])
        of_pamts = sum(1 for start, end in pamts if start < handed.base + handed.size and end > handed.base)
        found += _differ(
            [
                (f"TDMR {i} handed over", (handed.base, handed.size), (tdmr["base"], tdmr["size"])),
                (
                    f"TDMR {i}: PAMT",
                    (handed.pamt_base, handed.pamt_4k, handed.pamt_2m, handed.pamt_1g),
                    sizes,
                ),
                (
                    f"TDMR {i}: areas",
                    _in_order(handed.areas),
                    tuple((a["offset"], a["size"]) for a in tdmr["reserved_areas"]),
                ),
                (f"TDMR {i}: areas needed", len(handed.areas), tdmr["needed"]),
                (f"TDMR {i}: areas of PAMTs", of_pamts, tdmr["needed_pamts"]),
            ]
        )
    return found


def _in_order(areas: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Areas as they were handed over; those of which some overlap by offset.

    The kernel's comparison knows no order of areas that overlap (``rsvd_area_cmp_func()``): they come in any.
    That happens where a PAMT lies in no CMR, and the module refuses such a TDMR in every order.
    """
    by_offset = tuple(sorted(areas))
    overlap = any(a + size > b for (a, size), (b, _) in pairwise(by_offset))
    return by_offset if overlap else areas


def _module(case: Case, truth: Truth, plan: dict[str, Any]) -> list[Difference]:
    """The stand-in's answer to the plan, where it had CMRs to check it with."""
    if case.guest.module.cmrs is None or truth.status is None:
        return []
    said = plan["module"]
    if said is None:
        return [Difference("module", hex(truth.status), None)]
    rows: list[tuple[str, object, object]] = [
        ("module", STATUS.get(truth.status >> 32, hex(truth.status)), said["status"])
    ]
    if truth.status:
        rows.append(("module: TDMR", truth.status & 0xFF, said["tdmr"]))
    return _differ(rows)
