# SPDX-License-Identifier: Apache-2.0
"""One description of a synthetic host, and what the kernel makes of it at boot.

Addresses are bytes, ends exclusive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

PAGE = 1 << 12
MIB = 1 << 20
GIB = 1 << 30
SECTION = 128 * MIB

ZONES = (("DMA", PAGE, 16 * MIB), ("DMA32", 16 * MIB, 4 * GIB), ("Normal", 4 * GIB, 1 << 52))
ALL_ZONES = ("DMA", "DMA32", "Normal", "Movable", "Device")


class Kind(Enum):
    """A type of the firmware's map: its name in old and new logs, in sysfs, and in /proc/iomem."""

    RAM = ("usable", "System RAM", "System RAM", "System RAM")
    RESERVED = ("reserved", "device reserved", "Reserved", "Reserved")
    TABLES = ("ACPI data", "ACPI data", "ACPI Tables", "ACPI Tables")
    NVS = ("ACPI NVS", "ACPI NVS", "ACPI Non-volatile Storage", "ACPI Non-volatile Storage")

    @property
    def old_log(self) -> str:
        return self.value[0]

    @property
    def new_log(self) -> str:
        return self.value[1]

    @property
    def sysfs(self) -> str:
        return self.value[2]

    @property
    def iomem(self) -> str:
        return self.value[3]


class Entry(NamedTuple):
    start: int
    end: int
    kind: Kind


class Span(NamedTuple):
    """Addresses of one node."""

    start: int
    end: int
    node: int


class Resource(NamedTuple):
    start: int
    end: int
    name: str


class Line(NamedTuple):
    """A line of the log: microseconds since boot, priority (facility x 8 + level), text.

    Lines of ``properties`` follow the record, as for a device.
    """

    time: int
    priority: int
    text: str
    properties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cpu:
    vendor: str
    family: int
    model: int
    stepping: int
    name: str
    mhz: int
    cache_kib: int
    flags: str
    bugs: str
    sizes: str


