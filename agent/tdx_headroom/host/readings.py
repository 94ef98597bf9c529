# SPDX-License-Identifier: Apache-2.0
"""What all sources of a host say, read before anything is chosen; and the memory maps in that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tdx_headroom.address import Range, subtract
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.node_map import NodeMap
from tdx_headroom.facts.observations import NodeRange
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.host.memory_map import MemoryMap, choose, from_ranges
from tdx_headroom.sources.firmware_memmap import firmware_ram
from tdx_headroom.sources.iomem import system_ram
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.reader import read_kernel_log
from tdx_headroom.sources.kernel_log.records import KernelLog
from tdx_headroom.sources.memory_blocks import read_offline
from tdx_headroom.sources.registry import BOOTS, FIRMWARE, IOMEM, MEMBLOCK, MEMORY_BLOCKS, NODES, SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.facts.observations import FirmwareRange
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.boot_map import BootMap
    from tdx_headroom.sources.memblock import MemblockRegion
    from tdx_headroom.sources.reading import Reading
    from tdx_headroom.sources.registry import Source

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of one host.

    Args:
        log: its kernel log.
        boot: what the log's boot messages show of memory.
        maps: the memory maps of all sources that have one, best first.
        found: the readings of the other sources by name; none where there is only a log.
        chosen: the best of the maps.
    """

    log: Reading[KernelLog]
    boot: BootMap
    maps: Mapping[MemorySource, MemoryMap]
    found: Mapping[str, Reading[Any]]
    chosen: MemoryMap | None = None

    def of(self, source: Source[T]) -> T | None:
        """What a source says; None where it says nothing."""
        reading: Reading[T] | None = self.found.get(source.name)
        return reading.value if reading is not None else None


def read_all(
    files: HostFiles, log: Reading[KernelLog] | None = None, boots: BootSource | None = None
) -> Readings:
    """Read every source.

    Args:
        files: of the host.
        log: its kernel log, where somebody follows it already.
        boots: tells of boot entries; None: nobody looks for them.
    """
    found = {source.name: source.read(files) for source in SOURCES if source.read is not None}
    readings = with_maps(log or read_kernel_log(files), found)
    if boots is not None:
        found[BOOTS.name] = boots.read(files, readings.boot.kernel_release, readings.boot.command_line)
        readings = replace(readings, found=found)
    # A large host has thousands of memory blocks: only those are looked at that were added since the boot.
    if added := _added_since_boot(readings):
        return replace(readings, found={**found, MEMORY_BLOCKS.name: read_offline(files, added)})
    return readings


def with_maps(log: Reading[KernelLog], found: Mapping[str, Reading[Any]]) -> Readings:
    """The readings with the memory maps that follow from them."""
    boot = read_boot_map(log.value or KernelLog(()), log.origin)
    known = Readings(log, boot, {}, found)
    in_sysfs = [found[NODES.name]] if NODES.name in found else []
    nodes = _node_map(boot.node_ranges, boot.srat, *in_sysfs)
    iomem, ranges = known.of(IOMEM), boot.node_ranges.value
    source = MemorySource.LOG_NODE_RANGES
    maps = {
        MemorySource.MEMBLOCK: _memblock_map(known.of(MEMBLOCK), nodes),
        source: MemoryMap(source, tuple(MemoryRegion(*r) for r in ranges), source) if ranges else None,
        MemorySource.IOMEM: from_ranges(MemorySource.IOMEM, system_ram(iomem), nodes) if iomem else None,
        MemorySource.LOG_E820: _firmware_map(MemorySource.LOG_E820, boot.e820.value, nodes),
        MemorySource.FIRMWARE_MEMMAP: _firmware_map(MemorySource.FIRMWARE_MEMMAP, known.of(FIRMWARE), nodes),
    }
    there = {name: known_map for name in MemorySource if (known_map := maps[name]) is not None}
    return replace(known, maps=there, chosen=choose(tuple(there.values())))


def _added_since_boot(readings: Readings) -> list[Range]:
    """Memory of the chosen map that is not in the boot's list; none where that cannot be told."""
    at_boot, chosen = readings.maps.get(MemorySource.LOG_NODE_RANGES), readings.chosen
    if at_boot is None or chosen is None or chosen.source is at_boot.source:
        return []
    return subtract(chosen.pages, at_boot.pages)


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
