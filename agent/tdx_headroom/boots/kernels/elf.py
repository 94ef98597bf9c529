# SPDX-License-Identifier: Apache-2.0
"""Sections of an ELF file for x86-64: their names, and where they are in it (elf.5)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER_SIZE = 64
_START = b"\x7fELF\x02\x01\x01"
_X86_64 = 62
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOBITS = 8
_MAX_SECTIONS = 1 << 15
_MAX_NAMES = 1 << 20


class Header(NamedTuple):
    """Where the table of sections is.

    Args:
        table: its offset in the file.
        sections: how many it has.
        names: index of the section that has their names.
    """

    table: int
    sections: int
    names: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the table."""
        return self.table + self.sections * _SECTION.size


class Section(NamedTuple):
    """Bytes ``[start, end)`` of the file."""

    start: int
    end: int


def parse_header(data: bytes) -> Header:
    """Where a file has its sections.

    Args:
        data: its first :data:`HEADER_SIZE` bytes, or more.

    Raises:
        SourceError: it is no ELF file for x86-64, or has no sections.
    """
    if len(data) < HEADER_SIZE or not data.startswith(_START):
        raise SourceError(SOURCE, "it is no ELF file of 64 bits")
    (machine,) = struct.unpack_from("<H", data, 0x12)
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    if machine != _X86_64:
        raise SourceError(SOURCE, "it is no ELF file for x86-64")
    if not table or size != _SECTION.size or not 0 < count <= _MAX_SECTIONS or names >= count:
        raise SourceError(SOURCE, "it has no table of sections")
    return Header(table, count, names)


def parse_sections(header: Header, read: Callable[[int, int], bytes]) -> dict[str, Section]:
    """The sections that have bytes in the file, by name; of several with one name the first.

    Args:
        header: of the file.
        read: gives bytes of the file by offset and size; fewer where it has no more.

    Raises:
        SourceError: the file is cut short, or damaged.
    """
    table = read(header.table, header.end - header.table)
    if len(table) < header.end - header.table:
        raise SourceError(SOURCE, "its table of sections is cut short")
    rows = list(_SECTION.iter_unpack(table))
    offset, size = rows[header.names][4:6]
    names = read(offset, size) if size <= _MAX_NAMES else b""
    if len(names) < size or not names:
        raise SourceError(SOURCE, "the names of its sections are cut short")
    found: dict[str, Section] = {}
    for row in rows:
        name, kind, start, length = row[0], row[1], row[4], row[5]
        if kind != _NOBITS and name < len(names):
            text = names[name : names.find(b"\0", name)].decode("ascii", "backslashreplace")
            found.setdefault(text, Section(start, start + length))
    return found
