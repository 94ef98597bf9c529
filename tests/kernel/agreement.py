# SPDX-License-Identifier: Apache-2.0
"""Sources of memory regions against each other, and what the agent makes of a host with only some of them.

A difference must have one of a few reasons; one that has none is an error of the agent's readers.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError
from tdx_headroom.verdict.late_memory import late_memory
from tests.kernel import agent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
    from tests.kernel.store import Case

LOG_FILES = ("dev/kmsg", "proc/sys/kernel/osrelease", "proc/cpuinfo", "proc/cmdline")


def _no_memblock(path: str) -> bool:
    return not path.startswith("sys/kernel/debug")


def _iomem_alone(path: str) -> bool:
    return path == "proc/iomem" or path.startswith("sys/devices/system/") or path in LOG_FILES[1:]


def _log_alone(path: str) -> bool:
    return path in LOG_FILES


def _firmware_alone(path: str) -> bool:
    return path.startswith("sys/firmware/memmap") or path in LOG_FILES[1:]


FALLBACKS: dict[str, Callable[[str], bool]] = {
    "without memblock": _no_memblock,
    "iomem, no log": _iomem_alone,
    "log alone": _log_alone,
    "firmware map alone": _firmware_alone,
}
"""Hosts with fewer sources: which files each still has."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """What a host with fewer sources plans.

    Args:
        name: a key of ``FALLBACKS``.
        source: the source that the agent took the memory from; None: it had none.
        differs: how the plan differs from the one from all sources; None: it is the same.
        reason: why; None when nothing explains it.
    """

    name: str
    source: str | None
    differs: str | None
    reason: str | None

    @property
    def explained(self) -> bool:
        """Whether the same plan was made, or another for a known reason."""
        return self.differs is None or self.reason is not None


def check_fallbacks(case: Case, facts: HostFacts, scratch: Path) -> list[Fallback]:
    """Plan again with fewer sources.

    Args:
        case: a kept boot.
        facts: what the agent read with all of them.
        scratch: a folder for the reduced roots.
    """
    found = []
    for name, keep in FALLBACKS.items():
        reduced = scratch / "root"
        shutil.rmtree(reduced, ignore_errors=True)
        _reduce(case.root, reduced, keep)
        found.append(_fallback(name, case, facts, agent.read_root(reduced)))
    return found


def unexplained_disagreements(case: Case, facts: HostFacts) -> list[str]:
    """Where the sources of this host contradict each other without a reason."""
    found = []
    for disagreement in facts.disagreements:
        pair = {disagreement.a, disagreement.b}
        boot_time = any("log" in name for name in pair)
        firmware = any("firmware" in name or "e820" in name for name in pair)
        if firmware and (_edits_map(case) or case.guest.dimms):
            continue
        if boot_time and case.guest.dimms:
            continue
        found.append(f"{disagreement.a} and {disagreement.b} differ in {disagreement.bytes} bytes")
    return found


def _reduce(root: Path, reduced: Path, keep: Callable[[str], bool]) -> None:
    """The files that are kept, as hard links: a symbolic link that leads out of the root is refused."""
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if not keep(relative.as_posix()) or (path.is_dir() and not path.is_symlink()):
            continue
        new = reduced / relative
        new.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            new.symlink_to(path.readlink())
        else:
            new.hardlink_to(path)


def _fallback(name: str, case: Case, full: HostFacts, reduced: HostFacts) -> Fallback:
    if reduced.memory_regions is None:
        return Fallback(name, None, "no memory map", None)
    differs = _difference(case, full, reduced)
    return Fallback(name, reduced.memory_source, differs, _reason(case, full, reduced) if differs else None)


def _difference(case: Case, full: HostFacts, reduced: HostFacts) -> str | None:
    """In what the plans differ: outcome, TDMRs, areas or nodes; PAMTs are left out of both."""
    try:
        planner = agent.planner(case.guest.strategy)
        a = planner(agent.with_module(full, case.guest.module))
        b = planner(agent.with_module(reduced, case.guest.module))
    except AgentError as error:
        return f"plan refused: {error}"
    if a == b:
        return None
    if a is None or b is None:
        return "no plan"
    if [(t["base"], t["size"]) for t in a["tdmrs"]] != [(t["base"], t["size"]) for t in b["tdmrs"]]:
        return "TDMRs"
    if [t["reserved_areas"] for t in a["tdmrs"]] != [t["reserved_areas"] for t in b["tdmrs"]]:
        return "reserved areas"
    if a["errno"] != b["errno"] or a["messages"] != b["messages"]:
        return "outcome"
    return "nodes"


def _reason(case: Case, full: HostFacts, reduced: HostFacts) -> str | None:
    firmware = reduced.memory_source is not None and (
        "firmware" in reduced.memory_source or "e820" in reduced.memory_source
    )
    if firmware and _edits_map(case):
        return "the command line edits the firmware's map"
    if case.guest.dimms and reduced.memory_source not in ("memblock", "iomem"):
        return "memory was added after the map was printed"
    if late_memory(full) and not late_memory(reduced):
        return "which memory was added is known only with the log"
    if full.offline and reduced.offline is None:
        return "that TDX refused memory is known only with the log"
    if _difference(case, _without_borders(full), _without_borders(reduced)) is not None:
        return None
    if reduced.node_source is None:
        return "no source tells nodes"
    return _unseen_border(case, full)


def _unseen_border(case: Case, full: HostFacts) -> str | None:
    """Why only memblock shows where one region ends and the next begins, though they touch."""
    size = int((case.root / "sys/devices/system/memory/block_size_bytes").read_text(), 16)
    for before, after in pairwise(full.memory_regions or ()):
        if before.end == after.start and before.node == after.node:
            return "memblock splits by flag"
        if before.end == after.start and before.end % size:
            return "a node border inside a memory block"
    return None


def _edits_map(case: Case) -> bool:
    return any(a.startswith(("memmap=", "mem=")) for a in case.guest.arguments)


def _without_borders(facts: HostFacts) -> HostFacts:
    """The facts without nodes, regions that touch joined."""
    return replace(facts, memory_regions=joined(facts.memory_regions or ()))


def joined(regions: tuple[MemoryRegion, ...]) -> tuple[MemoryRegion, ...]:
    """Regions that touch made one, with no node."""
    made: list[MemoryRegion] = []
    for region in regions:
        if made and made[-1].end == region.start:
            made[-1] = made[-1]._replace(end=region.end)
        else:
            made.append(region._replace(node=None))
    assert all(a.end < b.start for a, b in pairwise(made))
    return tuple(made)
