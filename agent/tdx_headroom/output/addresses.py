# SPDX-License-Identifier: Apache-2.0
"""Addresses in texts that go over the network."""

from __future__ import annotations

import re

from tdx_headroom.address import GIB, MIB

# In a `memmap=` of the command line an address comes after its sign, in any notation that memparse() takes.
_ADDRESS = re.compile(r"(0x[0-9a-fA-F]+|(?<=[$#!@%])[0-9]+)([KMGTPE]?)", re.IGNORECASE)
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_PHYSICAL = range(MIB, 1 << 52)
_QUOTED = re.compile(r": (['\"]).*\1")


def coarse(text: str) -> str:
    """The text with every physical address that is finer than 1 GiB replaced by ``0x…``.

    Where memory lies below that tells where a kernel may be; TDMR bounds are whole GiB and stay.
    """

    def replaced(match: re.Match[str]) -> str:
        # Octal with a leading 0, as for the kernel.
        digits = re.sub("^0+(?=[0-9])", "0o", match[1])
        try:
            value = int(digits, 0) << _SHIFTS[match[2].lower()]
        except ValueError:
            return "0x…"
        return "0x…" if value in _PHYSICAL and value % GIB else match[0]

    return _ADDRESS.sub(replaced, text)


def coarse_error(text: str) -> str:
    """As :func:`coarse`, for what may quote an offending line, which may hold any address in any notation."""
    return coarse(_QUOTED.sub(" (the line is shown on the host only)", text))
