# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line as the kernel reads it: arguments, numbers, and what ``mem=`` and ``memmap=`` do.

After ``next_arg()`` and ``memparse()`` of lib/cmdline.c, ``simple_strtoull()`` of lib/vsprintf.c, and
``parse_memopt()`` and ``parse_memmap_one()`` of arch/x86/kernel/e820.c: also what they do with nonsense.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.address import ADDRESS_SPACE, Range, subtract
from tdx_headroom.facts.e820 import ACPI, EMPTY, LEGACY_PMEM, RAM, RESERVED, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LONGEST = 2047
"""Characters of a command line: ``COMMAND_LINE_SIZE`` of arch/x86/include/asm/setup.h, less its end."""
_LAST = ADDRESS_SPACE - 1
_NUMBER = re.compile(r"0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*)|")
_SHIFTS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_ARGUMENT = re.compile(r'(?:"[^"]*(?:"|$)|[^\t-\r "])+')
_ADDED = {"@": RAM, "#": ACPI, "$": RESERVED, "!": LEGACY_PMEM}
_TYPE = 0xFFFFFFFF


def parse_unsigned(text: str) -> tuple[int, str]:
    """The number at the front of a text, and the rest of it (``simple_strtoull()`` with base 0).

    A leading 0 makes it octal, 0x or 0X before a digit hexadecimal; what does not fit into 64 bits wraps. A
    text that begins with no digit is 0.
    """
    match = _NUMBER.match(text)
    if match is None or not match[0]:
        return 0, text
    rest = text[match.end() :]
    if match["hex"] is not None:
        # Digits whose weight is beyond 64 bits are lost there, too.
        return int(match["hex"][-16:], 16), rest
    if match["octal"] is not None:
        return int(match["octal"][-22:], 8) % ADDRESS_SPACE, rest
    value = 0
    for digit in match["decimal"]:
        value = (value * 10 + int(digit)) % ADDRESS_SPACE
    return value, rest


def parse_amount(text: str) -> tuple[int, str]:
    """The same with a unit from K to E, in either case (``memparse()``): ``4k``, ``0x10M``, ``010G``."""
    value, rest = parse_unsigned(text)
    shift = _SHIFTS.get(rest[:1].upper()) if rest[:1].isascii() else None
    return (value, rest) if shift is None else ((value << shift) % ADDRESS_SPACE, rest[1:])


DASHES = "--"
"""Ends the kernel's own arguments: those behind it are for init."""


def split_arguments(command_line: str) -> list[str]:
    """The kernel's own arguments as they stand there: quotes hold blanks together, ``--`` ends them."""
    return split_at_dashes(command_line)[0]


def split_at_dashes(command_line: str) -> tuple[list[str], list[str]]:
    """The kernel's own arguments, and those for init.

    ``kmod_config_parse_kcmdline()`` of kmod takes the parameters of modules out of all of them.
    """
    own: list[str] = []
    behind: list[str] = []
    found = own
    for match in _ARGUMENT.finditer(command_line):
        if found is own and match[0].strip('"') == DASHES:
            found = behind
        else:
            found.append(match[0])
    return own, behind


def fitting(command_line: str) -> str:
    """What of a command line the kernel gets: whole arguments, as many as fit into ``COMMAND_LINE_SIZE``.

    Neither GRUB (``grub_create_loader_cmdline()``) nor the EFI stub (``efi_convert_cmdline()``) cuts one in
    two.
    """
    if len(command_line) <= LONGEST:
        return command_line
    ends = (match.end() for match in _ARGUMENT.finditer(command_line))
    return command_line[: max((end for end in ends if end <= LONGEST), default=0)]


class Action(StrEnum):
    """What is done to the kernel's memory map."""

    EMPTY = "empty"
    """All entries go: ``memmap=exactmap``."""
    ADD = "add"
    """Memory of a type is added; where types overlap, the larger one wins."""
    CONVERT = "convert"
    """Memory of one type becomes another."""
    REMOVE = "remove"
    """Memory of one type, or of any, goes."""


@dataclass(frozen=True, slots=True)
class MapEdit:
    """One change of the memory map.

    Args:
        argument: that makes it, as it could stand alone: ``memmap=4K$1G``.
        whole: the argument of the command line that this is a part of, or all of.
        action: what is done.
        start: the first address in question.
        size: in bytes.
        old: the type that is converted or removed; None: any.
        new: the type that is added or converted to; None: none.
    """

    argument: str
    whole: str
    action: Action
    start: int = 0
    size: int = 0
    old: int | None = None
    new: int | None = None

    @property
    def range(self) -> Range:
        """The addresses in question, cut at 64 bits."""
        return Range(self.start, min(self.start + self.size, _LAST))

    @property
    def punches(self) -> bool:
        """Whether RAM there is no RAM afterwards, and all else is as before: a hole with both its ends."""
        if self.action is Action.ADD:
            return self.new is not None and self.new > RAM
        if self.action is Action.CONVERT:
            return self.old == RAM and self.new != RAM
        return self.action is Action.REMOVE and self.old in (RAM, None) and self.range.end < _LAST


def map_edits(arguments: Iterable[str]) -> list[MapEdit]:
    """What ``mem=`` and ``memmap=`` among the arguments do, in the order in which the kernel does it."""
    return [edit for argument in arguments for edit in _edits(argument)]


