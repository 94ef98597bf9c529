# SPDX-License-Identifier: Apache-2.0
"""``blscfg`` of Fedora's and Red Hat's GRUB: menu entries from ``loader/entries``.

After rhboot's grub-core/commands/blscfg.c (GRUB 2.02 of EL 8 to 2.12): how it reads a file, sorts the names
and expands variables, its slips included.
"""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import TYPE_CHECKING

from tdx_headroom.boots.bls import MAX_ENTRY, Fields, first
from tdx_headroom.boots.grub.number import leading_number
from tdx_headroom.boots.grub.state import Item
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tdx_headroom.boots.grub.paths import Disk
    from tdx_headroom.boots.grub.run import Machine

_ENTRIES = "/loader/entries"
_SUFFIX = ".conf"
_SEGMENT = re.compile(r"~|[0-9]+|[A-Za-z]+")


def parse_fields(text: str) -> Fields:
    """Keys and values as GRUB reads them.

    The first blank of a line parts them, a tab only where there is no blank; a line without a value, an empty
    one too, ends the file (``read_entry()``).
    """
    fields: Fields = {}
    for raw in text.replace("\r", "").split("\n"):
        line = raw.lstrip(" \t")
        if line.startswith("#"):
            continue
        key, blank, value = line.partition(" " if " " in line else "\t")
        if not blank or not value:
            break
        fields.setdefault(key, []).append(value.lstrip(" \t"))
    return fields


def expand_value(value: str | None, lookup: Callable[[str], str | None]) -> str | None:
    """A value with its variables replaced; None when nothing comes of it (``expand_val()``).

    A variable that is set gets a blank behind it, and the blank that stood there goes; a piece of one
    character in front of a variable or at the end gets lost, as there.
    """
    if value is None:
        return None
    found: str | None = None
    start, end, variable = 0, 0, False

    def appended() -> str | None:
        piece: str | None = value[start : end + 1]
        if variable:
            piece = lookup(piece or "")
            piece = None if piece is None else f"{piece} "
        return found if piece is None else (found or "") + piece

    for at, character in enumerate(value):
        if character == "$":
            if start != end:
                found = appended()
                if found is None:
                    return None
            variable, start = True, at + 1
        elif variable and not (character.isascii() and character.isalnum()) and character != "_":
            found = appended()
            variable, start = False, at + (character == " ")
        end = at
    return appended() if start != end else found


def compare_versions(one: str, other: str) -> int:
    """As rpm compares versions: positive when the first is newer (``vercmp()``).

    Digits are newer than letters, more segments than fewer, and ``~`` older than the end.
    """
    if one == other:
        return 0
    for ours, theirs in zip_longest(_SEGMENT.findall(one), _SEGMENT.findall(other)):
        if "~" in (ours, theirs):
            if ours != theirs:
                return -1 if ours == "~" else 1
        elif ours is None or theirs is None:
            return -1 if ours is None else 1
        elif (order := _compare_segments(ours, theirs)) != 0:
            return order
    return 0


def _compare_segments(ours: str, theirs: str) -> int:
    if ours.isdigit() is not theirs.isdigit():
        return 1 if ours.isdigit() else -1
    one, other = (ours.lstrip("0"), theirs.lstrip("0")) if ours.isdigit() else (ours, theirs)
    if ours.isdigit() and len(one) != len(other):
        return 1 if len(one) > len(other) else -1
    return (one > other) - (one < other)


def compare_names(one: str, other: str) -> int:
    """File names without ``.conf`` as name, version and release (``split_cmp()``): positive: newer."""
    pairs = zip(_split(one), _split(other), strict=True)
    return next((order for a, b in pairs if (order := compare_versions(a, b)) != 0), 0)


def _split(name: str) -> tuple[str, str, str]:
    rest, dash, release = name.rpartition("-")
    if not dash:
        return name, "", ""
    front, dash, version = rest.rpartition("-")
    # With one dash only, what stands behind it is the version.
    return (front, version, release) if dash else (rest, release, "")


def newest_first(names: Iterable[str]) -> list[str]:
    """The names in the order of the menu; of those that count as the same only the first is left."""
    ordered = sorted(sorted(names), key=cmp_to_key(compare_names), reverse=True)
    return [
        name
        for index, name in enumerate(ordered)
        if index == 0 or compare_names(ordered[index - 1], name) != 0
    ]


