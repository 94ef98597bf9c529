# SPDX-License-Identifier: Apache-2.0
"""Boots that are kept in the repository: the agent's plan is the kernel's, a wrong planner is caught.

Needs neither QEMU nor a kernel; ``make kernel-test`` is the test that boots.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel import store
from tests.kernel.check import Result, check
from tests.kernel.maps import generate
from tests.kernel.truth import STANDIN
from tests.kernel.wrong import WRONG, caught_by

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOTS = Path(__file__).parent / "boots"
SERIES = ("6.12", "7.3")
MAPS = 60


@pytest.fixture(scope="module", params=SERIES)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Every kept boot of one kernel, checked."""
    folder = tmp_path_factory.mktemp("boots")
    store.unpack(BOOTS / f"{request.param}.jsonl.xz", folder)
    return [check(case) for case in store.load_run(folder)]


@pytest.fixture(scope="module")
def caught(results: list[Result]) -> Mapping[str, list[str]]:
    """For each wrong planner the boots that catch it."""
    return caught_by((result.case, result.facts) for result in results if result.facts is not None)


def test_the_agent_plans_what_the_kernel_made(results: list[Result]) -> None:
    """On every map, with all sources and with fewer."""
    assert len(results) == MAPS
    problems = {result.case.guest.name: result.problems for result in results if result.problems}
    assert problems == {}


def test_the_maps_reach_both_sides_of_the_limit(results: list[Result]) -> None:
    """One area too many, none left, one left; TDMRs exhausted; no room for a PAMT."""
    assert {-1, 0, 1} <= {result.headroom for result in results}
    assert {"initialized", "areas exhausted", "TDMRs exhausted", "no room for a PAMT"} <= {
        result.outcome for result in results
    }


def test_pamts_are_where_they_are_predicted(results: list[Result]) -> None:
    """At least 99 of 100 in the TDMR that was predicted, and no TDMR needs more than its worst case."""
    places = [result.places for result in results if result.places is not None]
    pamts = sum(len(place.tdmrs) for place in places)
    assert pamts > 150
    assert sum(place.right_tdmr for place in places) >= 0.99 * pamts
    assert all(place.in_range for place in places)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_planner_is_caught(caught: Mapping[str, list[str]], name: str) -> None:
    """60 maps are enough to catch it."""
    assert caught[name]


def test_the_agent_cannot_see_the_answers(results: list[Result]) -> None:
    """No file of a captured root has a line of the stand-in, and the log looks as if none was there."""
    for result in results:
        root = result.case.root
        log = (root / "dev/kmsg").read_text()
        assert STANDIN not in log
        numbers = [int(line.split(",")[1]) for line in log.splitlines() if not line.startswith(" ")]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert not [path for path in root.rglob("*") if path.is_file() and STANDIN in path.read_text()]


def test_the_boots_are_of_the_maps_that_are_generated_now(results: list[Result]) -> None:
    """Else the kept boots are old: make them anew (README.md)."""
    assert [result.case.guest for result in results] == generate(1, MAPS)
