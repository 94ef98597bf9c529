# SPDX-License-Identifier: Apache-2.0
"""Addresses, and sizes that tell one, in texts that go over the network."""

from __future__ import annotations

import re

from tdx_headroom.address import GIB, MIB, show_size
from tdx_headroom.facts.boot_inventory import mask
from tdx_headroom.facts.command_line import map_edits, parse_amount
from tdx_headroom.verdict.model import Sentence

# In a `memmap=` of the command line an address comes after its sign, in any notation that memparse() takes.
_ADDRESS = re.compile(r"(?:0x[0-9a-fA-F]+|(?<=[$#!@%])[0-9]+)[KMGTPE]?", re.IGNORECASE)
_ARGUMENT = re.compile(r"\b(mem(?:map)?=)[!-~]+", re.ASCII)
_PHYSICAL = range(MIB, 1 << 52)
_QUOTED = re.compile(r": (['\"]).*\1")


def coarse(text: str) -> str:
    """The text with every physical address that is finer than 1 GiB replaced by ``0x…``.

    Where memory lies below that tells where a kernel may be; TDMR bounds are whole GiB and stay. A sentence
    that has more in it than addresses knows itself what of it may be shown.
    """
    if isinstance(text, Sentence):
        return text.public
    return _ADDRESS.sub(_coarse_number, _ARGUMENT.sub(_coarse_argument, text))


def coarse_error(text: str) -> str:
    """As :func:`coarse`, for what may quote an offending line, which may hold any address in any notation."""
    if isinstance(text, Sentence):
        return text.public
    return coarse(_QUOTED.sub(" (the line is shown on the host only)", text))


def public(text: str, *, full_addresses: bool) -> str:
    """What of a text about boots may leave the host: no fine address, and no id of machine or file system."""
    return text if full_addresses else mask(coarse_error(text))


def coarse_size(size: int, step: int = GIB) -> str:
    """A size in whole steps, for one that may tell where a hole begins or ends."""
    return f"less than {show_size(step)}" if size < step else f"about {show_size(size // step * step)}"


def _coarse_number(match: re.Match[str]) -> str:
    value, rest = parse_amount(match[0])
    return "0x…" if rest or _is_fine(value) else match[0]


def _coarse_argument(match: re.Match[str]) -> str:
    """An argument both ends of whose range may be shown stays; of any other not even the size does."""
    fine = any(_is_fine(end) for edit in map_edits([match[0]]) for end in edit.range)
    return f"{match[1]}…" if fine else match[0]


def _is_fine(address: int) -> bool:
    return address in _PHYSICAL and bool(address % GIB)
