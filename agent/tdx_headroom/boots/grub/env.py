# SPDX-License-Identifier: Apache-2.0
"""GRUB's environment block (``grubenv``): variables that survive a boot. After lib/envblk.c of GRUB 2."""

from __future__ import annotations

import re

SIGNATURE = b"# GRUB Environment Block\n"
MAX_BLOCK = 64 << 10
"""Bytes; GRUB's own tools write 1024."""

_LINE = re.compile(rb"(?P<name>[^=]*+)=(?P<value>(?:[^\\\n]|\\.)*+)\n", re.DOTALL)
_REST = re.compile(rb"(?:[^\\\n]|\\.)*+\n", re.DOTALL)


def parse_block(block: bytes) -> dict[str, str] | None:
    r"""The variables of an environment block; None when it is none, which GRUB refuses.

    Lines that begin with ``#`` fill it up. A backslash quotes a newline or itself. A name without ``=``
    takes what follows up to the next ``=``, as in GRUB; a last line that does not end is not there.
    """
    if not block.startswith(SIGNATURE):
        return None
    found: dict[str, str] = {}
    at = len(SIGNATURE)
    while at < len(block):
        if block[at : at + 1] != b"#":
            match = _LINE.match(block, at)
            if match is None:
                break
            value = re.sub(rb"\\(.)", rb"\1", match["value"], flags=re.DOTALL)
            found[_text(match["name"])] = _text(value)
        else:
            match = _REST.match(block, at)
            if match is None:
                break
        at = match.end()
    return found


def _text(data: bytes) -> str:
    """As text that can be turned back; what follows a NUL does not count."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
