# SPDX-License-Identifier: Apache-2.0
"""A host's facts from all its sources: the best source for each fact, and where sources disagree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, MIB, Range, page_round, subtract
from tdx_headroom.facts.host_facts import DEFAULT_LIMITS, HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.observations import LogHealth, NodeRange
from tdx_headroom.facts.sources import CmrSource, MemorySource, PlacementSource, SourceStatus
from tdx_headroom.host.memory_map import MemoryMap, NodeMap, choose, disagreements, from_ranges
from tdx_headroom.plan.zones import zones_of
from tdx_headroom.sources.firmware_memmap import firmware_ram, read_firmware_memmap
from tdx_headroom.sources.iomem import crash_kernel, read_iomem, system_ram
from tdx_headroom.sources.kernel_log.boot_lines import RUNNING
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.reader import read_kernel_log
from tdx_headroom.sources.kernel_log.records import KernelLog
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.tdx_lines import LOOKS_LIKE_TDX, match_tdx_line
from tdx_headroom.sources.memblock import read_memblock, read_memblock_reserved
from tdx_headroom.sources.memory_blocks import read_offline
from tdx_headroom.sources.nodes import read_nodes
from tdx_headroom.sources.platform import (
    read_hostname,
    read_hugetlb,
    read_platform,
    read_release,
    relevant_arguments,
)
from tdx_headroom.sources.reading import Reading
from tdx_headroom.sources.zoneinfo import read_zoneinfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.facts.observations import FirmwareRange, Platform, Zone
    from tdx_headroom.facts.sources import LastCmrs
    from tdx_headroom.hostfs.root import Root
    from tdx_headroom.sources.iomem import IomemRow
    from tdx_headroom.sources.kernel_log.boot_map import BootMap
    from tdx_headroom.sources.memblock import MemblockRegion


@dataclass(frozen=True, slots=True)
class _Collected:
    """All readings of one host, before anything is chosen."""

    log: Reading[KernelLog]
    boot: BootMap
    maps: tuple[MemoryMap, ...]
    zones: Reading[list[Zone]] | None
    hugetlb: int
    reserved: Reading[list[Range]]
    firmware: Sequence[FirmwareRange] | None
    readings: tuple[Reading[Any], ...]


def read_facts(
    root: Root, log: Reading[KernelLog] | None = None, last_cmrs: LastCmrs | None = None
) -> HostFacts:
    """Everything that a live host or a captured tree tells about itself.

    Never raises for a source that fails: the facts say which did, and why.

    Args:
        root: of the host.
        log: its kernel log, where somebody follows it already.
        last_cmrs: CMRs of an earlier boot, to be used when this boot's log does not show them.
    """
    log = log or read_kernel_log(root)
    memblock = read_memblock(root)
    iomem = read_iomem(root)
    firmware = read_firmware_memmap(root)
    sysfs_nodes = read_nodes(root)
    platform = read_platform(root)
    zoneinfo = read_zoneinfo(root)
    reserved = _reserved(read_memblock_reserved(root), iomem)
    boot = read_boot_map(log.value or KernelLog(()), log.origin)
    nodes = _node_map(boot.node_ranges, boot.srat, sysfs_nodes)
    by_source = {
        MemorySource.MEMBLOCK: _memblock_map(memblock.value, nodes),
        MemorySource.IOMEM: from_ranges(MemorySource.IOMEM, system_ram(iomem.value), nodes)
        if iomem.value
        else None,
        MemorySource.FIRMWARE_MEMMAP: _firmware_map(MemorySource.FIRMWARE_MEMMAP, firmware.value, nodes),
        **_log_maps(boot, nodes),
    }
    hugetlb = read_hugetlb(root)
    facts = _facts(
        _Collected(
            log=log,
            boot=boot,
            maps=tuple(found for name in MemorySource if (found := by_source[name]) is not None),
            zones=zoneinfo,
            hugetlb=boot.hugetlb if hugetlb is None else hugetlb,
            reserved=reserved,
            firmware=firmware.value or boot.firmware.value,
            readings=(memblock, iomem, firmware, sysfs_nodes, zoneinfo, platform, log),
        ),
        host=read_hostname(root),
        release=read_release(root) or boot.kernel_release,
        platform=platform.value,
    )
    facts = _without_refused(facts, _offline(root, by_source[MemorySource.LOG_NODE_RANGES], facts))
    return _with_last_cmrs(facts, last_cmrs)


def _without_refused(facts: HostFacts, offline: tuple[Range, ...] | None) -> HostFacts:
    """The facts without memory that an initialised TDX has refused: it is no part of the plan in use."""
    log = facts.kernel_log
    if not offline or log is None or log.state is not ModuleState.INITIALIZED:
        return replace(facts, offline=offline)
    in_use = tuple(
        MemoryRegion(start, end, region.node)
        for region in facts.memory_regions or ()
        for start, end in subtract([(region.start, region.end)], offline)
    )
    return replace(facts, offline=offline, memory_regions=in_use)


def _offline(root: Root, at_boot: MemoryMap | None, facts: HostFacts) -> tuple[Range, ...] | None:
    """Memory that was added since the boot and is offline; None when that cannot be told."""
    if at_boot is None or facts.memory_regions is None or facts.memory_source == at_boot.source:
        return None
    now = page_round((r.start, r.end) for r in facts.memory_regions)
    added = subtract(subtract(now, at_boot.pages), [(0, MIB)])
    if not added:
        return None
    found = read_offline(root, added).value
    return tuple(found) if found else None


def _with_last_cmrs(facts: HostFacts, last: LastCmrs | None) -> HostFacts:
    """The facts with an earlier boot's CMRs, where this boot shows none and the machine is the same."""
    platform = facts.platform
    if last is None or facts.cmrs is not None or platform is None:
        return facts
    if last.bios_version is None or last.bios_version != platform.bios_version:
        return facts
    if last.memory_total is None or platform.memory_total is None:
        return facts
    # The kernel keeps a little more or less for itself from boot to boot; a DIMM is a GiB or more.
    if abs(last.memory_total - platform.memory_total) >= GIB:
        return facts
    source = CmrSource(boot_id=last.boot_id, bios_version=last.bios_version)
    return replace(facts, cmrs=last.cmrs, cmr_source=source)


