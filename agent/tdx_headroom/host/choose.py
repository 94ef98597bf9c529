# SPDX-License-Identifier: Apache-2.0
"""A host's facts from all its sources: the best source for each fact, and where sources disagree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, Range, subtract
from tdx_headroom.boots.memory_map import boot_time_map
from tdx_headroom.errors import one_line
from tdx_headroom.facts.boots import Role
from tdx_headroom.facts.command_line import asks_for_tdx, map_edits
from tdx_headroom.facts.cpu_models import cpu_can_tdx
from tdx_headroom.facts.host_facts import DEFAULT_LIMITS, HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.observations import LogHealth
from tdx_headroom.facts.sources import CmrSource, MemorySource, PlacementSource, SourceStatus
from tdx_headroom.host.memory_map import disagreements
from tdx_headroom.host.readings import read_all, with_maps
from tdx_headroom.host.suspects import find_suspects
from tdx_headroom.plan.zones import zones_of
from tdx_headroom.sources.iomem import crash_kernel
from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.known_lines import hides_failure, unread_of
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.tdx_lines import LOOKS_LIKE_TDX
from tdx_headroom.sources.platform import relevant_arguments
from tdx_headroom.sources.registry import (
    BOOTS,
    FIRMWARE,
    HOST_NAME,
    HUGETLB,
    IOMEM,
    MEMBLOCK_RESERVED,
    MEMORY_BLOCKS,
    PLATFORM,
    RELEASE,
    SOURCES,
    ZONEINFO,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.facts.boots import BootInventory, KernelTraits
    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.facts.observations import FirmwareRange, Platform, Zone
    from tdx_headroom.facts.sources import LastCmrs
    from tdx_headroom.host.memory_map import MemoryMap
    from tdx_headroom.host.readings import Readings
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.boot_map import BootMap
    from tdx_headroom.sources.kernel_log.records import KernelLog
    from tdx_headroom.sources.reading import Reading


def read_facts(
    files: HostFiles,
    log: Reading[KernelLog] | None = None,
    last_cmrs: LastCmrs | None = None,
    boots: BootSource | None = None,
) -> HostFacts:
    """Everything that a live host or a captured tree tells about itself.

    Never raises for a source that fails: the facts say which did, and why.

    Args:
        files: of the host.
        log: its kernel log, where somebody follows it already.
        last_cmrs: CMRs of an earlier boot, to be used when this boot's log does not show them.
        boots: tells of boot entries; None: nobody looks for them.
    """
    return choose_facts(read_all(files, log, boots), last_cmrs)


def facts_from_log(log: Reading[KernelLog]) -> HostFacts:
    """What a kernel log alone tells: a colleague's dmesg holds the memory map, CMRs and outcome."""
    return choose_facts(with_maps(log, {}))


def choose_facts(readings: Readings, last_cmrs: LastCmrs | None = None) -> HostFacts:
    """The facts from all readings: of each the best source's."""
    log, boot = readings.log, readings.boot
    platform = readings.of(PLATFORM)
    report = _report(log.value, boot) if log.value else None
    chosen = readings.chosen
    cmrs = _complete_cmrs(report)
    zones, zone_source = _zones(readings, chosen)
    reserved, reserved_source = _reserved(readings)
    hugetlb = readings.of(HUGETLB)
    offline = readings.of(MEMORY_BLOCKS)
    command_line = _command_line(platform, boot)
    firmware, certain = _firmware_map(readings, command_line or ())
    boots = readings.of(BOOTS)
    # A list that is not in the log is no failure: nobody can bring the boot messages back.
    lists = [
        r
        for r in (boot.node_ranges, boot.e820, boot.srat, boot.zones)
        if r.error is None or not r.error.absent
    ]
    reported = [readings.found[s.name] for s in SOURCES if s.reported and s.name in readings.found]
    dynamic_pamt = report is not None and report.dynamic_pamt
    facts = HostFacts(
        host=readings.of(HOST_NAME),
        kernel_release=readings.of(RELEASE) or boot.kernel_release,
        limits=DEFAULT_LIMITS._replace(pamt_page_bitmap_entry_bits=1) if dynamic_pamt else DEFAULT_LIMITS,
        memory_regions=chosen.regions if chosen else None,
        cmrs=cmrs,
        memory_source=chosen.source if chosen else None,
        node_source=chosen.node_source if chosen else None,
        cmr_source=None if cmrs is None else CmrSource(),
        offline=tuple(offline) if offline else None,
        suspects=find_suspects(readings, command_line or ()),
        zones=zones,
        reserved=tuple(reserved) or None,
        hugetlb_bytes=boot.hugetlb if hugetlb is None else hugetlb,
        placement_source=PlacementSource(zone_source, reserved_source),
        firmware_map=firmware or None,
        firmware_map_certain=certain,
        command_line=command_line,
        sources=tuple(SourceStatus.of(r.source, r.origin, r.error) for r in (*reported, log, *lists)),
        disagreements=disagreements(tuple(readings.maps.values()), chosen),
        kernel_log=report,
        log_health=_health(log.value, boot, report) if log.value and report else None,
        platform=platform,
        traits=_traits(boots),
        boots=boots,
        node_ranges=tuple(boot.srat.value) if boot.srat.value else None,
    )
    return _with_last_cmrs(_without_refused(facts), last_cmrs)