def edited(table: Sequence[Entry], edits: Iterable[MapEdit]) -> list[Entry]:
    """The table after the edits, in their order (``e820__range_add()``, ``_update()``, ``_remove()``)."""
    entries = list(table)
    for edit in edits:
        if edit.action is Action.EMPTY:
            entries.clear()
        elif edit.action is Action.ADD and edit.new is not None:
            entries.append(Entry(*edit.range, edit.new))
        else:
            entries = [piece for entry in entries for piece in _changed(entry, edit)]
    return entries


def _changed(entry: Entry, edit: MapEdit) -> list[Entry]:
    """What conversion or removal leaves of an entry."""
    if edit.old not in (None, entry.kind):
        return [entry]
    start, end = max(entry.start, edit.start), min(entry.end, edit.range.end)
    if start >= end:
        return [entry]
    kept = [Entry(*piece, entry.kind) for piece in subtract([entry[:2]], [(start, end)])]
    if edit.new is not None:
        return [*kept, Entry(start, end, edit.new)]
    return kept or [EMPTY]


def punch(start: int, size: int) -> str:
    """The argument that makes RAM reserved, without a ``$``, which boot loaders take for a variable's.

    It converts what is RAM when the kernel comes to it: whatever adds RAM must come before it.
    """
    amount = f"{size >> 10}K" if size % 1024 == 0 else f"0x{size:x}"
    return f"memmap={amount}%0x{start:x}-{RAM}+{RESERVED}"


def _edits(argument: str) -> Iterator[MapEdit]:
    name, value = name_and_value(argument)
    if value is None:
        return
    if name == "mem":
        limit, _ = parse_amount(value)
        if value != "nopentium" and limit:
            yield MapEdit(f"mem={value}", argument, Action.REMOVE, limit, _LAST - limit, old=RAM)
    elif name == "memmap":
        for piece in value.split(","):
            edit = _memmap(piece, argument)
            if edit is not None:
                yield edit


TDX_SWITCH = "kvm_intel.tdx"
_TRUE, _FALSE = re.compile("[yYtT1]|[oO][nN]"), re.compile("[nNfF0]|[oO][fF]")


def kstrtobool(text: str) -> bool | None:
    """A switch's value as the kernel takes it; None where it takes it for neither on nor off."""
    return True if _TRUE.match(text) else False if _FALSE.match(text) else None


def asks_for_tdx(arguments: Iterable[str]) -> bool | None:
    """Whether kvm_intel is told to bring TDX up; None where it is not told, or told nonsense."""
    return switch(arguments, TDX_SWITCH)


def switch(arguments: Iterable[str], name: str) -> bool | None:
    """What a switch is set to by the last argument that makes sense; None without one.

    A switch without a value is on (``param_set_bool()``).
    """
    found = None
    for argument in arguments:
        own, value = name_and_value(argument)
        if own == name:
            asked = True if value is None else kstrtobool(value)
            found = found if asked is None else asked
    return found


def misspelt_tdx(arguments: Iterable[str]) -> str | None:
    """The first argument that is nearly ``kvm_intel.tdx=1`` and means nothing to any kernel."""
    for argument in arguments:
        name = argument.strip('"').partition("=")[0].replace("-", "_")
        if "tdx" in name.lower() and name != TDX_SWITCH and get_close_matches(name, [TDX_SWITCH], cutoff=0.8):
            return argument
    return None


def name_and_value(argument: str) -> tuple[str, str | None]:
    """Both sides of an argument, without the quotes around the whole or around the value (``next_arg()``).

    The value is None where there is no ``=``. Names have _ for -, as ``parameq()`` compares them.
    """
    text = argument.removeprefix('"')
    quoted = text != argument
    name, equals, value = text.partition("=")
    if equals and value.startswith('"'):
        value = value[1:].removesuffix('"')
    elif quoted:
        name, value = name if equals else name.removesuffix('"'), value.removesuffix('"')
    return name.replace("-", "_"), value if equals else None


def _memmap(piece: str, whole: str) -> MapEdit | None:
    """What one piece of a ``memmap=`` does; None where the kernel does not understand it."""
    own = f"memmap={piece}"
    if piece.startswith("exactmap"):
        return MapEdit(own, whole, Action.EMPTY)
    size, rest = parse_amount(piece)
    if rest == piece:
        return None
    if (new := _ADDED.get(rest[:1])) is not None:
        start, _ = parse_amount(rest[1:])
        return MapEdit(own, whole, Action.ADD, start, size, new=new)
    if not rest.startswith("%"):
        # All that is RAM above so many bytes, whatever stands behind the number.
        return MapEdit(own, whole, Action.REMOVE, size, _LAST - size, old=RAM)
    start, rest = parse_amount(rest[1:])
    old = new_type = 0
    if rest.startswith("-"):
        old, rest = parse_unsigned(rest[1:])
    if rest.startswith("+"):
        new_type, rest = parse_unsigned(rest[1:])
    if rest:
        return None
    old, new_type = old & _TYPE, new_type & _TYPE
    if old and new_type:
        return MapEdit(own, whole, Action.CONVERT, start, size, old=old, new=new_type)
    if new_type:
        return MapEdit(own, whole, Action.ADD, start, size, new=new_type)
    return MapEdit(own, whole, Action.REMOVE, start, size, old=old or None)
