# SPDX-License-Identifier: Apache-2.0
"""The memory map that a kernel makes of the firmware's map under a command line.

After ``setup_arch()`` of arch/x86/kernel/setup.c: the firmware's map is sanitised; early parameters change it
in their order; with ``mem=`` or ``memmap=`` it is sanitised again; ``trim_bios_range()`` takes the first page
and 640 KiB to 1 MiB; ``e820__memblock_setup()`` adds what is RAM and trims partial pages;
``numa_register_meminfo()`` splits it at the borders of nodes.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import (
    ADDRESS_SPACE,
    KIB,
    MIB,
    PAGE,
    intersect,
    page_round,
    subtract,
    total,
)
from tdx_headroom.boots.map_risks import MapRisk, argument_risks, keeps_soft_reserved
from tdx_headroom.facts.command_line import Action, edited, map_edits, name_and_value
from tdx_headroom.facts.e820 import KINDS, SOFT_RESERVED, entries_of, ram_of, type_of
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.node_map import NodeMap
from tdx_headroom.facts.observations import FirmwareRange, NodeRange
from tdx_headroom.kept import KEPT, may_be_kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.facts.command_line import MapEdit

NO_RAM = ((0, PAGE), (640 * KIB, MIB))
"""What never is RAM (``trim_bios_range()``)."""

KERNEL_LOW, KERNEL_HIGH = MIB, 128 * MIB
"""Where the kernel's image lies while ``mem=`` or ``memmap=`` is given: with those the EFI stub, by which
a TDX host's kernel is started since 6.6, puts it nowhere at random (``cmdline_memmap_override``), but at the
first free place from 16 MiB on."""

UNCOVERED = MIB
"""So much memory may have no node before SRAT is thrown away (``numa_register_nodes()``)."""

RAM_KIND = "System RAM"

_ALL_NODE_0 = (NodeRange(0, ADDRESS_SPACE, 0),)


class Simulated(NamedTuple):
    """What a kernel makes of the firmware's map.

    Args:
        regions: memblock's memory regions; the node is None where it is unknown.
        risks: what could not be computed.
        exact: whether the regions are memblock's own to the byte.
    """

    regions: tuple[MemoryRegion, ...]
    risks: tuple[MapRisk, ...]
    exact: bool


def simulate(
    firmware: Sequence[FirmwareRange],
    arguments: Sequence[str],
    nodes: Sequence[NodeRange] | None,
    *,
    srat: bool = False,
    running: Sequence[str] = (),
) -> Simulated:
    """The memory regions of the next boot. The last results are kept.

    Args:
        firmware: the firmware's map, as it was at boot (see :func:`boot_time_map`).
        arguments: of the command line of the next boot, in order.
        nodes: which memory belongs to which node by SRAT, or by the running boot's memory (see
            :func:`nodes_of_boot`); None: unknown.
        srat: whether they are SRAT's: memory that those leave out then has no node, not an unknown one.
        running: the arguments under which the firmware's map was seen.
    """
    given = tuple(firmware), tuple(arguments), None if nodes is None else tuple(nodes)
    past = tuple(running)
    texts = (*(row.kind for row in firmware), *arguments, *past)
    work = _kept if may_be_kept((*given, past), texts) else _simulate
    return work(*given, srat=srat, running=past)


def _simulate(
    firmware: tuple[FirmwareRange, ...],
    arguments: tuple[str, ...],
    nodes: tuple[NodeRange, ...] | None,
    *,
    srat: bool,
    running: tuple[str, ...],
) -> Simulated:
    edits = map_edits(arguments)
    table = edited(entries_of(firmware), edits)
    ram = page_round(subtract(ram_of(table), NO_RAM))
    risks = argument_risks(arguments)
    risks += _efi_risks(firmware, arguments, edits, running)
    if _panics(firmware, arguments):
        risks.append(MapRisk.NO_BOOT)
    if _unknown_type(firmware, edits):
        risks.append(MapRisk.UNKNOWN_TYPE)
    lost = subtract(ram_of(entries_of(firmware)), ram_of(table))
    if edits and intersect(lost, [(KERNEL_LOW, KERNEL_HIGH)]):
        risks.append(MapRisk.KERNEL_IMAGE)
    regions = _regions(ram, arguments, nodes, srat=srat)
    if any(region.node is None for region in regions) and MapRisk.NUMA_FAKE not in risks:
        risks.append(MapRisk.NODES)
    unique = tuple(dict.fromkeys(risks))
    return Simulated(tuple(regions), unique, not any(risk.of_regions for risk in unique))


_kept = lru_cache(KEPT)(_simulate)


def _regions(
    ram: Sequence[Range], arguments: Iterable[str], nodes: Sequence[NodeRange] | None, *, srat: bool
) -> list[MemoryRegion]:
    """RAM, split at the borders of nodes."""
    numa = _Numa.of(arguments)
    if numa.fake:
        nodes = None
    elif numa.off:
        nodes = _ALL_NODE_0
    elif nodes is not None:
        nodes = _joined(nodes, ram)
        if srat and _is_refused(nodes, ram):
            nodes = _ALL_NODE_0
    if nodes is None:
        return [MemoryRegion(r.start, r.end, None) for r in ram]
    return NodeMap("", nodes).split(ram)


class _Numa(NamedTuple):
    """What the command line says about nodes: whether SRAT is not looked at, and whether some are faked."""

    off: bool
    fake: bool

    @classmethod
    def of(cls, arguments: Iterable[str]) -> _Numa:
        """By ``numa_setup()`` of arch/x86/mm/numa.c and ``parse_acpi()``."""
        off = fake = no_acpi = False
        for name, value in map(name_and_value, arguments):
            if name == "numa" and value is not None:
                off |= value.startswith(("off", "noacpi"))
                fake |= value.startswith("fake=")
            elif name == "acpi" and value in ("off", "force"):
                no_acpi = value == "off"
        return cls(off or no_acpi, fake)


def _joined(nodes: Iterable[NodeRange], ram: Sequence[Range]) -> list[NodeRange]:
    """The nodes' ranges with the gaps inside a node (``numa_cleanup_meminfo()``).

    Ranges without memory go first; what lies between two of one node, and nothing of another, is that node's.
    """
    starts = [r.start for r in ram]
    joined: list[NodeRange] = []
    for found in sorted(nodes):
        before = bisect_left(starts, found.end) - 1
        if before < 0 or ram[before].end <= found.start:
            continue
        if joined and joined[-1].node == found.node:
            end = max(joined[-1].end, found.end)
            joined[-1] = joined[-1]._replace(end=end)
        else:
            joined.append(found)
    return joined


def _is_refused(nodes: Sequence[NodeRange], ram: Sequence[Range]) -> bool:
    """Whether the kernel throws SRAT away: nodes overlap, or too much memory has none."""
    overlap = any(after.start < before.end for before, after in pairwise(nodes))
    return overlap or total(subtract(ram, ((n.start, n.end) for n in nodes))) > UNCOVERED


def nodes_of_boot(
    regions: Sequence[MemoryRegion], arguments: Sequence[str], *, srat: Sequence[NodeRange] | None = None
) -> tuple[NodeRange, ...] | None:
    """The nodes as a boot shows them, for another boot; None where that boot hides them.

    Args:
        regions: the boot's memory at its start.
        arguments: its command line's. With ``numa=off`` and the like its nodes are not the machine's.
        srat: SRAT's ranges, where the log has them; they come before all others. With ``numa=off`` the log
            has only the one node that the kernel makes up.
    """
    numa = _Numa.of(arguments)
    if srat and not numa.off:
        return tuple(srat)
    known = tuple(NodeRange(r.start, r.end, r.node) for r in regions if r.node is not None)
    if numa.off or numa.fake or not known or len(known) < len(regions):
        return None
    if len({r.node for r in known}) == 1 and not map_edits(arguments):
        return (NodeRange(0, ADDRESS_SPACE, known[0].node),)  # all of the machine's memory is there
    return known


def boot_time_map(
    firmware: Sequence[FirmwareRange],
    log: Sequence[FirmwareRange] | None = None,
    at_boot: Iterable[tuple[int, int]] | None = None,
) -> tuple[tuple[FirmwareRange, ...], bool]:
    """The firmware's map without what hot-add has put there since, and whether that is certain.

    ``firmware_map_add_hotplug()`` adds memory that ACPI brings as ``System RAM`` of its own, and never joins
    it to what it touches; memory of drivers, such as kmem and virtio_mem, does not get there at all
    (``add_memory_resource()``). Numbers are given in the order in which entries get into sysfs: what ACPI
    finds while the kernel starts comes first, the boot's own entries come at ``late_initcall`` and by
    address, what is added later comes last. The boot's own begin with the lowest address, and no two of RAM
    touch.

    Args:
        firmware: the entries in the order of their numbers.
        log: the ``BIOS-e820`` list of this boot, where the log has it: then nothing is left to tell.
        at_boot: RAM at boot, by the log's node ranges, where the command line took none away: it decides on
            entries that the order leaves open.
    """
    if log or not firmware:
        return tuple(log or ()), bool(log)
    own = list(firmware[firmware.index(min(firmware)) :])
    end = next((i for i in range(1, len(own)) if _is_added(own[i], own[:i])), len(own))
    if any(entry.kind != RAM_KIND for entry in own[end:]):
        # Not the order of the kernel's numbers: RAM that touches may be any.
        return tuple(own), False
    first = end
    while first > 1 and own[first - 1].kind == RAM_KIND:
        first -= 1
    if first == end:
        return tuple(own[:end]), True
    if at_boot is None:
        return tuple(own[:end]), False
    there = list(at_boot)
    while first < end and intersect(there, [own[first][:2]]):
        first += 1
    return tuple(own[:first]), True


def _is_added(entry: FirmwareRange, before: Sequence[FirmwareRange]) -> bool:
    """Whether an entry cannot be the boot's: out of order, or RAM that touches RAM before it."""
    last = before[-1]
    if entry.start < last.end:
        return True
    return entry.kind == last.kind == RAM_KIND and entry.start == last.end


