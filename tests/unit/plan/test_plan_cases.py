# SPDX-License-Identifier: Apache-2.0
"""The plan against the kernel's own functions and the TDX module's own checks, layout by layout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tdx_headroom.cli import main

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "cases" / "tdmr-cases.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """All cases through the command line, as a user would ask."""
    facts = "".join(json.dumps(case["facts"]) + "\n" for case in CASES)
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(facts.encode())))
        patch.setattr("sys.stdout", out)
        assert main(["plan", "--facts", "-"]) == 0
    return {plan["host"]: plan["strategies"] for plan in map(json.loads, out.getvalue().splitlines())}


@pytest.mark.parametrize("strategy", ["memory-regions", "cmr-subregion", "cmr-walk"])
@pytest.mark.parametrize("case", CASES, ids=[case["facts"]["host"] for case in CASES])
def test_plan_is_the_kernels(case: dict[str, Any], strategy: str, answers: dict[str, Any]) -> None:
    """Errno, messages, TDMRs, nodes, PAMTs, areas and the module's answer are the kernel's and module's."""
    expected = case["expected"][strategy]
    plan = answers[case["facts"]["host"]][strategy]
    for key in ("errno", "messages", "failed_tdmr", "tdmrs_needed", "pamt_kib"):
        assert plan[key] == expected[key], key
    assert [
        [t["base"], t["size"], t["node"], *(t["pamt"][f"size_{size}"] for size in ("4k", "2m", "1g"))]
        for t in plan["tdmrs"]
    ] == expected["tdmrs"]
    if expected["needed"] is not None:
        assert [[t["needed_holes"], t["needed_pamts"]] for t in plan["tdmrs"]] == expected["needed"]
        limit = case["facts"]["limits"]["max_reserved_per_tdmr"]
        assert [t["headroom"] for t in plan["tdmrs"]] == [limit - sum(n) for n in expected["needed"]]
    if expected["areas"] is not None:
        areas = [[[a["offset"], a["size"]] for a in t["reserved_areas"]] for t in plan["tdmrs"]]
        assert [sorted(of_tdmr) for of_tdmr in areas] == expected["areas"]
    if expected["module"] is not None:
        assert [plan["module"]["status"], plan["module"]["tdmr"]] == expected["module"]