def facts_from_log(log: Reading[KernelLog]) -> HostFacts:
    """What a kernel log alone tells: a colleague's dmesg holds the memory map, CMRs and outcome."""
    boot = read_boot_map(log.value or KernelLog(()), log.origin)
    by_source = _log_maps(boot, _node_map(boot.node_ranges, boot.srat))
    return _facts(
        _Collected(
            log=log,
            boot=boot,
            maps=tuple(found for found in by_source.values() if found is not None),
            zones=None,
            hugetlb=boot.hugetlb,
            reserved=Reading("log-crash-kernel", log.origin, list(boot.crash_kernel)),
            firmware=boot.firmware.value,
            readings=(log,),
        ),
        host=None,
        release=boot.kernel_release,
        platform=None,
    )


def _facts(
    collected: _Collected, *, host: str | None, release: str | None, platform: Platform | None
) -> HostFacts:
    log, boot = collected.log, collected.boot
    report = _report(log.value, boot) if log.value else None
    chosen = choose(collected.maps)
    cmrs = _complete_cmrs(report)
    zones, zone_source = _zones(collected, chosen)
    reserved = collected.reserved
    # A list that is not in the log is no failure: nobody can bring the boot messages back.
    lists = [
        r
        for r in (boot.node_ranges, boot.e820, boot.srat, boot.zones)
        if r.error is None or not r.error.absent
    ]
    dynamic_pamt = report is not None and report.dynamic_pamt
    return HostFacts(
        host=host,
        kernel_release=release,
        limits=DEFAULT_LIMITS._replace(pamt_page_bitmap_entry_bits=1) if dynamic_pamt else DEFAULT_LIMITS,
        memory_regions=chosen.regions if chosen else None,
        cmrs=cmrs,
        memory_source=chosen.source if chosen else None,
        node_source=chosen.node_source if chosen else None,
        cmr_source=None if cmrs is None else CmrSource(),
        zones=zones,
        reserved=tuple(reserved.value) if reserved.value else None,
        hugetlb_bytes=collected.hugetlb,
        placement_source=PlacementSource(zone_source, None if reserved.value is None else reserved.source),
        firmware_map=tuple(collected.firmware) if collected.firmware else None,
        command_line=_command_line(platform, boot),
        sources=tuple(SourceStatus.of(r.source, r.origin, r.error) for r in (*collected.readings, *lists)),
        disagreements=disagreements(collected.maps, chosen),
        kernel_log=report,
        log_health=_health(log.value, boot) if log.value else None,
        platform=platform,
    )


