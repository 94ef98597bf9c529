# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.node_map import NodeMap
from tdx_headroom.facts.observations import NodeRange
from tdx_headroom.facts.sources import Disagreement, MemorySource
from tdx_headroom.host.memory_map import MemoryMap, choose, disagreements, from_ranges

TWO = NodeMap("nodes", [NodeRange(GIB, 2 * GIB, 1), NodeRange(0, GIB, 0)])


def view(name: str, *ranges: tuple[int, int]) -> MemoryMap:
    source = MemorySource(name)
    return MemoryMap(source, tuple(MemoryRegion(start, end, 0) for start, end in ranges), source)


@pytest.mark.parametrize(
    ("address", "node"), [(0, 0), (GIB - 1, 0), (GIB, 1), (2 * GIB - 1, 1), (2 * GIB, None), (1 << 64, None)]
)
def test_node_of_an_address(address: int, node: int | None) -> None:
    """An address has the node of the range that holds it; beyond all ranges it has none."""
    assert TWO.node_of(address) == node


def test_address_below_all_ranges() -> None:
    """What lies before the first range has no node."""
    assert NodeMap("x", [NodeRange(4096, 8192, 0)]).node_of(0) is None
    assert NodeMap("x", []).node_of(0) is None


def test_split_at_the_border_of_nodes() -> None:
    """A range is cut where the node changes, as memblock cuts it."""
    assert TWO.split([Range(MIB, 2 * GIB)]) == [MemoryRegion(MIB, GIB, 0), MemoryRegion(GIB, 2 * GIB, 1)]


def test_split_where_no_node_is_known() -> None:
    """Parts that no range covers are regions without a node."""
    nodes = NodeMap("x", [NodeRange(4096, 8192, 0), NodeRange(16384, 20480, 1)])
    assert nodes.split([Range(0, 24576)]) == [
        MemoryRegion(0, 4096, None),
        MemoryRegion(4096, 8192, 0),
        MemoryRegion(8192, 16384, None),
        MemoryRegion(16384, 20480, 1),
        MemoryRegion(20480, 24576, None),
    ]


def test_no_split_inside_a_node() -> None:
    """Touching node ranges of one node do not cut a range."""
    nodes = NodeMap("x", [NodeRange(0, GIB, 3), NodeRange(GIB, 2 * GIB, 3)])
    assert nodes.split([Range(MIB, 2 * GIB)]) == [MemoryRegion(MIB, 2 * GIB, 3)]


def test_touching_ranges_stay_apart() -> None:
    """Splitting joins nothing that came as two ranges."""
    nodes = NodeMap("x", [NodeRange(0, GIB, 0)])
    assert len(nodes.split([Range(0, 4096), Range(4096, 8192)])) == 2


def test_split_up_to_the_last_address() -> None:
    """Ranges may end at 2^64."""
    nodes = NodeMap("x", [NodeRange(0, 1 << 64, 0)])
    assert nodes.split([Range(1 << 63, 1 << 64)]) == [MemoryRegion(1 << 63, 1 << 64, 0)]


def test_view_without_nodes() -> None:
    """A source that knows no nodes, and nobody to ask: regions without nodes."""
    found = from_ranges(MemorySource.IOMEM, [Range(0, 4096)], None)
    assert found == MemoryMap(MemorySource.IOMEM, (MemoryRegion(0, 4096, None),), None)


def test_view_with_nodes_of_another_source() -> None:
    """Nodes from elsewhere are named."""
    found = from_ranges(MemorySource.IOMEM, [Range(MIB, 2 * GIB)], TWO)
    assert found.node_source == "nodes"
    assert [region.node for region in found.regions] == [0, 1]


def test_pages_of_a_view() -> None:
    """Views are compared by whole pages from 1 MiB on, touching regions joined first."""
    found = view("x", (0, MIB + 100), (MIB + 100, 3 * MIB + 5), (4 * MIB + 1, 4 * MIB + 4096))
    assert found.pages == [(MIB, 3 * MIB)]


def test_best_source_first() -> None:
    """The first view counts."""
    assert choose([]) is None
    memblock, iomem = view("memblock", (MIB, GIB)), view("iomem", (MIB, 2 * GIB))
    assert choose([memblock, iomem]) is memblock
    assert choose([iomem]) is iomem


def test_boot_list_against_the_live_view() -> None:
    """The boot's list counts unless the live view shows that memory came or went."""
    boot = view("log-node-ranges", (0x1000, 0x9F000), (MIB, GIB))
    same = view("iomem", (0x1000, 0x9FC00), (MIB, GIB))
    more = view("iomem", (0x1000, 0x9FC00), (MIB, GIB), (4 * GIB, 5 * GIB))
    assert choose([boot, same]) is boot
    assert choose([boot, more]) is more
    assert choose([boot, view("log-e820", (MIB, 2 * GIB)), more]) is more
    assert choose([boot, view("firmware-memmap", (MIB, 2 * GIB))]) is boot


def test_disagreements() -> None:
    """Each other view that differs is named with what only one of the two has."""
    chosen = view("memblock", (MIB, GIB), (4 * GIB, 5 * GIB))
    same = view("iomem", (0, 100), (MIB, GIB), (4 * GIB, 5 * GIB))
    other = view("firmware-memmap", (MIB, 2 * GIB))
    assert disagreements([chosen, same, other], chosen) == (
        Disagreement("memblock", "firmware-memmap", (Range(4 * GIB, 5 * GIB),), (Range(GIB, 2 * GIB),)),
    )
    assert disagreements([same, other], None) == ()
    assert disagreements([chosen], chosen) == ()