@dataclass(frozen=True, slots=True)
class Host:
    """All that is said about a host; every file follows from it.

    Args:
        version: what follows the release in the line ``Linux version``.
        e820: the firmware's memory map, in order.
        spans: which addresses belong to which node, as the SRAT tells.
        resources: rows of /proc/iomem besides those of the firmware's map.
        boot_reserved: low memory that early boot has reserved (ACPI tables, initrd); the node data is added.
        setup_data: boot data in RAM: /proc/iomem is split there, and not at pages.
        cpus: how many processors the files show.
        pamt: pages that the TDX module's PAMTs take from each node.
        devices, late: the kernel's lines about devices, while it boots and when user space has started.
        tdx: the kernel's lines about TDX, at the times they were printed.
        command_line_time: when the kernel prints its command line for the second time.
        start_time, end_time: when user space starts, and the last record, in microseconds.
        plain_memblock: debugfs rows without node and flags.
    """

    name: str
    release: str
    version: str
    command_line: str
    machine: str
    bios_version: str
    bios_date: str
    boot_time: int
    boot_id: str
    cpu: Cpu
    cpus: int
    e820: tuple[Entry, ...]
    spans: tuple[Span, ...]
    resources: tuple[Resource, ...]
    tdx: tuple[Line, ...]
    command_line_time: int
    start_time: int
    end_time: int
    power_disk: str
    boot_reserved: tuple[tuple[int, int], ...] = ()
    setup_data: tuple[tuple[int, int], ...] = ()
    pamt: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    new_e820_print: bool = False
    srat: bool = True
    kmsg: bool = True
    memblock: bool = True
    plain_memblock: bool = False
    privileged: bool = True
    block_size: int = 2 * GIB
    kvm_intel_tdx: str | None = None
    misc_capacity: str = ""

    @property
    def nodes(self) -> list[int]:
        return sorted({span.node for span in self.spans})

    def ram(self) -> list[tuple[int, int]]:
        """RAM as the kernel uses it, in whole pages: without page 0 and what PCs keep below 1 MiB.

        ``trim_bios_range()`` takes those out.
        """
        found = []
        for start, end, kind in self.e820:
            if kind is not Kind.RAM:
                continue
            for low, high in ((PAGE, 0xA0000), (MIB, 1 << 52)):
                first = -(-max(start, low) // PAGE) * PAGE
                last = min(end, high) // PAGE * PAGE
                if first < last:
                    found.append((first, last))
        return found

    def regions(self) -> list[Span]:
        """memblock.memory: the RAM, cut at node borders."""
        return sorted(
            Span(max(start, span.start), min(end, span.end), span.node)
            for start, end in self.ram()
            for span in self.spans
            if max(start, span.start) < min(end, span.end)
        )

    def of_node(self, node: int) -> list[Span]:
        return [region for region in self.regions() if region.node == node]

    def zones(self, node: int) -> list[Zone]:
        """The zones of a node; those without memory have no pages."""
        regions = self.of_node(node)
        found = []
        for name, low, high in ZONES:
            low, high = max(low, regions[0].start), min(high, regions[-1].end)  # noqa: PLW2901
            inside = [(max(r.start, low), min(r.end, high)) for r in regions]
            present = sum(end - start for start, end in inside if end > start)
            if present:
                reserved = sum(
                    min(end, high) - max(start, low)
                    for start, end in self.reserved_ram()
                    if min(end, high) > max(start, low)
                )
                managed = (present - reserved) // PAGE
                # The zone spans its limits, but for holes at the node's own ends.
                found.append(Zone(name, low // PAGE, (high - low) // PAGE, present // PAGE, managed))
            else:
                found.append(Zone(name, 0, 0, 0, 0))
        return found + [Zone(name, 0, 0, 0, 0) for name in ALL_ZONES[len(ZONES) :]]

    def node_data(self, node: int) -> tuple[int, int]:
        """Where the node's own data lies: at the very end of its memory."""
        end = self.of_node(node)[-1].end
        return end - 0x2B000, end

    def reserved(self) -> list[Span]:
        """memblock.reserved: the first MiB, what the host lists, and each node's memory map at its end."""
        found = [Span(0, MIB, self.spans[0].node)]
        found += [Span(start, end, self.node_of(start)) for start, end in self.boot_reserved]
        for node in self.nodes:
            present = sum(r.end - r.start for r in self.of_node(node))
            start, end = self.node_data(node)
            pages = -(-present // 64 // (2 * MIB)) * 2 * MIB
            found.append(Span(start // (2 * MIB) * 2 * MIB - pages, end, node))
        return sorted(found)

    def reserved_ram(self) -> list[tuple[int, int]]:
        """The reserved memory that is RAM."""
        return [
            (max(start, r.start), min(end, r.end))
            for start, end, _ in self.reserved()
            for r in self.regions()
            if max(start, r.start) < min(end, r.end)
        ]

    def node_of(self, address: int) -> int:
        return next(span.node for span in self.spans if span.start <= address < span.end)

    def split_for_setup_data(self) -> list[Entry]:
        """The firmware's map, cut at the boot data, as ``e820__reserve_setup_data()`` does it."""
        cuts = sorted({address for both in self.setup_data for address in both})
        pieces = []
        for start, end, kind in self.e820:
            at = start
            for cut in cuts:
                if at < cut < end:
                    pieces.append(Entry(at, cut, kind))
                    at = cut
            pieces.append(Entry(at, end, kind))
        return pieces

    def blocks(self, node: int) -> list[int]:
        """Numbers of the node's memory blocks."""
        numbers = {
            number
            for r in self.of_node(node)
            for number in range(r.start // self.block_size, -(-r.end // self.block_size))
        }
        return sorted(numbers)

    def cpus_of(self, node: int) -> list[int]:
        share = self.cpus // len(self.nodes)
        first = self.nodes.index(node) * share
        return list(range(first, first + share))


class Zone(NamedTuple):
    """A zone in pages; ``managed`` is what the page allocator got."""

    name: str
    start: int
    spanned: int
    present: int
    managed: int


_ROW = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (.+)")


def resources(text: str) -> tuple[Resource, ...]:
    """Rows ``start-last name``."""
    rows = (_ROW.fullmatch(line.strip()) for line in text.strip().splitlines())
    return tuple(Resource(int(m[1], 16), int(m[2], 16) + 1, m[3]) for m in rows if m)


def e820(text: str) -> tuple[Entry, ...]:
    """Rows ``start-last type``, the type as an old log has it."""
    kinds = {kind.old_log: kind for kind in Kind}
    return tuple(Entry(r.start, r.end, kinds[r.name]) for r in resources(text))


def spans(text: str) -> tuple[Span, ...]:
    """Rows ``start-last node``."""
    return tuple(Span(r.start, r.end, int(r.name)) for r in resources(text))
