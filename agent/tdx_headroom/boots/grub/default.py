# SPDX-License-Identifier: Apache-2.0
"""Which menu entry a value of GRUB's ``default`` names.

After normal/menu.c: of GRUB 2 as most build it, and of Red Hat's, which looks at ids before titles and takes
a number only when the whole value is one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.grub.number import leading_number

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPACE = " \t\n\r"


class Dialect(Enum):
    """Whose GRUB it is."""

    UPSTREAM = auto()
    """The GNU project's; Debian, Ubuntu, SUSE and others leave this as it is."""
    RED_HAT = auto()
    """Fedora's, and that of the systems that descend from it."""


class Named(NamedTuple):
    """What an entry can be called by."""

    id: str
    title: str


def entry_number(entries: Sequence[Named], value: str | None, dialect: Dialect) -> int:
    """The index of the entry that boots at one level of the menu; what names none is the first.

    Args:
        entries: of that level.
        value: of ``default`` there, with the rest of the path behind a ``>``; None: it is not set.
        dialect: whose GRUB reads it.
    """
    if value is None:
        return 0
    found = _red_hat(entries, value) if dialect is Dialect.RED_HAT else _upstream(entries, value)
    return found if found is not None and 0 <= found < len(entries) else 0


def rest_of_path(value: str) -> str | None:
    """What a submenu is told: the value behind its first ``>``; ``>>`` is one in a name."""
    at = 0
    while at < len(value):
        if value.startswith(">>", at):
            at += 2
        elif value[at] == ">":
            return value[at + 1 :] or None
        else:
            at += 1
    return None


def path_step(name: str) -> str:
    """A name as it stands in a path."""
    return name.replace(">", ">>")


def _upstream(entries: Sequence[Named], value: str) -> int | None:
    """``get_entry_number()``: a number if it begins like one, else a title or an id."""
    number = leading_number(value)
    if number is not None:
        return number.value
    for index, entry in enumerate(entries):
        if _matched(entry.title, value) is not None or _matched(entry.id, value) is not None:
            return index
    return None


def _red_hat(entries: Sequence[Named], value: str) -> int | None:
    """``get_entry_number_helper()`` of Red Hat, and what its caller makes of the rest."""
    blank = next((i for i, c in enumerate(value) if c in _SPACE), len(value))
    for index, entry in enumerate(entries):
        if _matched(entry.id, value, blank):
            # What stands behind a blank makes it no entry at all.
            return index if blank == len(value) else None
    for index, entry in enumerate(entries):
        if _matched(entry.title, value):
            return index
    number = leading_number(value)
    return number.value if number is not None and not number.rest else None


def _matched(name: str, value: str, limit: int | None = None) -> int | None:
    """How much of a value the name is (``menuentry_eq()``); None: it is not its first step.

    Args:
        name: an id or title.
        value: a path; ``>>`` is a ``>`` of a name.
        limit: how much of the name is compared at most; only Red Hat's has it, and takes 0 for no match.
    """
    at = 0
    for index in range(len(name) + 1 if limit is None else min(len(name), limit) + 1):
        ours, theirs = name[index : index + 1], value[at : at + 1]
        if theirs == ">":
            if value[at + 1 : at + 2] != ">":
                return None if ours else at
            at += 1
        if ours != theirs:
            at_limit = index == limit and not ours and theirs and theirs in _SPACE
            return index - 1 if at_limit else None
        if not ours:
            return index
        at += 1
    return None
