# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.boots.movable import movable_starts
from tdx_headroom.facts.host_facts import MemoryRegion

ONE = (MemoryRegion(0, 2 * GIB, 0), MemoryRegion(4 * GIB, 10 * GIB, 0))
TWO = (*ONE, MemoryRegion(10 * GIB, 18 * GIB, 1))
UNEQUAL = (*ONE, MemoryRegion(10 * GIB, 12 * GIB, 1))
SMALL = (MemoryRegion(0, 2 * GIB, 0),)


@pytest.mark.parametrize(
    ("regions", "arguments", "starts"),
    [
        (ONE, (), {}),
        (ONE, ("kernelcore=4G",), {0: 6 * GIB}),
        (ONE, ("kernelcore=1G",), {0: 4 * GIB}),
        (ONE, ("kernelcore=50%",), {0: 6 * GIB}),
        (ONE, ("movablecore=4G",), {0: 6 * GIB}),
        (ONE, ("movablecore=4G", "kernelcore=5G"), {0: 7 * GIB}),
        (ONE, ("kernelcore=4G", "kernelcore=5G"), {0: 7 * GIB}),
        (ONE, ("kernelcore=8G",), {}),
        (ONE, ("kernelcore=0",), {}),
        (ONE, ("kernelcore=4097M",), {0: 6 * GIB + 4 * MIB}),
        (TWO, ("kernelcore=8G",), {0: 6 * GIB, 1: 14 * GIB}),
        # Node 1 has not its half to give: node 0 gives the rest.
        (UNEQUAL, ("kernelcore=6G",), {0: 6 * GIB}),
        (SMALL, ("kernelcore=1G",), {0: GIB}),
    ],
)
def test_where_the_movable_zone_begins(
    regions: tuple[MemoryRegion, ...], arguments: tuple[str, ...], starts: dict[int, int]
) -> None:
    """The kernel's share is spread over the nodes, never above what the movable zone can begin at."""
    assert movable_starts(regions, arguments) == starts


@pytest.mark.parametrize(
    ("regions", "arguments"),
    [
        (ONE, ("movable_node",)),
        (ONE, ("movable-node", "kernelcore=1G")),
        (ONE, ("kernelcore=mirror",)),
        ([MemoryRegion(0, GIB, None)], ("kernelcore=1G",)),
    ],
)
def test_what_cannot_be_told(regions: tuple[MemoryRegion, ...], arguments: tuple[str, ...]) -> None:
    """SRAT's hot-plug flags, mirrored memory and unknown nodes decide."""
    assert movable_starts(regions, arguments) is None


def test_unknown_nodes_do_not_matter_without_such_arguments() -> None:
    """Then there is no movable zone, whatever the nodes."""
    assert movable_starts([MemoryRegion(0, GIB, None)], ("mem=4G",)) == {}