def confirms(now: Simulated, at_boot: Iterable[tuple[int, int, object]]) -> bool:
    """Whether the running boot has the memory that its own command line makes.

    Where it has not, this machine does what is not computed here: MTRRs that leave RAM out, an import of the
    EFI map, a boot loader that changes the map. Then no other command line can be trusted either.

    Args:
        now: the simulation of the running boot.
        at_boot: its memory at boot, in whole pages; what was added since then is not to be in it.
    """
    pages = (page_round((start, end) for start, end, _ in regions) for regions in (now.regions, at_boot))
    mine, real = (subtract(found, [(0, MIB)]) for found in pages)
    return mine == real


def _panics(firmware: Sequence[FirmwareRange], arguments: Iterable[str]) -> bool:
    """Whether the kernel stops over the map: fewer than two entries, one past 64 bits, a type made itself.

    By ``e820__update_table()`` and ``e820__finish_early_params()``, and ``e820__range_update()``'s BUG_ON().
    """
    edits = map_edits(arguments)
    if not edits:
        return False
    if any(e.action is Action.CONVERT and e.old == e.new for e in edits):
        return True
    emptied = max((i for i, e in enumerate(edits) if e.action is Action.EMPTY), default=-1)
    added = [e for e in edits[emptied + 1 :] if e.action is Action.ADD]
    if any(e.start + e.size >= ADDRESS_SPACE for e in added if e.size):
        return True
    return len(edited(entries_of(firmware), edits)) < 2


def _efi_risks(
    firmware: Sequence[FirmwareRange],
    arguments: Sequence[str],
    edits: Sequence[MapEdit],
    running: Sequence[str],
) -> list[MapRisk]:
    """Whether the EFI map is imported, or the firmware's map will be another one."""
    soft = any(type_of(r.kind) == SOFT_RESERVED for r in firmware)
    now, then = keeps_soft_reserved(running), keeps_soft_reserved(arguments)
    found = []
    if (now and not then and soft) or (then and not now):
        found.append(MapRisk.SOFT_RESERVE)
    if MapRisk.EFI_FAKE_MEM in argument_risks(running):
        found.append(MapRisk.EFI_FAKE_MEM)
    if soft and then and edits:
        found.append(MapRisk.EFI_IMPORT)
    return found


def _unknown_type(firmware: Iterable[FirmwareRange], edits: Iterable[MapEdit]) -> bool:
    """Whether memory of a type is changed whose number the firmware's map may hide."""
    changed = [e for e in edits if e.old is not None and e.old not in KINDS.values()]
    nameless = [(r.start, r.end) for r in firmware if type_of(r.kind) is None]
    return any(intersect(nameless, [e.range]) for e in changed)
