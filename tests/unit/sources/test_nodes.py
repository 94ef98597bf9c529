# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import NodeRange
from tdx_headroom.sources.nodes import node_ranges, parse_block_size, parse_blocks, read_nodes, with_lists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

BLOCK = 0x800_0000
NODES = "sys/devices/system/node"
BLOCK_SIZE = "sys/devices/system/memory/block_size_bytes"


def host(blocks: Mapping[int, Iterable[int]]) -> dict[str, str | bytes]:
    """Files of a host whose nodes have these memory blocks."""
    files: dict[str, str | bytes] = {
        BLOCK_SIZE: f"{BLOCK:x}\n",
        f"{NODES}/online": "0-1\n",
        f"{NODES}/has_cpu": "0\n",
    }
    for node, numbers in blocks.items():
        files[f"{NODES}/node{node}/cpulist"] = "0-3\n"
        files |= {f"{NODES}/node{node}/memory{n}/state": "online\n" for n in numbers}
    return files


@pytest.mark.parametrize(("text", "size"), [("8000000\n", 0x8000000), ("80000000", 1 << 31), ("1\n", 1)])
def test_block_size_is_hexadecimal(text: str, size: int) -> None:
    """The size has hexadecimal digits and no prefix."""
    assert parse_block_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "\n", "0\n", "0x8000000\n", "128M\n", "-8\n", "8000000 8000000\n", "1" * 17]
)
def test_no_block_size(text: str) -> None:
    """Zero, a prefix or a unit is no size."""
    with pytest.raises(SourceError) as caught:
        parse_block_size(text)
    assert caught.value.reason == f"{BLOCK_SIZE} holds no size"


def test_neighbouring_blocks_of_a_node_are_one_range() -> None:
    """Blocks are joined as long as they touch and have the same node."""
    ranges = node_ranges({0: [0, 1, 2, 33], 1: [3, 4, 32]}, BLOCK)
    assert ranges == [
        NodeRange(0, 3 * BLOCK, 0),
        NodeRange(3 * BLOCK, 5 * BLOCK, 1),
        NodeRange(32 * BLOCK, 33 * BLOCK, 1),
        NodeRange(33 * BLOCK, 34 * BLOCK, 0),
    ]


@pytest.mark.parametrize("sharing", [(0, 1), (0, 1, 2)], ids=["two", "three"])
def test_shared_block_has_no_node(sharing: tuple[int, ...]) -> None:
    """The border of two nodes inside a block is unknown, so the block belongs to neither."""
    blocks = {node: [node * 10 + 100, 7] for node in sharing}
    ranges = node_ranges(blocks, BLOCK)
    assert all(not r.start <= 7 * BLOCK < r.end for r in ranges)
    assert len(ranges) == len(sharing)


def test_host_with_two_nodes(host_tree: HostTree) -> None:
    """Each node's blocks come from its folder, in numeric order."""
    reading = read_nodes(host_tree(host({0: [0, 1, 2, 9, 10, 11], 1: [12, 100]})))
    assert reading.value == [
        NodeRange(0, 3 * BLOCK, 0),
        NodeRange(9 * BLOCK, 12 * BLOCK, 0),
        NodeRange(12 * BLOCK, 13 * BLOCK, 1),
        NodeRange(100 * BLOCK, 101 * BLOCK, 1),
    ]


def test_lists_of_a_capture(host_tree: HostTree) -> None:
    """A file with the numbers stands for a name each, also where no number has a neighbour."""
    blocks = {0: [0, 1, 2, 9, 11], 1: [12, 100], 2: []}
    names = [f"{NODES}/node{node}/memory{number}" for node in blocks for number in blocks[node]]
    lists, others = with_lists([*names, f"{NODES}/node2/", f"{NODES}/node0/memory3x", "sys/memory4"])
    assert lists == {f"{NODES}/node0/blocks": "0-2,9,11\n", f"{NODES}/node1/blocks": "12,100\n"}
    assert others == [f"{NODES}/node2/", f"{NODES}/node0/memory3x", "sys/memory4"]
    files: dict[str, str | bytes] = {BLOCK_SIZE: f"{BLOCK:x}\n", f"{NODES}/node2/cpulist": "0\n", **lists}
    assert read_nodes(host_tree(files)).value == node_ranges(blocks, BLOCK)