def _zones(collected: _Collected, chosen: MemoryMap | None) -> tuple[tuple[Zone, ...] | None, str]:
    """The zones and where they come from; None where they have to be derived from the memory regions."""
    if collected.zones is not None and collected.zones.value:
        return tuple(collected.zones.value), collected.zones.source
    boot = collected.boot
    if boot.zones.value and chosen is not None:
        return tuple(zones_of(chosen.regions, boot.zones.value, dict(boot.movable))), boot.zones.source
    return None, PlacementSource().zones


def _reserved(
    memblock: Reading[list[MemblockRegion]], iomem: Reading[list[IomemRow]]
) -> Reading[list[Range]]:
    """Memory reserved for good: memblock's list, or at least the crash kernel's memory."""
    if memblock.value is not None:
        ranges = [Range(r.start, r.end) for r in memblock.value]
        return Reading(memblock.source, memblock.origin, ranges)
    found = None if iomem.value is None else crash_kernel(iomem.value)
    return Reading("iomem-crash-kernel", iomem.origin, found, iomem.error)


def _node_map(*readings: Reading[list[NodeRange]]) -> NodeMap | None:
    """All sources that tell nodes, a later one only where those before say nothing.

    The boot's lists come first, but know nothing of memory that was added since.
    """
    ranges: list[NodeRange] = []
    source = None
    for reading in readings:
        if reading.value:
            source = source or reading.source
            covered = [(r.start, r.end) for r in ranges]
            ranges += [
                NodeRange(start, end, r.node)
                for r in reading.value
                for start, end in subtract([(r.start, r.end)], covered)
            ]
    return NodeMap(source, ranges) if source is not None else None


def _memblock_map(found: list[MemblockRegion] | None, nodes: NodeMap | None) -> MemoryMap | None:
    """Memblock's own regions; older kernels print no node, but they too split regions at node borders."""
    if found is None:
        return None
    source: str | None = MemorySource.MEMBLOCK
    regions = [MemoryRegion(r.start, r.end, r.node) for r in found]
    if any(r.node is None for r in regions):
        source = nodes.source if nodes else None
        if nodes:
            regions = [r if r.node is not None else r._replace(node=nodes.node_of(r.start)) for r in regions]
    return MemoryMap(MemorySource.MEMBLOCK, tuple(regions), source)


def _firmware_map(
    source: MemorySource, ranges: list[FirmwareRange] | None, nodes: NodeMap | None
) -> MemoryMap | None:
    ram = firmware_ram(ranges) if ranges else []
    return from_ranges(source, ram, nodes) if ram else None


def _log_maps(boot: BootMap, nodes: NodeMap | None) -> dict[MemorySource, MemoryMap | None]:
    source = MemorySource.LOG_NODE_RANGES
    ranges = boot.node_ranges.value
    return {
        source: MemoryMap(source, tuple(MemoryRegion(*r) for r in ranges), source) if ranges else None,
        MemorySource.LOG_E820: _firmware_map(MemorySource.LOG_E820, boot.e820.value, nodes),
    }


def _complete_cmrs(report: KernelReport | None) -> tuple[tuple[int, int], ...] | None:
    """The CMRs as ``(base, size)``; None when the log does not show that their list is whole."""
    if report is None or report.cmrs is None or not report.cmrs_complete:
        return None
    return tuple((r.start, r.size) for r in report.cmrs)


def _command_line(platform: Platform | None, boot: BootMap) -> tuple[str, ...] | None:
    if platform is not None and platform.command_line is not None:
        return platform.command_line
    return None if boot.command_line is None else relevant_arguments(boot.command_line)


def _report(log: KernelLog, boot: BootMap) -> KernelReport:
    report = read_report(log)
    if boot.no_tdx is not None and report.shows_nothing:
        no_tdx, message = boot.no_tdx
        report = replace(report, state=ModuleState.UNSUPPORTED, no_tdx=no_tdx, message=message)
    found = dict.fromkeys((*report.contradictions, *boot.contradictions))
    return replace(report, contradictions=tuple(found))


def _health(log: KernelLog, boot: BootMap) -> LogHealth:
    forged = log.forged + sum(1 for text in log.untrusted if LOOKS_LIKE_TDX.match(text))
    # tdx_init() is an early initcall; smp_init() comes after those.
    started = any(RUNNING.fullmatch(record.text.strip()) for record in log.records)
    return LogHealth(
        lost=log.lost,
        untrusted=forged,
        from_boot=boot.from_boot,
        whole_start=boot.from_boot and started and not log.lost,
        verified=log.verified,
        earlier_boots=log.earlier,
        loose=sum(1 for text in log.loose if match_tdx_line(text)),
    )
