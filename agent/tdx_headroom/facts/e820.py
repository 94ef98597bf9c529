# SPDX-License-Identifier: Apache-2.0
"""The kernel's E820 table: its types, and what it takes for RAM (arch/x86/kernel/e820.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import Range, subtract

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.facts.observations import FirmwareRange

RAM, RESERVED, ACPI, LEGACY_PMEM, SOFT_RESERVED = 1, 2, 3, 12, 0xEFFFFFFF
"""Types of memory, as the E820 table numbers them."""

KINDS = {
    "System RAM": RAM,
    "Reserved": RESERVED,
    "ACPI Tables": ACPI,
    "ACPI Non-volatile Storage": 4,
    "Unusable memory": 5,
    "Persistent Memory": 7,
    "Persistent Memory (legacy)": LEGACY_PMEM,
    "Soft Reserved": SOFT_RESERVED,
}
"""Their names in ``/sys/firmware/memmap`` (``e820_type_to_string()``)."""

_NUMBERED = re.compile(r"type ([0-9]{1,10})", re.ASCII)


class Entry(NamedTuple):
    """One entry of the table: addresses ``[start, end)`` in bytes and their type; 0: an emptied one."""

    start: int
    end: int
    kind: int


EMPTY = Entry(0, 0, 0)
"""What the kernel leaves of an entry that was removed whole: it still counts as one."""


def type_of(kind: str) -> int | None:
    """The number of a type by its name; None for a type that the kernel has no name for."""
    if (number := KINDS.get(kind)) is not None:
        return number
    match = _NUMBERED.fullmatch(kind)  # in the log it has its number
    return int(match[1]) if match else None


def entries_of(firmware: Iterable[FirmwareRange]) -> list[Entry]:
    """A firmware map as the table has it; types without a name are reserved here: no RAM either."""
    return [Entry(r.start, r.end, RESERVED if (t := type_of(r.kind)) is None else t) for r in firmware]


def ram_of(table: Iterable[Entry]) -> list[Range]:
    """What the kernel takes for RAM: where entries overlap, the larger type wins."""
    entries = list(table)
    other = ((e.start, e.end) for e in entries if e.kind not in (0, RAM))
    return subtract(((e.start, e.end) for e in entries if e.kind == RAM), other)
