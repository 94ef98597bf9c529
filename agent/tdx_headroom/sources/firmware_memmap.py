# SPDX-License-Identifier: Apache-2.0
"""``/sys/firmware/memmap``: the firmware's own memory map (drivers/firmware/memmap.c)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tdx_headroom.address import Range, subtract
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.reading import Reading, attempt
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = MemorySource.FIRMWARE_MEMMAP
PATH = "sys/firmware/memmap"

ENTRIES_PATH = f"{PATH}/entries"
"""In a capture: all of the map, in place of three files an entry."""

_PARTS = ("start", "end", "type")
_PART_PATH = re.compile(rf"{PATH}/([0-9]{{1,6}})/({'|'.join(_PARTS)})")
_ROW = re.compile(r"([0-9]{1,6}) (0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16}) (.*)")
_WORDS = re.compile(r"\S+(?: \S+)*")
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


def parse_entries(text: str) -> list[FirmwareRange]:
    """The map that a capture has as one file: a row an entry, its number, first and last address, and type.

    Raises:
        SourceError: a row is none, or there is none.
    """
    ranges = []
    for number, line in enumerate(lines_of(text), 1):
        match = _ROW.fullmatch(line)
        if match is None:
            raise SourceError(SOURCE, "not a row `number start end type`", line=number, text=line)
        ranges.append(parse_firmware_entry(*match.groups()))
    if not ranges:
        raise SourceError(SOURCE, "the map is empty")
    return ranges


def with_entries(texts: Mapping[str, str], *, readable: bool) -> dict[str, str]:
    """The files of a host, for a capture, with the firmware's map as one file.

    They stay as they are where a row would not say just what they do: a type has other white space in it
    than single blanks, or two entries have the same number.

    Args:
        texts: by path.
        readable: whether the map could be read. If not, what was read before the fault would pass for the
            whole map: it is left out.
    """
    parts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    others = {}
    for path, text in texts.items():
        if match := _PART_PATH.fullmatch(path):
            parts[match[1]][match[2]] = text
        else:
            others[path] = text
    if not readable or not parts:
        return others
    rows = {}
    for name, found in parts.items():
        entry = parse_firmware_entry(name, *(found[part] for part in _PARTS))
        if int(name) in rows or not _WORDS.fullmatch(entry.kind):
            return dict(texts)
        rows[int(name)] = f"{int(name)} {entry.start:#x} {entry.end - 1:#x} {entry.kind}\n"
    return {**others, ENTRIES_PATH: "".join(rows[number] for number in sorted(rows))}


def firmware_ram(ranges: Sequence[FirmwareRange]) -> list[Range]:
    """The RAM of a firmware map; where entries overlap, what is not RAM wins (``e820__update_table()``)."""
    ram = ((r.start, r.end) for r in ranges if r.kind == RAM)
    return subtract(ram, ((r.start, r.end) for r in ranges if r.kind != RAM))


def read_firmware_memmap(root: HostFiles) -> Reading[list[FirmwareRange]]:
    """The whole map, in the order of its numbers: by address, and behind that what was hot-added."""

    def read() -> list[FirmwareRange]:
        names = root.entries(SOURCE, PATH)
        if ENTRIES_PATH.rpartition("/")[2] in names:
            return parse_entries(root.read(SOURCE, ENTRIES_PATH))
        ranges = []
        for name in sorted((name for name in names if name.isascii() and name.isdigit()), key=int):
            texts = (root.read(SOURCE, f"{PATH}/{name}/{part}", limit=4096) for part in _PARTS)
            ranges.append(parse_firmware_entry(name, *texts))
        if not ranges:
            raise SourceError(SOURCE, "the map is empty")
        return ranges

    return attempt(SOURCE, root.locate(PATH), read)
