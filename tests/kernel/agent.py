# SPDX-License-Identifier: Apache-2.0
"""The agent under test: reads a captured root, and plans with the module's limits and the PAMTs' real places.

No file of a host tells the module's limits, and mainline does not print CMRs: both are given to the agent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tdx_headroom.facts.host_facts import GivenBases, HostFacts, Limits, PamtEntrySize, Placement
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.plan_json import observed_to_json, plan_to_json, to_json
from tdx_headroom.plan import Strategy, plan_host
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.late_memory import at_boot
from tests.kernel.guestmap import MEMORY_REGIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.guestmap import Module
    from tests.kernel.truth import Truth

    Planner = Callable[[HostFacts], dict[str, Any] | None]
    """Facts in, a plan out as in ``tdx-headroom/plan/1``; None without a memory map."""


def read_root(root: Path) -> HostFacts:
    """What the agent learns from a captured root."""
    return read_facts(Root(root))


def planner(strategy: str) -> Planner:
    """The agent's own planner for a strategy."""

    def made(facts: HostFacts) -> dict[str, Any] | None:
        name = Strategy(strategy)
        plan = plan_host(at_boot(facts), (name,))[name]
        return None if plan is None else plan_to_json(plan)

    return made


plan = planner(MEMORY_REGIONS)
"""That for mainline."""


def proven_strategy(facts: HostFacts, module: Module) -> str | None:
    """The strategy that the boot has proven to the agent, by the module's limits and the log's CMRs."""
    verdict = to_json(assess(with_limits(facts, module)))["verdict"]
    return verdict["strategy"] if verdict["strategy_basis"] == "evidence" else None


def observed(facts: HostFacts) -> dict[str, Any]:
    """What the agent read from the log about TDX in this boot."""
    return observed_to_json(facts.kernel_log)


def with_limits(facts: HostFacts, module: Module) -> HostFacts:
    """The facts with the limits that the stand-in reported; PAMTs are where the agent expects them."""
    sizes = PamtEntrySize(*module.pamt_entry_size)
    return replace(facts, limits=Limits(module.max_tdmrs, module.max_reserved, sizes))


def with_module(facts: HostFacts, module: Module) -> HostFacts:
    """The facts with the limits and CMRs that the stand-in reported."""
    cmrs = None if module.cmrs is None else tuple((start, end - start) for start, end in module.cmrs)
    return replace(with_limits(facts, module), cmrs=cmrs, pamt_placement=Placement.NONE)


def with_places(facts: HostFacts, truth: Truth, planner: Planner) -> HostFacts:
    """The facts with the PAMTs where the kernel put them.

    A PAMT that the kernel found no room for is taken to lie outside every TDMR, and so are those after it.
    """
    bases: list[int | None] = [allocation.at for allocation in truth.allocations]
    if not bases:
        return facts
    if truth.no_room:
        made = planner(facts)
        missing = len(made["tdmrs"]) - len(bases) if made else 0
        bases += [None] * missing
    return replace(facts, pamt_placement=GivenBases(tuple(bases)))
