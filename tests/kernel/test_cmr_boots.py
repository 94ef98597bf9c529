# SPDX-License-Identifier: Apache-2.0
"""Boots of kernels that look at CMRs, kept in the repository: the agent's plan is theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel import store
from tests.kernel.check import Result, check
from tests.kernel.wrong import caught_by

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOTS = Path(__file__).parent / "boots"
STRATEGIES = ("cmr-subregion", "cmr-walk")
MAPS = 30


@pytest.fixture(scope="module", params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    """How the kernel looks for holes."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def results(strategy: str, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Every kept boot under that strategy, checked."""
    folder = tmp_path_factory.mktemp("boots")
    store.unpack(BOOTS / f"7.3-{strategy}.jsonl.xz", folder)
    return [check(case) for case in store.load_run(folder)]


def test_the_agent_plans_what_the_kernel_made(strategy: str, results: list[Result]) -> None:
    """On every map, with CMR lists of every kind."""
    assert len(results) == MAPS
    assert {result.case.guest.strategy for result in results} == {strategy}
    problems = {result.case.guest.name: result.problems for result in results if result.problems}
    assert problems == {}
    outcomes = {result.outcome for result in results}
    assert {"initialized", "failed in the module"} <= outcomes


def test_wrong_planners_are_caught(strategy: str, results: list[Result]) -> None:
    """Each of those that are wrong about CMRs."""
    caught: Mapping[str, list[str]] = caught_by(
        ((result.case, result.facts) for result in results if result.facts is not None), strategy
    )
    assert len(caught) > 4
    assert {name for name, maps in caught.items() if not maps} == set()
