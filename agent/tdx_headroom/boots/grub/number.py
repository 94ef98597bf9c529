# SPDX-License-Identifier: Apache-2.0
"""Numbers as GRUB reads them at the front of a text (kern/misc.c)."""

from __future__ import annotations

import re
from typing import NamedTuple

_NUMBER = re.compile(r"[ \t\n\r]*(?:0x(?P<hex>[0-9a-fA-F]*)|(?P<octal>0[0-7]+)|(?P<decimal>[0-9]+))")
_ULONG = 1 << 64
_INT = 1 << 32


class Number(NamedTuple):
    """A number at the front of a text, as an ``int``, and what follows it."""

    value: int
    rest: str


def leading_number(text: str) -> Number | None:
    """The number that a text begins with (``grub_strtoul()`` with base 0); None: it begins with none.

    One that is too large is -1.
    """
    match = _NUMBER.match(text)
    if match is None or match["hex"] == "":
        return None
    base = 16 if match["hex"] is not None else 8 if match["octal"] is not None else 10
    value = int((match["hex"] or match["octal"] or match["decimal"])[-40:], base)
    value = value % _INT if value < _ULONG else _INT - 1
    return Number(value - _INT if value >= _INT // 2 else value, text[match.end() :])


def signed_number(text: str) -> int | None:
    """The number of a text that may have a minus in front (``grub_strtol()``); None: it begins with none."""
    number = leading_number(text.removeprefix("-"))
    if number is None:
        return None
    return -number.value if text.startswith("-") else number.value
