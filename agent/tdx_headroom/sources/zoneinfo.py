# SPDX-License-Identifier: Apache-2.0
"""``/proc/zoneinfo``: which part of each node is which zone (mm/vmstat.c, ``zoneinfo_show_print()``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.address import PAGE
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import Zone
from tdx_headroom.sources.reading import Reading, attempt
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "zoneinfo"
PATH = "proc/zoneinfo"

_HEAD = re.compile(r"Node ([0-9]{1,5}), zone +([A-Za-z0-9]+)")
_NUMBER = re.compile(r" +(spanned|present|start_pfn:) +([0-9]{1,15})")


def parse_zoneinfo(text: str) -> list[Zone]:
    """The zones that have memory, in the order of the file.

    Raises:
        SourceError: a zone with memory does not tell where it starts, or there is none.
    """
    zones: list[Zone] = []
    head: tuple[int, str] | None = None
    spanned = present = 0
    for line in lines_of(text):
        if match := _HEAD.fullmatch(line):
            _check_closed(head, present)
            head, spanned, present = (int(match[1]), match[2]), 0, 0
        elif match := _NUMBER.fullmatch(line):
            pages = int(match[2])
            if match[1] == "spanned":
                spanned = pages
            elif match[1] == "present":
                present = pages
            elif head is not None:
                if present:
                    start = pages * PAGE
                    zones.append(Zone(head[0], head[1], start, start + spanned * PAGE))
                head, present = None, 0
    _check_closed(head, present)
    if not zones:
        raise SourceError(SOURCE, "no zone with memory in it")
    return zones


def _check_closed(head: tuple[int, str] | None, present: int) -> None:
    # Zones without memory print no start.
    if head is not None and present:
        raise SourceError(SOURCE, f"zone {head[1]} of node {head[0]} has no start_pfn")


def read_zoneinfo(root: HostFiles) -> Reading[list[Zone]]:
    """Read and parse the file."""
    return attempt(SOURCE, root.locate(PATH), lambda: parse_zoneinfo(root.read(SOURCE, PATH)))
