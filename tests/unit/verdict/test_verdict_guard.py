# SPDX-License-Identifier: Apache-2.0
"""A part of the verdict that fails by an error of the agent's own takes no other along, and is named."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest

from tdx_headroom.cli import main
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.service.agent import Agent
from tdx_headroom.verdict import State, obstacles
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.check_model import Result
from tdx_headroom.verdict.checks import run_checks
from tdx_headroom.verdict.findings import Severity
from tdx_headroom.verdict.fleet import MAINLINE, audit_host

HOST = Path(__file__).parents[2] / "hosts" / "emerald-rapids"
SECRET = "0x64158000"


def fault(*_: object, **__: object) -> NoReturn:
    message = f"no such thing at {SECRET}"
    raise LookupError(message)


@pytest.fixture(
    params=[
        "remedies.areas._split",
        "remedies.own.map_edits",
        "remedies.search.search",
        "remedies.areas._what",
        "remedies.kernels._other_kernels",
        "judge.estimate",
        "obstacles.failed.remedies_for",
        "few-tdmrs",
        "other-kernel",
        "obstacles.part_of_the_map.beyond_the_map",
        "obstacles.contradictions.contradicts_hardware",
        "obstacles.unknown._cmrs",
        "crosscheck._areas",
    ],
)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One part of the verdict ends in an error that nobody has thought of; where."""
    name = str(request.param)
    rows = [row._replace(look=fault) if name in row.kinds else row for row in obstacles.REGISTRY]
    if rows != list(obstacles.REGISTRY):
        monkeypatch.setattr(obstacles, "REGISTRY", rows)
    else:
        module, _, function = f"tdx_headroom.verdict.{name}".rpartition(".")
        monkeypatch.setattr(import_module(module), function, fault)
    return name


def test_the_rest_is_served(broken: str) -> None:
    """State, summary and all other parts are as without the fault; what failed is named with its place."""
    verdict = assess(read_facts(Root(HOST))).verdict
    assert verdict.state is State.FAILED, broken
    (failure,) = verdict.failures
    assert "LookupError" in failure.error
    assert "test_verdict_guard.py" in failure.place
    warning = next(w for w in verdict.warnings if w.startswith("This answer lacks"))
    assert failure.part in warning
    assert failure.place in warning
    assert len(verdict.remedies) >= 4
    assert len(verdict.evidence) >= 3


def test_every_command_answers(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """plan, check and fleet give their answer, with what it lacks."""
    assert main(["plan", "--root", str(HOST)]) == 0
    shown = capsys.readouterr()
    assert "This answer lacks" in shown.out, broken
    assert "Traceback" not in shown.out + shown.err
    assert main(["check", "--root", str(HOST), "--format", "json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert any(check["name"] == "agent" and check["result"] == "WARN" for check in report["checks"])
    assert audit_host(read_facts(Root(HOST)), "x", None, [MAINLINE]).state is State.FAILED


def test_the_agent_serves_it_and_logs_the_place(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """serve has its first assessment, and the log says in which file and line the error was."""
    agent = Agent(Root(HOST))
    agent.refresh()
    assert agent.assessment is not None, broken
    streams = capsys.readouterr()
    logged = streams.out + streams.err
    assert "a part of the verdict failed" in logged
    assert "test_verdict_guard.py:" in logged
    assert "LookupError" in logged


@pytest.mark.usefixtures("broken")
def test_what_the_error_quotes_stays_on_the_host() -> None:
    """Over the network only the place of an error is shown: its text may hold anything."""
    assessment = assess(read_facts(Root(HOST)))
    for text in (render_page(assessment), json.dumps(to_json(assessment, full_addresses=False))):
        assert SECRET not in text
        assert "LookupError" not in text
        assert "This answer lacks" in text
    assert SECRET in render_page(assessment, full_addresses=True)


@pytest.mark.parametrize("broken_row", obstacles.REGISTRY, ids=lambda row: row.kinds[0])
@pytest.mark.parametrize("name", ["emerald-rapids", "good-2-node"])
def test_an_obstacle_that_fails_loses_itself_alone(
    broken_row: obstacles.Row, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other findings are there, what is lacking is named, and nothing better is promised."""
    facts = replace(read_facts(Root(HOST.parent / name)), kernel_log=None)
    whole = assess(facts).verdict
    rows = [row._replace(look=fault) if row is broken_row else row for row in obstacles.REGISTRY]
    monkeypatch.setattr(obstacles, "REGISTRY", rows)
    verdict = assess(facts).verdict
    (failure,) = verdict.failures
    assert failure.part == broken_row.part
    assert verdict.findings[-1].kind == "agent-error"
    left = [finding for finding in whole.findings if finding.kind not in broken_row.kinds]
    assert list(verdict.findings[:-1]) == left
    decides = broken_row.worst is not Severity.NOTE or broken_row.doubts is not None
    promised = {whole.next_boot} if not decides else {State.WILL_FAIL, None}
    assert verdict.next_boot in promised


def test_an_obstacle_that_cannot_be_told_is_no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an obstacle may be hidden, a plan that fits promises nothing; what surely fails still does."""
    good = replace(read_facts(Root(HOST.parent / "good-2-node")), kernel_log=None)
    assert assess(good).verdict.next_boot is State.WILL_INITIALIZE
    monkeypatch.setattr("tdx_headroom.verdict.obstacles.hibernation.hibernation_blocks", fault)
    verdict = assess(good).verdict
    assert (verdict.state, verdict.next_boot) == (State.CANNOT_TELL, None)
    assert "error in the agent" in verdict.summary
    assert assess(read_facts(Root(HOST))).verdict.next_boot is State.WILL_FAIL


def test_hardware_that_cannot_be_compared_is_no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known whether the log contradicts the hardware, nothing is foretold from it."""
    good = read_facts(Root(HOST.parent / "good-2-node"))
    assert assess(good).verdict.next_boot is State.WILL_INITIALIZE
    monkeypatch.setattr("tdx_headroom.verdict.obstacles.contradictions.contradicts_hardware", fault)
    verdict = assess(good).verdict
    assert verdict.next_boot is None
    assert verdict.failures[0].part == "whether log and hardware agree"


def test_a_check_that_fails_costs_its_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree of checks is whole but for the group of the one that failed."""
    monkeypatch.setattr("tdx_headroom.verdict.checks.hibernation_blocks", fault)
    checks = run_checks(assess(read_facts(Root(HOST))))
    assert {check.group for check in checks} == {"platform", "inputs", "plan", "other kernels", "verdict"}
    (failed,) = [check for check in checks if check.name == "agent"]
    assert failed.result is Result.WARN
    assert "test_verdict_guard.py" in failed.message
