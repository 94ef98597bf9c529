# SPDX-License-Identifier: Apache-2.0
"""``/sys/devices/system/memory/memoryN/state``: memory that is there, but not in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import Range, union
from tdx_headroom.sources.nodes import BLOCK_SIZE_PATH, parse_block_size
from tdx_headroom.sources.reading import Reading, attempt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "memory-blocks"
PATH = "sys/devices/system/memory"


def read_offline(root: HostFiles, ranges: Iterable[tuple[int, int]]) -> Reading[list[Range]]:
    """The parts of these ranges whose memory blocks are offline.

    Only blocks in the ranges are looked at: a large host has thousands.
    """

    def read() -> list[Range]:
        size = parse_block_size(root.read(SOURCE, BLOCK_SIZE_PATH, limit=4096))
        offline = []
        for start, end in union(ranges):
            for number in range(start // size, -(-end // size)):
                state = root.read(SOURCE, f"{PATH}/memory{number}/state", limit=4096).strip()
                if state == "offline":
                    offline.append((max(start, number * size), min(end, (number + 1) * size)))
        return union(offline)

    return attempt(SOURCE, root.locate(PATH), read)
