# SPDX-License-Identifier: Apache-2.0
"""Memory in use that is most likely in no CMR, by what it is: drivers', hot-added, the firmware's own kinds.

``build_tdx_memlist()`` takes whatever memblock has, and ``add_memory_resource()`` puts there what is added,
in use or not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tdx_headroom.address import intersect, subtract
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.observations import Origin, Suspect
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.registry import CPU_NODES, FIRMWARE, IOMEM, MEMBLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.host.readings import Readings
    from tdx_headroom.sources.iomem import IomemRow

_DRIVER = re.compile(r"System RAM \((.*)\)")
_DAX = re.compile(r"dax[0-9]{1,4}\.[0-9]{1,4}")
_CXL = re.compile(r"CXL Window [0-9]{1,4}")
_FEWER_CPUS = ("numa=fake", "nr_cpus=", "maxcpus=", "possible_cpus=", "nosmp")
_MOST = 4
_BY_NAME = {origin.value: origin for origin in (Origin.KMEM, Origin.VIRTIO_MEM)}
_OF_FIRMWARE = {
    "Soft Reserved": Origin.SOFT_RESERVED,
    "Persistent Memory": Origin.PERSISTENT,
    "Persistent Memory (legacy)": Origin.PERSISTENT,
}
_Found = tuple[Origin, list[str], "Iterable[tuple[int, int]]"]
"""All ranges of one origin, and the devices that they belong to."""


def find_suspects(readings: Readings, command_line: Sequence[str]) -> tuple[Suspect, ...]:
    """The suspects in the memory map that is chosen, each address once, by the surest sign of it.

    Args:
        readings: of the host.
        command_line: the kernel's arguments about memory.
    """
    if readings.chosen is None:
        return ()
    left = readings.chosen.pages
    listed = (MemorySource.LOG_NODE_RANGES, MemorySource.LOG_E820)
    boot = next((readings.maps[source] for source in listed if source in readings.maps), None)
    added = None if boot is None else subtract(left, boot.pages)
    edited = bool(map_edits(command_line))
    suspects: list[Suspect] = []
    for origin, devices, ranges in _signs(readings, added or (), command_line):
        found = intersect(left, ranges)
        left = subtract(left, found)
        late = intersect(found, added or ())
        if added is None and _comes_late(origin, edited=edited):
            late = found
        named = ", ".join(devices[:_MOST]) + (", …" if len(devices) > _MOST else "")
        for which, pieces in ((True, late), (False, subtract(found, late))):
            suspects += [Suspect(*piece, origin, named or None, late=which) for piece in pieces]
    return tuple(sorted(suspects))


def _comes_late(origin: Origin, *, edited: bool) -> bool:
    """Whether such memory is never there at boot; ``memmap=`` can make RAM of the firmware's kinds."""
    if origin in (Origin.SOFT_RESERVED, Origin.PERSISTENT):
        return not edited
    return origin in (Origin.KMEM, Origin.VIRTIO_MEM, Origin.DRIVER)


def _signs(readings: Readings, added: Sequence[Range], command_line: Sequence[str]) -> Iterator[_Found]:
    """What is known by name, the surest first."""
    boot = readings.boot
    kinds: defaultdict[Origin, list[tuple[int, int]]] = defaultdict(list)
    devices: defaultdict[Origin, dict[str, None]] = defaultdict(dict)
    rows = readings.of(IOMEM)
    for origin, device, extent in _of_drivers(rows or ()):
        kinds[origin].append(extent)
        if device:
            devices[origin][device] = None
    managed = (r for r in readings.of(MEMBLOCK) or () if "DRV_MNG" in r.flags)
    kinds[Origin.DRIVER] += ((r.start, r.end) for r in managed)
    for entry in readings.of(FIRMWARE) or boot.firmware.value or ():
        if entry.kind in _OF_FIRMWARE:
            kinds[_OF_FIRMWARE[entry.kind]].append((entry.start, entry.end))
    kinds[Origin.HOTPLUG] += boot.hotplug
    kinds[Origin.ADDED] += added
    nodes = readings.of(CPU_NODES) or boot.cpu_nodes
    # A processor belongs to the first of the nodes that numa=fake makes of one; fewer CPUs, fewer nodes.
    limited = any(argument.startswith(_FEWER_CPUS) for argument in command_line)
    if readings.chosen is not None and nodes and not limited:
        for region in readings.chosen.regions:
            if region.node is not None and region.node not in nodes:
                kinds[Origin.NO_CPU].append((region.start, region.end))
                devices[Origin.NO_CPU][str(region.node)] = None
    for origin in Origin:
        if kinds[origin]:
            yield origin, list(devices[origin]), kinds[origin]


def _of_drivers(rows: Iterable[IomemRow]) -> Iterator[tuple[Origin, str | None, tuple[int, int]]]:
    """RAM of ``/proc/iomem`` that a driver has added: by its name, or as it lies inside another resource.

    The kernel's own RAM lies in none; before 5.10 kmem called its the same.
    """
    above: list[IomemRow] = []
    for row in rows:
        while above and above[-1].depth >= row.depth:
            above.pop()
        match = _DRIVER.fullmatch(row.name)
        if match or (row.depth and row.is_ram):
            driver = match[1] if match else None
            device = next((a.name for a in reversed(above) if _DAX.fullmatch(a.name)), None)
            window = next((f" in {a.name}" for a in above if _CXL.fullmatch(a.name)), "")
            inside = next((_OF_FIRMWARE[a.name] for a in above if a.name in _OF_FIRMWARE), Origin.DRIVER)
            origin = Origin.KMEM if device and not driver else _BY_NAME.get(driver or "", inside)
            name = driver if origin is Origin.DRIVER else device
            yield origin, f"{name}{window}" if name else None, (row.start, row.end)
        above.append(row)
