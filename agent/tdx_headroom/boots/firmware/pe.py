# SPDX-License-Identifier: Apache-2.0
"""Sections of an EFI program (PE/COFF), read where they lie, as systemd's src/boot/pe.c finds them."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.hostfs.files import HostFiles

X86_64 = 0x8664
MAX_SECTIONS = 4096
"""More are refused; systemd takes 16 MiB of them."""
MAX_TEXT = 1 << 20

_MAGIC = re.compile(rb"#### LoaderInfo: (systemd-boot [^#\0]{1,100}?) ####")


class Section(NamedTuple):
    """A section: its name, and the part of it that lies in the file."""

    name: str
    offset: int
    size: int


class Program(NamedTuple):
    """An EFI program: for which machine, and its sections in order."""

    machine: int
    sections: tuple[Section, ...]

    def find(self, name: str) -> Section | None:
        """The first section of this name."""
        return find(self.sections, name)


def find(sections: Iterable[Section], name: str) -> Section | None:
    """The first section of this name; names have eight bytes at most."""
    return next((section for section in sections if section.name == name), None)


def base_sections(sections: Sequence[Section]) -> Sequence[Section]:
    """Those before the first ``.profile``, which all profiles share (``pe_locate_profile_sections()``)."""
    return next((sections[:i] for i, one in enumerate(sections) if one.name == ".profile"), sections)


def profiles(sections: Sequence[Section]) -> list[Sequence[Section]]:
    """The sections of each profile, from its ``.profile`` to the next; none in most images."""
    starts = [i for i, section in enumerate(sections) if section.name == ".profile"]
    return [sections[a:b] for a, b in pairwise([*starts, len(sections)])]


def read_program(files: HostFiles, path: str) -> Program:
    """The section table of a program.

    Raises:
        SourceError: the file cannot be read, or is none.
    """
    fd = files.open(SOURCE, path)
    try:
        return _program(fd)
    finally:
        os.close(fd)


def read_text(files: HostFiles, path: str, section: Section) -> str:
    """The text of a section, up to its first NUL.

    Raises:
        SourceError: it cannot be read whole, is too large, or no UTF-8.
    """
    if section.size > MAX_TEXT:
        raise SourceError(SOURCE, f"section {section.name} of {section.size} bytes is too large for a text")
    fd = files.open(SOURCE, path)
    try:
        data = _exactly(fd, section.offset, section.size, f"section {section.name}")
    finally:
        os.close(fd)
    try:
        return data.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError:
        raise SourceError(SOURCE, f"section {section.name} is no UTF-8") from None


def read_loader_magic(files: HostFiles, path: str) -> str | None:
    """What systemd-boot calls itself in its ``.sdmagic`` (``systemd-boot 257.9-1``); None: it is no such.

    Raises:
        SourceError: as :func:`read_program`.
    """
    section = read_program(files, path).find(".sdmagic")
    if section is None or section.size > 4096:
        return None
    match = _MAGIC.match(read_text(files, path, section).encode())
    return match[1].decode("ascii", "replace") if match else None


def _program(fd: int) -> Program:
    dos = _exactly(fd, 0, 64, "the DOS header")
    at = int.from_bytes(dos[60:64], "little")
    if dos[:2] != b"MZ" or at < 64:
        raise SourceError(SOURCE, "it is no EFI program")
    # The signature, the file header, and the magic number of the optional header.
    head = _exactly(fd, at, 26, "the PE header")
    count = int.from_bytes(head[6:8], "little")
    if head[:4] != b"PE\0\0" or count == 0 or int.from_bytes(head[24:26], "little") not in {0x10B, 0x20B}:
        raise SourceError(SOURCE, "it is no EFI program")
    if count > MAX_SECTIONS:
        raise SourceError(SOURCE, f"it has {count} sections, more than {MAX_SECTIONS}")
    table = at + 24 + int.from_bytes(head[20:22], "little")
    data = _exactly(fd, table, count * 40, "the section table")
    sections = tuple(_section(data[i : i + 40]) for i in range(0, count * 40, 40))
    return Program(int.from_bytes(head[4:6], "little"), sections)


def _section(entry: bytes) -> Section:
    name = entry[:8].split(b"\0", 1)[0].decode("ascii", "backslashreplace")
    virtual, raw, offset = (int.from_bytes(entry[i : i + 4], "little") for i in (8, 16, 20))
    # Data on disk is aligned, and may be longer than what counts.
    return Section(name, offset, min(virtual, raw))


def _exactly(fd: int, offset: int, size: int, what: str) -> bytes:
    try:
        data = os.pread(fd, size, offset)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise SourceError(SOURCE, f"{what} cannot be read: {reason}") from None
    if len(data) != size:
        raise SourceError(SOURCE, f"{what} is cut off")
    return data
