# SPDX-License-Identifier: Apache-2.0
"""The memory map that the boot messages show: E820, ``Early memory node ranges``, SRAT, kernel, command line.

A list counts only when it is whole: it has its head, and a later record follows it. A log may be cut at its
end, and the ring buffer forgets its front. All of this is printed before any process runs, so what comes
later is not believed: a record may begin with the name of a program, and in text a line may be a forgery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import Range
from tdx_headroom.facts.cpu_models import cpu_can_tdx
from tdx_headroom.facts.kernel_report import Contradiction, ContradictionKind, NoTdx
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.known_lines import in_short
from tdx_headroom.sources.kernel_log.printed_list import (
    NODE_RANGES,
    SRAT,
    PrintedList,
    firmware_ranges,
    node_ranges,
    srat_ranges,
)
from tdx_headroom.sources.reading import Reading, attempt

if TYPE_CHECKING:
    from tdx_headroom.facts.observations import FirmwareRange, NodeRange
    from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord

E820 = MemorySource.LOG_E820
ZONES = "log-zones"


@dataclass(frozen=True, slots=True)
class BootMap:
    """What the boot messages say about memory; each list is a reading of its own.

    Args:
        node_ranges: memblock at boot, with nodes (``free_area_init()``).
        e820: the effective map: the ``user:`` list where the command line changed the firmware's.
        firmware: the firmware's own list.
        zones: name, start and end of each zone, over all nodes.
        movable: start of the movable zone by node.
        crash_kernel: memory kept for a crash kernel.
        hugetlb: bytes in huge pages that boot has allocated.
        srat: which addresses belong to which node, possible hot-plugged memory included.
        hotplug: where SRAT says that memory may be hot-plugged.
        cpu_nodes: nodes that have processors; empty where that is unknown.
        from_boot: whether the log has the first line that a kernel prints.
        no_tdx: why TDX is not available, and the line that says so.
        contradictions: lines of an unverified log that do not go with the first list of their kind.
        kernel_release: as printed, or from the name of the boot image; None when not seen.
        command_line: as printed; None when not seen.
    """

    node_ranges: Reading[list[NodeRange]]
    e820: Reading[list[FirmwareRange]]
    firmware: Reading[list[FirmwareRange]]
    srat: Reading[list[NodeRange]]
    zones: Reading[list[tuple[str, int, int]]]
    movable: tuple[tuple[int, int], ...]
    crash_kernel: tuple[Range, ...]
    hugetlb: int
    kernel_release: str | None
    command_line: str | None
    hotplug: tuple[Range, ...] = ()
    cpu_nodes: frozenset[int] = frozenset()
    from_boot: bool = False
    no_tdx: tuple[NoTdx, str] | None = None
    contradictions: tuple[Contradiction, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What the records have shown so far.

    In a log that anybody may have written to, the first list of a kind counts: no process writes before it.
    """

    first_counts: bool

    nodes: PrintedList = field(default_factory=PrintedList)
    bios: PrintedList = field(default_factory=PrintedList)
    user: PrintedList = field(default_factory=PrintedList)
    srat: PrintedList = field(default_factory=PrintedList)
    zones: PrintedList = field(default_factory=PrintedList)
    movable: dict[int, int] = field(default_factory=dict)
    crash_kernel: list[Range] = field(default_factory=list)
    hugetlb: int = 0
    hotplug: list[Range] = field(default_factory=list)
    cpu_nodes: set[int] = field(default_factory=set)
    from_boot: bool = False
    release: str | None = None
    image: str | None = None
    no_tdx: tuple[NoTdx, str] | None = None
    command_lines: dict[str, str] = field(default_factory=dict)
    printed: set[str] = field(default_factory=set)
    doubtful: list[str] = field(default_factory=list)

    def begin(self, earlier: PrintedList, index: int) -> PrintedList:
        """The list that a head begins: a new one, or again the first that is to count."""
        if self.first_counts and earlier.rows:
            earlier.closed = True
            return earlier
        return PrintedList(head=True, first=index, last=index)

    def add(self, found: PrintedList, index: int, text: str, row: tuple[str | Any, ...]) -> None:
        """Take a row in, unless it cannot be one of the list that counts: rows come in order."""
        torn = bool(found.rows) and index != found.last + 1
        if self.first_counts and (found.closed or (torn and int(row[0], 16) < found.rows[-1][1])):
            self.doubtful.append(text)
            return
        self.printed.add(text)
        found.add(index, row)


