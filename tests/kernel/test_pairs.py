# SPDX-License-Identifier: Apache-2.0
"""Pairs of boots that are kept in the repository: the first foretells the second."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.foretell import NO_BOOT, Grade, foretell, row_of_result
from tests.kernel.pairs import LONGEST, pairs

BOOTS = Path(__file__).parent / "boots"
ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases" / "boot-pairs.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['kernel']}-{row['number']}")
def test_the_first_boot_foretells_the_second(row: dict[str, Any]) -> None:
    """Regions to the byte where they are called exact, and nothing better than what came."""
    assert foretell(row).problems == []


def test_the_pairs_cover_what_matters() -> None:
    """Most are exact, TDX comes up or does not, and some kernels do not even boot."""
    found = [foretell(row) for row in ROWS]
    booted = [f for f in found if f.booted]
    assert 0 < len(found) - len(booted) < len(found) // 5
    assert {"initialized", "areas exhausted"} <= {f.row["outcome"] for f in booted}
    assert sum(f.simulated.exact for f in booted) > len(booted) // 2
    assert {Grade.FAILS, Grade.AT_RISK, Grade.COMES_UP} == {f.grade for f in found}


def test_a_wrong_map_is_caught() -> None:
    """The second command line is what counts: under the first, many regions are others."""
    wrong = [foretell({**row, "arguments": row["running"]}) for row in ROWS if row["outcome"] != NO_BOOT]
    assert sum(bool(f.problems) for f in wrong) > len(wrong) // 3


@pytest.mark.parametrize("series", ["6.12", "7.3"])
def test_boots_by_the_firmwares_map_alone(series: str) -> None:
    """The 504 boots that docs/ground-truth.md tells of, but for memory that ACPI adds and module failures."""
    with lzma.open(BOOTS / f"{series}-seed2.results.jsonl.xz", "rt") as lines:
        results = [json.loads(line) for line in lines]
    found = [
        foretell(row_of_result(result))
        for result in results
        if not result["dimms"] and not result["outcome"].startswith("failed")
    ]
    assert {str(f.row["number"]): f.problems for f in found if f.problems} == {}
    assert sum(f.simulated.exact for f in found) >= 400
    assert [f.row["number"] for f in found if f.plain_grade is Grade.FAILS and f.comes_up] == []


@pytest.mark.parametrize("seed", [1, 2])
def test_pairs_differ_in_their_arguments_alone(seed: int) -> None:
    """The same machine twice, command lines that are not cut off, and the same pairs for the same seed."""
    made = pairs(seed, 200)
    assert made == pairs(seed, 200)
    for pair in made:
        assert (pair.first.memory, pair.first.nodes) == (pair.second.memory, pair.second.nodes)
        assert pair.first.name != pair.second.name
        assert len(pair.second.command_line) < LONGEST + 100
