# SPDX-License-Identifier: Apache-2.0
"""``/sys/kernel/debug/memblock/{memory,reserved}`` (mm/memblock.c, ``memblock_debug_show()``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.sources import RESERVED, MemorySource
from tdx_headroom.sources.reading import Reading, attempt
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

SOURCE = MemorySource.MEMBLOCK
MEMORY_PATH = "sys/kernel/debug/memblock/memory"
RESERVED_PATH = "sys/kernel/debug/memblock/reserved"

# Index and range; since v6.6 also a node (`x`: none) and flag names, `NONE` or joined by `|`.
_ROW = re.compile(
    r"\s*([0-9]{1,9}): 0x([0-9a-f]{1,16})\.\.0x([0-9a-f]{1,16})"
    r"(?:\s+([0-9]{1,5}|x)\s+([A-Z][A-Z0-9_]*(?:\|[A-Z][A-Z0-9_]*)*))?\s*"
)


class MemblockRegion(NamedTuple):
    """One region: ``[start, end)`` in bytes, its node, and its flags; not page-rounded."""

    start: int
    end: int
    node: int | None
    flags: tuple[str, ...]


def parse_memblock(text: str, source: str = SOURCE) -> list[MemblockRegion]:
    """The regions in the file, in address order.

    Args:
        text: of the file.
        source: its name in errors.

    Raises:
        SourceError: a row is malformed or out of order.
    """
    regions: list[MemblockRegion] = []
    for number, line in enumerate(lines_of(text), 1):
        match = _ROW.fullmatch(line)
        if match is None:
            raise SourceError(source, "not a row `index: 0xstart..0xend`", line=number, text=line)
        index, start, last, node, flags = match.groups()
        region = MemblockRegion(
            int(start, 16),
            int(last, 16) + 1,
            int(node) if node not in (None, "x") else None,
            tuple(flags.split("|")) if flags not in (None, "NONE") else (),
        )
        if int(index) != len(regions):
            raise SourceError(source, f"row {len(regions)} is missing", line=number, text=line)
        if region.end <= region.start:
            raise SourceError(source, "region ends before it starts", line=number, text=line)
        if regions and region.start < regions[-1].end:
            raise SourceError(source, "region overlaps the one before", line=number, text=line)
        regions.append(region)
    return regions


def read_memblock(root: HostFiles) -> Reading[list[MemblockRegion]]:
    """The memory regions, exactly as the kernel's TDX code gets them."""

    def read() -> list[MemblockRegion]:
        regions = parse_memblock(root.read(SOURCE, MEMORY_PATH))
        if not regions:
            raise SourceError(SOURCE, "the file is empty")
        return regions

    return attempt(SOURCE, root.locate(MEMORY_PATH), read)


def read_memblock_reserved(root: HostFiles) -> Reading[list[MemblockRegion]]:
    """Memory that boot has reserved."""
    return attempt(
        RESERVED,
        root.locate(RESERVED_PATH),
        lambda: parse_memblock(root.read(RESERVED, RESERVED_PATH), RESERVED),
    )
