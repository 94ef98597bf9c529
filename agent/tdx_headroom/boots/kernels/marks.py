# SPDX-License-Identifier: Apache-2.0
"""Marks in an unpacked kernel by which it is known what the kernel does about TDX.

From arch/x86/virt/vmx/tdx of 6.8 to 7.3, and the series that were posted for it. Formats of messages stand
in the image whole; functions and what is inlined leave no trace. Names are looked for where they mean
something: those of exported symbols in ``__ksymtab_strings``, those of members of structs in ``.BTF``, which
also has the names of functions that nobody exports.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.boots.kernels import elf
from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

EXPORTS, TYPES = "__ksymtab_strings", ".BTF"


class Mark(StrEnum):
    """What a kernel's image shows."""

    MESSAGES = "messages"
    """A format that every kernel with messages has: without it the formats of others mean nothing."""
    KEYIDS = "keyids"
    """Built with TDX host support."""
    INITIALIZED = "initialized"
    """Initializes the module when KVM asks for it."""
    INITIALIZED_AT_BOOT = "initialized-at-boot"
    ENABLE = "tdx_enable"
    KVM_PARAMETER = "kvm_intel.tdx"
    """KVM is built in, and has the parameter."""
    CMR_LIST = "cmr-list"
    CMR_BASE = "cmr_base"
    CMR_SIZE = "cmr_size"
    CMR_WALK = "cmr-walk"
    DYNAMIC_PAMT = "dynamic-pamt"
    PAMT_BITMAP = "pamt_page_bitmap_entry_bits"


class _Needle(NamedTuple):
    """Bytes of a mark.

    Args:
        section: where they must be; None: anywhere.
        first: whether no character may stand before them.
        last: whether none may stand behind them.
    """

    mark: Mark
    data: bytes
    section: str | None = None
    first: bool = False
    last: bool = False


def _name(mark: Mark, section: str) -> _Needle:
    return _Needle(mark, mark.encode(), section, first=True, last=True)


MESSAGES = (
    _Needle(Mark.MESSAGES, b"BIOS-provided physical RAM map:"),
    _Needle(Mark.KEYIDS, b"virt/tdx: BIOS enabled: private KeyID"),
    _Needle(Mark.INITIALIZED, b"virt/tdx: module initialized"),
    _Needle(Mark.INITIALIZED_AT_BOOT, b"virt/tdx: TDX-Module initialized"),
    # The name of a parameter may stand behind any bytes.
    _Needle(Mark.KVM_PARAMETER, b"kvm_intel.tdx", last=True),
    _Needle(Mark.CMR_LIST, b"CMR[%d]: [0x"),
    _Needle(Mark.CMR_LIST, b"CMR: [0x"),
    _Needle(Mark.CMR_WALK, b"is not TDX convertible memory."),
    _Needle(Mark.DYNAMIC_PAMT, b"Enable Dynamic PAMT"),
)
NAMES = (
    _name(Mark.ENABLE, EXPORTS),
    _name(Mark.CMR_BASE, TYPES),
    _name(Mark.PAMT_BITMAP, TYPES),
)
SECOND_NAME = _name(Mark.CMR_SIZE, TYPES)
"""Means nothing alone, and stands behind the first of its struct unless another struct has it, too."""
_OVERLAP = max(len(needle.data) for needle in (*MESSAGES, *NAMES, SECOND_NAME)) + 2
_MAX_PLACES = 64
_AROUND = 1 << 18
_FIRST = next(needle for needle in MESSAGES if needle.mark is Mark.KEYIDS)
_CMR_BASE = next(needle for needle in NAMES if needle.mark is Mark.CMR_BASE)


class ImageMarks(NamedTuple):
    """What was found in a kernel that was looked through to its end.

    Args:
        found: the marks.
        exports: whether it has names of exported symbols at all; one without modules has none.
        types: whether it has BTF.
    """

    found: frozenset[Mark]
    exports: bool
    types: bool


def as_json(marks: ImageMarks) -> dict[str, Any]:
    """Marks as JSON can have them."""
    return {"found": sorted(marks.found), "exports": marks.exports, "types": marks.types}


def parse_marks(value: object) -> ImageMarks | None:
    """The marks that :func:`as_json` has written; None where this is something else."""
    if not isinstance(value, dict):
        return None
    found, exports, types = (value.get(key) for key in ("found", "exports", "types"))
    known = set(Mark)
    if not isinstance(found, list) or not all(isinstance(mark, str) and mark in known for mark in found):
        return None
    if not isinstance(exports, bool) or not isinstance(types, bool):
        return None
    return ImageMarks(frozenset(map(Mark, found)), exports, types)