def _without_refused(facts: HostFacts) -> HostFacts:
    """The facts without memory that an initialised TDX has refused: it is no part of the plan in use."""
    log = facts.kernel_log
    if not facts.offline or log is None or log.state is not ModuleState.INITIALIZED:
        return facts
    in_use = tuple(
        MemoryRegion(start, end, region.node)
        for region in facts.memory_regions or ()
        for start, end in subtract([(region.start, region.end)], facts.offline)
    )
    return replace(facts, memory_regions=in_use)


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


def _zones(readings: Readings, chosen: MemoryMap | None) -> tuple[tuple[Zone, ...] | None, str]:
    """The zones and where they come from; None where they have to be derived from the memory regions."""
    if zones := readings.of(ZONEINFO):
        return tuple(zones), ZONEINFO.name
    boot = readings.boot
    if boot.zones.value and chosen is not None:
        return tuple(zones_of(chosen.regions, boot.zones.value, dict(boot.movable))), boot.zones.source
    if boot.movable and chosen is not None:
        movable = f"{PlacementSource().zones} and the log's movable zones"
        return tuple(zones_of(chosen.regions, movable=dict(boot.movable))), movable
    return None, PlacementSource().zones


def _reserved(readings: Readings) -> tuple[Sequence[Range], str | None]:
    """Memory reserved for good: memblock's list, or at least the crash kernel's memory; and its source."""
    memblock, iomem = readings.of(MEMBLOCK_RESERVED), readings.of(IOMEM)
    if memblock is not None:
        return [Range(r.start, r.end) for r in memblock], MEMBLOCK_RESERVED.name
    if iomem is not None:
        return crash_kernel(iomem), "iomem-crash-kernel"
    return ((), None) if readings.found else (readings.boot.crash_kernel, "log-crash-kernel")


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
    bios = boot_lines.bios_version(record.text for record in log.records)
    return replace(report, contradictions=tuple(found), bios_version=bios)


def _health(log: KernelLog, boot: BootMap, report: KernelReport) -> LogHealth:
    forged = log.forged + sum(1 for text in log.untrusted if LOOKS_LIKE_TDX.match(text))
    unread = unread_of(log)
    # tdx_init() is an early initcall; smp_init() comes after those.
    started = any(boot_lines.RUNNING.fullmatch(record.text.strip()) for record in log.records)
    whole_start = boot.from_boot and started and not log.lost
    filtered = whole_start and not log.verified and report.shows_nothing and _speaks_for_tdx(log, boot)
    return LogHealth(
        lost=log.lost,
        untrusted=forged,
        from_boot=boot.from_boot,
        whole_start=whole_start and not filtered,
        filtered=filtered,
        verified=log.verified,
        earlier_boots=log.earlier,
        loose=len(log.loose),
        unread=len(unread),
        first_unread=one_line(unread[0], 120) if unread else None,
        hides_failure=hides_failure(log),
        excerpt=log.excerpt,
        until=max((r.time / 1e6 for r in log.records if r.time is not None), default=None),
    )


def _firmware_map(readings: Readings, command_line: Sequence[str]) -> tuple[tuple[FirmwareRange, ...], bool]:
    """The firmware's map as it was at boot, and whether that is certain."""
    boot = readings.boot
    at_boot = None
    ranges = readings.maps.get(MemorySource.LOG_NODE_RANGES)
    if ranges is not None and not map_edits(command_line):
        at_boot = [(r.start, r.end) for r in ranges.regions]
    in_sysfs: Sequence[FirmwareRange] | None = readings.found[FIRMWARE.name].value if readings.found else None
    logged: Sequence[FirmwareRange] = boot.firmware.value or ()
    # A log whose list is no part of it is of another boot.
    same = in_sysfs is None or set(logged) <= set(in_sysfs)
    return boot_time_map(in_sysfs or logged, logged if same else None, at_boot)


def _traits(boots: BootInventory | None) -> KernelTraits | None:
    """What the running kernel does, by its own files."""
    entries = () if boots is None else boots.entries
    return next((entry.traits for entry in entries if Role.RUNNING in entry.roles), None)


def _speaks_for_tdx(log: KernelLog, boot: BootMap) -> bool:
    """Whether a log without a line about TDX shows a host that would have some, or lacks what all have."""
    if boot.command_line is None:
        # The kernel prints it twice, and it names TDX where it asks for it.
        return True
    if asks_for_tdx(relevant_arguments(boot.command_line)):
        return True
    cpus = (boot_lines.CPU.fullmatch(record.text.strip()) for record in log.records)
    return any(cpu and cpu_can_tdx(cpu[1], int(cpu[2], 16), int(cpu[3], 16)) for cpu in cpus)