def read_boot_map(log: KernelLog, origin: str) -> BootMap:
    """Everything that the log of one boot tells about its memory map."""
    seen = _Seen(first_counts=not log.verified)
    end = _end_of_boot(log)
    for index, record in enumerate(log.records[: log.whole]):
        text = record.text.strip()
        late = end.is_before(index, record)
        if not boot_lines.begins_like_one(text):
            _read_other(seen, text, late=late)
            continue
        seen.from_boot = seen.from_boot or (not late and text.startswith("Linux version "))
        if late and boot_lines.is_early(text):
            seen.doubtful.append(text)
        elif not (_read_list(seen, text, index) or _read_zone(seen, text, index)):
            _read_fact(seen, text)
    effective = seen.user if seen.user.rows or seen.user.head else seen.bios
    return BootMap(
        node_ranges=attempt(NODE_RANGES, origin, lambda: node_ranges(seen.nodes, log)),
        e820=attempt(E820, origin, lambda: firmware_ranges(E820, effective, log)),
        firmware=attempt("log-firmware", origin, lambda: firmware_ranges("log-firmware", seen.bios, log)),
        srat=attempt(SRAT, origin, lambda: srat_ranges(seen.srat, log)),
        zones=attempt(
            ZONES,
            origin,
            lambda: [(name, start, stop) for start, stop, name in seen.zones.whole(ZONES, log)],
        ),
        movable=tuple(seen.movable.items()),
        crash_kernel=tuple(seen.crash_kernel),
        hugetlb=seen.hugetlb,
        kernel_release=seen.release or seen.image,
        # The later of the two that kernels print has what they have added themselves.
        command_line=seen.command_lines.get("Kernel command", seen.command_lines.get("Command")),
        hotplug=tuple(seen.hotplug),
        cpu_nodes=_cpu_nodes(seen, end, log),
        from_boot=seen.from_boot,
        no_tdx=seen.no_tdx,
        contradictions=tuple(
            Contradiction(_kind_of(text), in_short(text))
            for text in dict.fromkeys(seen.doubtful)
            if seen.first_counts and text not in seen.printed
        ),
    )


@dataclass(frozen=True, slots=True)
class _EndOfBoot:
    """When processes may have run: by the clock, or by the order of records that have none."""

    time: int = boot_lines.LONGEST_BOOT
    index: int | None = None

    def is_before(self, index: int, record: LogRecord) -> bool:
        """Whether a record came after it.

        People paste excerpts in any order, so a later line with an earlier time did not.
        """
        if record.time is not None and record.time > boot_lines.LONGEST_BOOT:
            return True
        return (
            self.index is not None and index > self.index and (record.time is None or record.time > self.time)
        )


def _end_of_boot(log: KernelLog) -> _EndOfBoot:
    """The first sign that all processors run."""
    for index, record in enumerate(log.records):
        if boot_lines.RUNNING.fullmatch(record.text.strip()):
            return _EndOfBoot(record.time or 0, index)
    return _EndOfBoot()


def _cpu_nodes(seen: _Seen, end: _EndOfBoot, log: KernelLog) -> frozenset[int]:
    """Nodes with processors, of a log that shows the start of all of them; node 0 has the boot processor."""
    whole = seen.cpu_nodes and end.index is not None and not log.lost
    return frozenset({0, *seen.cpu_nodes}) if whole else frozenset()


def _kind_of(text: str) -> ContradictionKind:
    begins = boot_lines.VERSION.fullmatch(text) or boot_lines.COMMAND_LINE.fullmatch(text)
    return ContradictionKind.SECOND_BOOT if begins else ContradictionKind.MEMORY_MAP