def marks_in(read: Callable[[], Iterable[bytes]], size: int | None = None) -> ImageMarks:
    """Which marks an unpacked kernel has; marks may lie across the borders of chunks.

    Args:
        read: gives all of the kernel from its start, an ELF file, in chunks; it is called once, or twice.
        size: how many bytes there must be, modulo 2^32; None: unknown.

    Raises:
        SourceError: it is no kernel for x86-64, cut short, or damaged.
    """
    for later in (True, False):
        marks = _search(read(), size, later=later)
        if marks is not None:
            return marks
    raise AssertionError


def _search(chunks: Iterable[bytes], size: int | None, *, later: bool) -> ImageMarks | None:
    search = _Search(later=later)
    for chunk in chunks:
        search.feed(chunk)
    if size is not None and search.total % (1 << 32) != size:
        raise SourceError(SOURCE, f"it unpacks to {search.total} bytes and not {size}")
    return search.result()


class _Search:
    """Looks for all needles at once, and keeps the table of sections for later.

    Args:
        later: look for names only from the message on without which there is no TDX: the linker puts them
            behind all messages (vmlinux.lds.h), and each takes as much time as three messages. What may have
            been missed so is told by the sections at the end.
    """

    def __init__(self, *, later: bool) -> None:
        self.total = 0
        self._before = b""
        self._start = b""
        self._header: elf.Header | None = None
        self._kept_from = 0
        self._kept = bytearray()
        self._places: dict[_Needle, list[int]] = {}
        self._later = later
        self._names_from = None if later else 0
        self._open = list(MESSAGES if later else (*MESSAGES, *NAMES, SECOND_NAME))

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the kernel."""
        data = self._before + chunk
        base = self.total - len(self._before)
        # What is behind the table of sections are relocations.
        if self._header is None or base < self._header.end:
            for needle in tuple(self._open):
                self._look_for(needle, data, base)
            if self._names_from is None and _FIRST in self._places:
                self._names_from = base
                self._add(NAMES, data, base)
            if self._later and SECOND_NAME not in self._open and _CMR_BASE in self._places:
                self._add((SECOND_NAME,), data, base)
        self._keep(chunk)
        self.total += len(chunk)
        self._before = data[-_OVERLAP:]

    def _add(self, needles: Iterable[_Needle], data: bytes, base: int) -> None:
        for needle in needles:
            self._open.append(needle)
            self._look_for(needle, data, base)

    def _look_for(self, needle: _Needle, data: bytes, base: int) -> None:
        size = len(needle.data)
        place = data.find(needle.data)
        while place >= 0:
            if (not needle.first or data[place - 1 : place] == b"\0") and (
                not needle.last or data[place + size : place + size + 1] == b"\0"
            ):
                places = self._places.setdefault(needle, [])
                if not places or places[-1] < base + place:
                    places.append(base + place)
                if needle.section is None or len(places) >= _MAX_PLACES:
                    self._open.remove(needle)
                    return
            place = data.find(needle.data, place + 1)

    def _keep(self, chunk: bytes) -> None:
        """Keep the table of sections, and what is around it: their names are there."""
        at = self.total
        if self._header is None:
            self._start += chunk
            if len(self._start) < elf.HEADER_SIZE:
                return
            self._header = elf.parse_header(self._start)
            self._kept_from = max(0, self._header.table - _AROUND)
            at, chunk, self._start = 0, self._start, b""
        end = self._header.end + _AROUND
        start = self._kept_from + len(self._kept)
        if at + len(chunk) > start and at < end:
            self._kept += chunk[max(0, start - at) : end - at]

    def _read(self, offset: int, size: int) -> bytes:
        start = offset - self._kept_from
        return bytes(self._kept[start : start + size]) if start >= 0 else b""

    def result(self) -> ImageMarks | None:
        """What was found; None where names may have been missed.

        Raises:
            SourceError: the file's sections cannot be told.
        """
        if self._header is None:
            raise SourceError(SOURCE, "it is no ELF file of 64 bits")
        sections = elf.parse_sections(self._header, self._read)
        named = [section.start for name, section in sections.items() if name in (EXPORTS, TYPES)]
        if self._names_from and self._names_from > min(named, default=self._names_from):
            return None
        found = frozenset(
            needle.mark
            for needle, places in self._places.items()
            if any(_counts(needle, place, sections) for place in places)
        )
        if self._later and Mark.CMR_BASE in found and Mark.CMR_SIZE not in found:
            return None
        return ImageMarks(found, exports=EXPORTS in sections, types=TYPES in sections)


def _counts(needle: _Needle, place: int, sections: dict[str, elf.Section]) -> bool:
    if needle.section is None:
        return True
    section = sections.get(needle.section)
    return section is not None and section.start <= place < section.end