def blscfg(machine: Machine, arguments: list[str]) -> int:
    """Add the entries to the menu."""
    path = next((a for a in arguments[:1] if a.startswith("(")), None)
    found = _read(machine, path)
    if found is None:
        return 1
    _merge(machine, found)
    wanted = arguments[0] if arguments and path is None else None
    for index, item in enumerate(machine.bls):
        if item.id not in machine.bls_shown and _is_wanted(machine, item, index, wanted):
            machine.bls_shown.add(item.id)
            if item.source is not None or item.trouble is not None:
                machine.add(item)
    return 0


def _merge(machine: Machine, found: list[Item]) -> None:
    """Put entries in their places among those that earlier calls have read; those are what they are now."""
    items = {item.id: item for item in (*machine.bls, *found)}
    names = newest_first(items)
    if len(names) < len(items):
        machine.note("boot loader entries with names that count as the same: one of them is not shown")
    machine.bls = [items[name] for name in names]


def _is_wanted(machine: Machine, item: Item, index: int, wanted: str | None) -> bool:
    if wanted not in ("default", "non-default"):
        return wanted in (None, item.id)
    default = machine.value("default")
    number = leading_number(default) if default is not None else None
    named = default is not None and default in (item.id, item.title)
    return (named or (number is not None and number.value == index)) is (wanted == "default")


def _read(machine: Machine, path: str | None) -> list[Item] | None:
    """The entries of a directory; None: there is none."""
    disk = machine.disk
    folder = path or machine.value("blsdir") or _ENTRIES
    try:
        relative = _ostree_folder(disk) or disk.find(folder)
        if relative is None and path is None:
            relative = disk.find(f"/boot{_ENTRIES}")
        names = disk.names(relative) if relative is not None else None
    except SourceError as error:
        machine.doubt(error.reason)
        return None
    if names is None:
        return None
    wanted = [n for n in names if n.endswith(_SUFFIX) and len(n) > len(_SUFFIX) and not n.startswith(".")]
    if len(wanted) > 1000:
        machine.doubt(f"{relative} has more than 1000 entries")
        return None
    return [_item(machine, f"{relative}/{name}", name.removesuffix(_SUFFIX)) for name in wanted]


def _ostree_folder(disk: Disk) -> str | None:
    """The entries of ostree, whose ``loader`` is a link, in a tree where links have become texts."""
    try:
        target = disk.text("boot/loader", 64).strip()
    except SourceError:
        return None
    return f"boot/{target}/entries" if target in ("loader.0", "loader.1") else None


def _item(machine: Machine, relative: str, name: str) -> Item:
    name = name.removesuffix(_SUFFIX) or name
    try:
        fields = parse_fields(machine.disk.text(relative, MAX_ENTRY))
    except SourceError as error:
        return Item(name, name, trouble=error.reason, origin=relative)
    kernel = first(fields, "linux")
    if kernel is None:
        return Item(name, name, origin=relative)
    title = first(fields, "title") or kernel
    return Item(
        name,
        title,
        (title, *fields.get("grub_arg", ())),
        source=_commands(fields, kernel, machine.value),
        version=first(fields, "version"),
        origin=relative,
    )


def _commands(fields: Fields, kernel: str, lookup: Callable[[str], str | None]) -> str:
    """What the menu entry runs (``create_entry()``): text, for quotes and variables are read again."""
    options = expand_value(first(fields, "options"), lookup)
    if options is None:
        options = expand_value(lookup("default_kernelopts"), lookup)
    initrds = fields.get("initrd", [])
    folder = (initrds[0] if initrds else kernel).rpartition("/")[0]
    early = lookup("early_initrd")
    initrds = [*(f"{folder}/{name}" for name in (early.split(" ") if early else ())), *initrds]
    line = " ".join([f"linux ($root){kernel}", *([options] if options is not None else ())])
    loaded = " ".join(["initrd", *(f"($root){initrd}" for initrd in initrds)]) if initrds else ""
    return f"load_video\nset gfxpayload=keep\ninsmod gzio\n{line}\n{loaded}\n"
