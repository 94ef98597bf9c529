# SPDX-License-Identifier: Apache-2.0
"""A list of ranges that the kernel prints at boot, a row a record; it counts only when it is whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import PAGE
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import FirmwareRange, NodeRange
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.firmware_memmap import RAM

if TYPE_CHECKING:
    from tdx_headroom.sources.kernel_log.records import KernelLog

NODE_RANGES = MemorySource.LOG_NODE_RANGES
SRAT = "log-srat"

# How e820_print_type() names what e820_type_to_string() calls otherwise.
_KINDS = {
    "usable": RAM,
    "reserved": "Reserved",
    "device reserved": "Reserved",
    "ACPI data": "ACPI Tables",
    "ACPI NVS": "ACPI Non-volatile Storage",
    "unusable": "Unusable memory",
    "soft reserved": "Soft Reserved",
    "persistent": "Persistent Memory",
}


@dataclass(slots=True)
class PrintedList:
    """Its rows, and the records that they were seen in."""

    rows: list[tuple[int, int, str]] = field(default_factory=list)
    head: bool = False
    first: int = -1
    last: int = -1
    closed: bool = False

    def add(self, index: int, row: tuple[str | Any, ...]) -> None:
        """Take one row in: first address, last address, and what it is."""
        if self.first < 0:
            self.first = index
        self.last = index
        start, last, what = row
        self.rows.append((int(start, 16), int(last, 16) + 1, what))

    def skip(self, index: int) -> None:
        """Pass over a row that says that there is nothing."""
        if self.first >= 0 and not self.closed:
            self.last = index

    def whole(self, source: str, log: KernelLog) -> list[tuple[int, int, str]]:
        """The rows, where the list has its head and a later record follows it.

        Raises:
            SourceError: it is not there, not whole, or has a row that is none.
        """
        # A list that begins at the first page needs no headline to be whole.
        if self.rows and not self.head and self.rows[0][0] > PAGE:
            raise SourceError(source, "the head of the list is missing in the log")
        self.check_end(source, log)
        for start, stop, _ in self.rows:
            if stop <= start:
                raise SourceError(source, "range ends before it starts", text=f"0x{start:x}-0x{stop - 1:x}")
        return self.rows

    def check_end(self, source: str, log: KernelLog) -> None:
        """Make sure that none of its rows is lost behind the first.

        Raises:
            SourceError: one may be, or there is none at all.
        """
        if not self.rows:
            raise SourceError(source, "not in the log", absent=True)
        if self.last >= log.whole - 1:
            raise SourceError(source, "the log ends in the list: it may be cut")
        if log.is_torn(self.first + self.head, self.last + 1):
            raise SourceError(source, "records of the log are lost in the list")


def node_ranges(found: PrintedList, log: KernelLog) -> list[NodeRange]:
    """``Early memory node ranges``, in order of their addresses.

    Raises:
        SourceError: as of :meth:`PrintedList.whole`, or ranges overlap.
    """
    ranges = sorted(NodeRange(start, end, int(node)) for start, end, node in found.whole(NODE_RANGES, log))
    for before, after in pairwise(ranges):
        if after.start < before.end:
            raise SourceError(NODE_RANGES, "ranges overlap", text=f"0x{after.start:x}-0x{after.end - 1:x}")
    return ranges


def srat_ranges(found: PrintedList, log: KernelLog) -> list[NodeRange]:
    """Rows of SRAT, which has no head.

    Raises:
        SourceError: as of :meth:`PrintedList.check_end`.
    """
    found.check_end(SRAT, log)
    return [NodeRange(start, stop, int(node)) for start, stop, node in found.rows]


def firmware_ranges(source: str, found: PrintedList, log: KernelLog) -> list[FirmwareRange]:
    """A list of E820, in order of its addresses.

    Raises:
        SourceError: as of :meth:`PrintedList.whole`.
    """
    return sorted(FirmwareRange(start, end, _kind(name)) for start, end, name in found.whole(source, log))


def _kind(name: str) -> str:
    """The type as sysfs names it: `persistent (type 12)` is `Persistent Memory` there."""
    return _KINDS.get(name.split(" (type", 1)[0], name)