def _read_list(seen: _Seen, text: str, index: int) -> bool:
    """Rows of memory maps; whether this was one."""
    if boot_lines.NODE_HEAD.fullmatch(text):
        seen.nodes = seen.begin(seen.nodes, index)
    elif match := boot_lines.NODE_RANGE.fullmatch(text):
        seen.add(seen.nodes, index, text, (match[2], match[3], match[1]))
    elif match := boot_lines.E820_HEAD.fullmatch(text):
        if match[1] == "BIOS-provided":
            seen.bios = seen.begin(seen.bios, index)
        else:
            seen.user = seen.begin(seen.user, index)
    elif match := boot_lines.E820_ROW.fullmatch(text):
        seen.add(seen.bios if match[1] == "BIOS-e820" else seen.user, index, text, match.group(2, 3, 4))
    elif match := boot_lines.E820_GAP.fullmatch(text):
        (seen.bios if match[1] == "BIOS-e820" else seen.user).skip(index)
    elif match := boot_lines.SRAT.fullmatch(text):
        seen.srat.add(index, match.group(2, 3, 1))
        if "hotplug" in match[4].split():
            seen.hotplug.append(Range(int(match[2], 16), int(match[3], 16) + 1))
    elif match := boot_lines.FAKE_NODE.fullmatch(text):
        seen.srat.add(index, (match[1], match[2], "0"))
    else:
        return False
    return True


def _read_zone(seen: _Seen, text: str, index: int) -> bool:
    """Zones, and where each node's movable one begins; whether this was one."""
    if boot_lines.ZONE_HEAD.fullmatch(text):
        seen.zones = seen.begin(seen.zones, index)
    elif match := boot_lines.ZONE.fullmatch(text):
        seen.add(seen.zones, index, text, match.group(2, 3, 1))
    elif boot_lines.ZONE_EMPTY.fullmatch(text):
        seen.zones.skip(index)
    elif boot_lines.MOVABLE_HEAD.fullmatch(text):
        if not seen.first_counts:
            seen.movable.clear()
    elif match := boot_lines.MOVABLE.fullmatch(text):
        seen.movable.setdefault(int(match[1]), int(match[2], 16))
    else:
        return False
    return True


def _read_other(seen: _Seen, text: str, *, late: bool) -> None:
    """What tells something, and begins as anything may."""
    if not late and boot_lines.AMD.fullmatch(text):
        seen.no_tdx = seen.no_tdx or (NoTdx.CPU, text)
    elif image := boot_lines.BOOT_IMAGE.fullmatch(text):
        seen.image = seen.image or image[1]


def _read_fact(seen: _Seen, text: str) -> None:
    if match := boot_lines.VERSION.fullmatch(text):
        seen.release = seen.release or match[1]
    elif match := boot_lines.COMMAND_LINE.fullmatch(text):
        seen.command_lines.setdefault(match[1], match[2])
        if image := boot_lines.BOOT_IMAGE.search(match[2]):
            seen.image = seen.image or image[1]
    elif match := boot_lines.CPU.fullmatch(text):
        if cpu_can_tdx(match[1], int(match[2], 16), int(match[3], 16)) is False:
            seen.no_tdx = (NoTdx.CPU, text.removeprefix("smpboot: "))
    elif boot_lines.TME_OFF.fullmatch(text):
        seen.no_tdx = seen.no_tdx or (NoTdx.TME, text)
    elif match := boot_lines.NODE_CPUS.fullmatch(text):
        seen.cpu_nodes.add(int(match[1]))
    elif match := boot_lines.CRASH_KERNEL.fullmatch(text):
        seen.crash_kernel.append(Range(int(match[1], 16), int(match[2], 16)))
    elif match := boot_lines.HUGETLB.fullmatch(text):
        seen.hugetlb += (int(match[1]) << {"M": 20, "G": 30}[match[2]]) * int(match[3])
