# SPDX-License-Identifier: Apache-2.0
"""``/sys/devices/system/node``: which memory block belongs to which NUMA node (drivers/base/node.c)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tdx_headroom.address import ADDRESS_SPACE
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import NodeRange
from tdx_headroom.sources.reading import Reading, attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "nodes"
PATH = "sys/devices/system/node"
HAS_CPU_PATH = f"{PATH}/has_cpu"
BLOCK_SIZE_PATH = "sys/devices/system/memory/block_size_bytes"

BLOCKS_FILE = "blocks"
"""In a capture: the numbers of a node's blocks, in place of a name each."""

_MOST_BLOCKS = 1 << 17
_NODE = re.compile(r"node([0-9]{1,5})")
_BLOCK = re.compile(r"memory([0-9]{1,9})")
_SPAN_OF_NODES = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")
_SPAN_OF_BLOCKS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_SIZE = re.compile(r"[0-9a-f]{1,16}")
_BLOCK_PATH = re.compile(rf"({PATH}/node[0-9]{{1,5}})/memory(0|[1-9][0-9]{{0,8}})")


def parse_block_size(text: str) -> int:
    """The memory block size in bytes; the file holds hexadecimal digits without ``0x``.

    Raises:
        SourceError: it holds something else.
    """
    stripped = text.strip()
    if not _SIZE.fullmatch(stripped) or int(stripped, 16) == 0:
        raise SourceError(SOURCE, f"{BLOCK_SIZE_PATH} holds no size", text=text)
    return int(stripped, 16)


def node_ranges(blocks: Mapping[int, list[int]], block_size: int) -> list[NodeRange]:
    """Ranges by node, from the block numbers of each node.

    A block that two nodes share has the border somewhere inside: its node is left open.
    """
    owner: dict[int, int | None] = {}
    for node, numbers in blocks.items():
        for number in numbers:
            owner[number] = node if number not in owner else None
    ranges: list[NodeRange] = []
    for number in sorted(owner):
        owned_by = owner[number]
        if owned_by is None:
            continue
        start = number * block_size
        if ranges and ranges[-1].node == owned_by and ranges[-1].end == start:
            ranges[-1] = NodeRange(ranges[-1].start, start + block_size, owned_by)
        else:
            ranges.append(NodeRange(start, start + block_size, owned_by))
    return ranges


def parse_node_list(text: str) -> frozenset[int]:
    """The nodes in a list such as ``0-1,3`` (``bitmap_print_to_pagebuf()``); none where it is no list."""
    spans = _spans(_SPAN_OF_NODES, text) or ()
    return frozenset(node for first, last in spans for node in range(first, last + 1))


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]] | None:
    """First and last of each span in a list; None where a part of it is none."""
    spans = []
    for part in text.strip().split(","):
        match = pattern.fullmatch(part)
        if match is None:
            return None
        spans.append((int(match[1]), int(match[2] or match[1])))
    return spans


def read_cpu_nodes(root: HostFiles) -> frozenset[int] | None:
    """Nodes that have online CPUs; None where that is unknown."""
    try:
        return parse_node_list(root.read(SOURCE, HAS_CPU_PATH, limit=4096)) or None
    except SourceError:
        return None


def parse_blocks(text: str, most: int = _MOST_BLOCKS) -> list[int]:
    """The numbers in a list such as ``0-127,256``.

    Args:
        text: of the file.
        most: how many there may be: a short text may stand for very many.

    Raises:
        SourceError: it is no such list, or of more blocks.
    """
    spans = _spans(_SPAN_OF_BLOCKS, text)
    if spans is None or any(last < first for first, last in spans):
        raise SourceError(SOURCE, f"{BLOCKS_FILE} holds no list of blocks", text=text)
    numbers: list[int] = []
    for first, last in spans:
        if last - first >= most - len(numbers):
            raise SourceError(SOURCE, f"there are more than {_MOST_BLOCKS} blocks in the nodes")
        numbers += range(first, last + 1)
    return numbers


def with_lists(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """A file for the blocks of each node, for a capture, and all other names of paths."""
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    others = []
    for name in names:
        if match := _BLOCK_PATH.fullmatch(name):
            numbers[match[1]].add(int(match[2]))
        else:
            others.append(name)
    return {f"{node}/{BLOCKS_FILE}": f"{_as_list(found)}\n" for node, found in numbers.items()}, others


def _as_list(numbers: Iterable[int]) -> str:
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def _blocks_of(root: HostFiles, node: int, most: int) -> list[int]:
    folder = f"{PATH}/node{node}"
    names = root.entries(SOURCE, folder)
    named = [int(m[1]) for name in names if (m := _BLOCK.fullmatch(name))]
    if BLOCKS_FILE not in names:
        return named
    return named + parse_blocks(root.read(SOURCE, f"{folder}/{BLOCKS_FILE}"), most)


def read_nodes(root: HostFiles) -> Reading[list[NodeRange]]:
    """Nodes of all memory blocks; a host with one node has all its memory there."""

    def read() -> list[NodeRange]:
        nodes = [int(m[1]) for name in root.entries(SOURCE, PATH) if (m := _NODE.fullmatch(name))]
        if not nodes:
            raise SourceError(SOURCE, f"no node in {root.locate(PATH)}")
        if len(nodes) == 1:
            return [NodeRange(0, ADDRESS_SPACE, nodes[0])]
        block_size = parse_block_size(root.read(SOURCE, BLOCK_SIZE_PATH, limit=4096))
        blocks: dict[int, list[int]] = {}
        left = _MOST_BLOCKS
        for node in sorted(nodes):
            blocks[node] = _blocks_of(root, node, left)
            left -= len(blocks[node])
        ranges = node_ranges(blocks, block_size)
        if not ranges:
            raise SourceError(SOURCE, f"no memory block in the nodes of {root.locate(PATH)}")
        return ranges

    return attempt(SOURCE, root.locate(PATH), read)
