# SPDX-License-Identifier: Apache-2.0
"""What-if: facts as they would be after a change that an operator wants to try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.address import Range, intersect, subtract
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import FactsError, MemoryRegion
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.facts.observations import NodeRange
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.host.memory_map import NodeMap
from tdx_headroom.sources.firmware_memmap import firmware_ram
from tdx_headroom.verdict.decode import is_persistent

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Strategy


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Changes to try.

    Args:
        strategy: the hole strategy to assume for this kernel.
        kernel: another kernel release.
        max_reserved, max_tdmrs: other limits of the TDX module.
        dynamic_pamt: whether to take the 4K PAMT to be a bitmap of one bit a page.
        holes: memory ranges to take away.
        without_memmap: whether to use the firmware's own map instead of what ``memmap=`` made of it.
    """

    strategy: Strategy | None = None
    kernel: str | None = None
    max_reserved: int | None = None
    max_tdmrs: int | None = None
    dynamic_pamt: bool = False
    holes: tuple[Range, ...] = ()
    without_memmap: bool = False

    @property
    def changes_host(self) -> bool:
        """Whether anything but the operator's word on the strategy differs from the host as it is."""
        return replace(self, strategy=None) != UNCHANGED


UNCHANGED = WhatIf()


def apply(what_if: WhatIf, facts: HostFacts) -> HostFacts:
    """The facts after the changes.

    Raises:
        FactsError: a change makes no sense for these facts.
    """
    if what_if == UNCHANGED:
        return facts
    limits = facts.limits
    if what_if.max_reserved is not None:
        limits = limits._replace(max_reserved_per_tdmr=what_if.max_reserved)
    if what_if.max_tdmrs is not None:
        limits = limits._replace(max_tdmrs=what_if.max_tdmrs)
    if what_if.dynamic_pamt:
        limits = limits._replace(pamt_page_bitmap_entry_bits=1)
    changed = replace(facts, limits=limits, kernel_release=what_if.kernel or facts.kernel_release)
    if what_if.kernel is not None and changed.platform is not None and not changed.platform.tdx_host_platform:
        # The flag is the present kernel's word: one without INTEL_TDX_HOST never sets it, nor names KeyIDs.
        # That nothing showed TDX stays so.
        log = changed.kernel_log or (KernelReport() if changed.platform.tdx_host_platform is False else None)
        changed = replace(changed, platform=replace(changed.platform, tdx_host_platform=None), kernel_log=log)
    if what_if.kernel is not None and changed.log_health is not None:
        changed = replace(changed, log_health=replace(changed.log_health, whole_start=False))
    if what_if.changes_host:
        # What happened on the host as it is says nothing about the host as it would be, CMRs apart.
        changed = replace(changed, kernel_log=_without_outcome(changed))
    if what_if.without_memmap:
        changed = _without_memmap(changed)
    if what_if.holes:
        changed = _with_holes(changed, what_if.holes)
    return changed


def _without_outcome(facts: HostFacts) -> KernelReport | None:
    log = facts.kernel_log
    if log is None or log.state in (ModuleState.UNSUPPORTED, ModuleState.UNKNOWN):
        return log
    # A module that is too old, or not there, stays so whatever the memory map.
    lasting = log.state is ModuleState.FAILED and is_persistent(log)
    return KernelReport(
        state=ModuleState.NOT_ATTEMPTED if log.keyids else ModuleState.UNKNOWN,
        reason=log.reason if lasting else None,
        seamcall=log.seamcall if lasting else None,
        keyids=log.keyids,
        module_version=log.module_version,
        module_build=log.module_build,
        cmrs=log.cmrs,
        cmrs_complete=log.cmrs_complete,
        dynamic_pamt=log.dynamic_pamt,
        verified=log.verified,
    )


def _without_memmap(facts: HostFacts) -> HostFacts:
    """Memory as the firmware gives it; nodes as the present regions have them."""
    if facts.firmware_map is None:
        raise FactsError("--without-memmap needs the firmware's memory map, which no source tells")
    if not map_edits(facts.command_line or ()):
        raise FactsError("--without-memmap: there is no memmap= or mem= on this host's command line")
    ram = firmware_ram(facts.firmware_map)
    if not ram:
        raise FactsError("--without-memmap: there is no System RAM in the firmware's memory map")
    known = [r for r in facts.memory_regions or () if r.node is not None]
    spans: list[NodeRange] = []
    for i, region in enumerate(known):
        # A gap in the present map belongs to the node below it: memmap= punched it out of that node.
        end = known[i + 1].start if i + 1 < len(known) else ram[-1].end
        spans.append(NodeRange(region.start, max(end, region.end), region.node or 0))
    source = MemorySource.FIRMWARE_MEMMAP
    regions = NodeMap(source, spans).split(ram)
    return replace(facts, memory_regions=tuple(regions), memory_source=source, zones=None)


def _with_holes(facts: HostFacts, holes: tuple[Range, ...]) -> HostFacts:
    if facts.memory_regions is None:
        raise FactsError("--add-hole: the memory regions are unknown")
    memory = [(region.start, region.end) for region in facts.memory_regions]
    for hole in holes:
        if not intersect(memory, [hole]):
            raise FactsError(
                f"--add-hole {hole.start:#x}-{hole.end:#x}: there is no memory to take away",
                hint="`tdx-headroom plan` lists holes and TDMRs",
            )
    pieces = [
        MemoryRegion(piece.start, piece.end, region.node)
        for region in facts.memory_regions
        for piece in subtract([(region.start, region.end)], holes)
    ]
    return replace(facts, memory_regions=tuple(pieces))
