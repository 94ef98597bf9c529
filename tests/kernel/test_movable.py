# SPDX-License-Identifier: Apache-2.0
"""Where kernels have put the movable zone, in the runs that docs/ground-truth.md tells of."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from tdx_headroom.boots.movable import movable_starts
from tdx_headroom.facts.host_facts import MemoryRegion

BOOTS = Path(__file__).parent / "boots"


@pytest.mark.parametrize("series", ["6.12", "7.3"])
def test_movable_zones_are_where_they_are_computed(series: str) -> None:
    """To the page, on every node, for every share that was asked for; without one there is no such zone."""
    asked = 0
    with lzma.open(BOOTS / f"{series}-seed2.results.jsonl.xz", "rt") as lines:
        for row in map(json.loads, lines):
            regions = [MemoryRegion(*region) for region in row["memory_regions"]]
            found = movable_starts(regions, row["arguments"])
            if found is None:
                continue
            asked += any("core=" in argument for argument in row["arguments"])
            there = {z["node"]: z["start_pfn"] * 4096 for z in row["zones"] if z["zone"] == "Movable"}
            assert found == there, row["map"]
    assert asked > 10
