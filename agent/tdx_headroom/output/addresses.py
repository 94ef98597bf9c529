# SPDX-License-Identifier: Apache-2.0
"""Addresses in texts that go over the network."""

from __future__ import annotations

import re

from tdx_headroom.address import GIB, MIB

_HEX = re.compile(r"0x[0-9a-fA-F]+")
_PHYSICAL = range(MIB, 1 << 52)


def coarse(text: str) -> str:
    """The text with every physical address that is finer than 1 GiB replaced by ``0x…``.

    Where memory lies below that tells where a kernel may be; TDMR bounds are whole GiB and stay.
    """

    def replaced(match: re.Match[str]) -> str:
        value = int(match[0], 16)
        return "0x…" if value in _PHYSICAL and value % GIB else match[0]

    return _HEX.sub(replaced, text)
