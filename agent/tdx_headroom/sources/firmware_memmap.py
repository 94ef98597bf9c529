# SPDX-License-Identifier: Apache-2.0
"""``/sys/firmware/memmap``: the firmware's own memory map (drivers/firmware/memmap.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.address import Range, subtract
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.reading import Reading, attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = MemorySource.FIRMWARE_MEMMAP
PATH = "sys/firmware/memmap"

_ADDRESS = re.compile(r"0x([0-9a-f]{1,16})")
RAM = "System RAM"


def parse_firmware_entry(name: str, start: str, end: str, kind: str) -> FirmwareRange:
    """One entry from the texts of its three files; ``end`` is inclusive there.

    Raises:
        SourceError: a file does not hold an address, or the range is empty.
    """
    addresses = []
    for which, text in (("start", start), ("end", end)):
        match = _ADDRESS.fullmatch(text.strip())
        if match is None:
            raise SourceError(SOURCE, f"{name}/{which} holds no address", text=text)
        addresses.append(int(match[1], 16))
    first, last = addresses
    if last < first:
        raise SourceError(SOURCE, f"{name} ends before it starts", text=f"{start.strip()} {end.strip()}")
    return FirmwareRange(first, last + 1, kind.strip())


def firmware_ram(ranges: Sequence[FirmwareRange]) -> list[Range]:
    """The RAM of a firmware map; where entries overlap, what is not RAM wins (``e820__update_table()``)."""
    ram = ((r.start, r.end) for r in ranges if r.kind == RAM)
    return subtract(ram, ((r.start, r.end) for r in ranges if r.kind != RAM))


def read_firmware_memmap(root: HostFiles) -> Reading[list[FirmwareRange]]:
    """The whole map, in the order of its numbers: by address, and behind that what was hot-added."""

    def read() -> list[FirmwareRange]:
        ranges = []
        numbers = (name for name in root.entries(SOURCE, PATH) if name.isascii() and name.isdigit())
        for name in sorted(numbers, key=int):
            folder = f"{PATH}/{name}"
            texts = (root.read(SOURCE, f"{folder}/{part}", limit=4096) for part in ("start", "end", "type"))
            ranges.append(parse_firmware_entry(name, *texts))
        if not ranges:
            raise SourceError(SOURCE, "the map is empty")
        return ranges

    return attempt(SOURCE, root.locate(PATH), read)