@pytest.mark.parametrize(
    "text", ["", "\n", "1-", "-1", "1,,2", "1, 2", "0x1", "1-2-3", "1\n2", "1234567890", "\u0661", "7-5"]
)
def test_no_list_of_blocks(text: str) -> None:
    """Anything but numbers and spans is refused."""
    with pytest.raises(SourceError) as caught:
        parse_blocks(text)
    assert caught.value.reason == "blocks holds no list of blocks"


@pytest.mark.parametrize("text", ["0-131072", "0-65535,100000-165536", "1-999999999"])
def test_list_of_too_many_blocks(text: str) -> None:
    """A short text cannot stand for more blocks than a folder can hold names."""
    with pytest.raises(SourceError) as caught:
        parse_blocks(text)
    assert caught.value.reason == "there are more than 131072 blocks in the nodes"
    assert len(parse_blocks("0-131071")) == 131072


def test_lists_of_too_many_blocks_together(host_tree: HostTree) -> None:
    """However many nodes there are, their lists stand for no more than a folder can hold."""
    files: dict[str, str | bytes] = {BLOCK_SIZE: f"{BLOCK:x}\n"}
    files |= {f"{NODES}/node{n}/blocks": f"{n * 100_000}-{n * 100_000 + 99_999}\n" for n in range(2)}
    assert str(read_nodes(host_tree(files)).error) == "nodes: there are more than 131072 blocks in the nodes"


def test_names_beside_a_list(host_tree: HostTree) -> None:
    """A name that a list could not stand for counts with it: block 0 is there twice."""
    lists, others = with_lists([f"{NODES}/node0/memory{number}" for number in ("0", "00", "1")])
    assert (lists, others) == ({f"{NODES}/node0/blocks": "0-1\n"}, [f"{NODES}/node0/memory00"])
    files = {BLOCK_SIZE: f"{BLOCK:x}\n", f"{NODES}/node1/memory2": "", **lists, others[0]: ""}
    assert read_nodes(host_tree(files)).value == node_ranges({0: [0, 0, 1], 1: [2]}, BLOCK)


def test_single_node_has_all_memory(host_tree: HostTree) -> None:
    """With one node there is nothing to look up: it has every address, block size or not."""
    files = host({0: [0, 1]})
    del files[BLOCK_SIZE]
    assert read_nodes(host_tree(files)).value == [NodeRange(0, 1 << 64, 0)]


def test_single_node_need_not_be_node_0(host_tree: HostTree) -> None:
    """The only node keeps its number."""
    assert read_nodes(host_tree(host({3: [0]}))).value == [NodeRange(0, 1 << 64, 3)]


def test_node_without_memory(host_tree: HostTree) -> None:
    """A node that has only processors takes no memory from the others."""
    reading = read_nodes(host_tree(host({0: [0, 1], 1: [], 2: [2]})))
    assert reading.value == [NodeRange(0, 2 * BLOCK, 0), NodeRange(2 * BLOCK, 3 * BLOCK, 2)]


def test_other_names_are_no_blocks(host_tree: HostTree) -> None:
    """Files whose names only look like a memory block or a node are left alone."""
    files = host({0: [0], 1: [1]})
    files |= {
        f"{NODES}/node0/memory": "",
        f"{NODES}/node0/memory2x": "",
        f"{NODES}/node0/memory_failure/total": "0",
    }
    files |= {f"{NODES}/nodes": "", f"{NODES}/node1a/memory7/state": "", f"{NODES}/possible": "0-1"}
    assert read_nodes(host_tree(files)).value == [NodeRange(0, BLOCK, 0), NodeRange(BLOCK, 2 * BLOCK, 1)]


def test_no_node(host_tree: HostTree) -> None:
    """A folder without any node is an error."""
    root = host_tree({f"{NODES}/online": "0\n"})
    assert str(read_nodes(root).error) == f"nodes: no node in {root.path}/{NODES}"


def test_missing_block_size(host_tree: HostTree) -> None:
    """Several nodes need the block size: without it nothing is known."""
    files = host({0: [0], 1: [1]})
    del files[BLOCK_SIZE]
    reading = read_nodes(host_tree(files))
    assert reading.value is None
    assert str(reading.error).endswith(f"{BLOCK_SIZE}: No such file or directory")


def test_no_folder(host_tree: HostTree) -> None:
    """Without sysfs there is an error, not one node."""
    reading = read_nodes(host_tree({}))
    assert reading.value is None
    assert str(reading.error).endswith(f"{NODES}: No such file or directory")
