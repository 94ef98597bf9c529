# SPDX-License-Identifier: Apache-2.0
"""A host with a history in, every output of it out. `make golden` rewrites the files; read the diff."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric  # noqa: TC002  the registry looks at annotations
from tests.tools.generated import assert_current

from tdx_headroom.inputs.history import history_of
from tdx_headroom.inputs.named import Kind, Named
from tdx_headroom.inputs.read import Found, read_hosts
from tdx_headroom.output import metrics
from tdx_headroom.output.history_report import history_json, history_text
from tdx_headroom.output.metrics import AgentStatus
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.history import headroom_range

GOLDEN = Path(__file__).parent / "history"
JOURNAL = GOLDEN.parents[1] / "history" / "bios-update.json"
"""Seven boots: another kernel, and then another BIOS, under which the host needs 11 to 14 areas."""


def assessed() -> Assessment:
    (found,) = read_hosts([Named(Kind.LOG, str(JOURNAL))])
    assert not isinstance(found.facts, Exception)
    return assess(found.facts)


def history() -> Found:
    with history_of(Named(Kind.LOG, str(JOURNAL)), lambda _: None) as found:
        assert isinstance(found, Found)
        return found


class _Agent:
    """What the agent exports of its records, with times that stand still."""

    def collect(self) -> list[Metric]:
        records = history().records
        status = AgentStatus(0.0, 0.0, recorded_boots=len(records), recorded_headroom=headroom_range(records))
        return metrics.collect(assessed(), status)


def show(kind: str) -> str:
    found = history()
    if kind == "prom":
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Agent())
        return re.sub(r"e\+0([0-9]{2})\b", r"e+\1", generate_latest(registry).decode())
    return {
        "txt": lambda: history_text(assessed().facts.host, found.records, Style()),
        "json": lambda: json.dumps(history_json(assessed().facts.host, found.records), indent=1) + "\n",
        "plan.txt": lambda: render(assessed(), Style()),
        "plan.json": lambda: json.dumps(to_json(assessed()), indent=1) + "\n",
        "html": lambda: render_page(assessed(), records=found.records),
    }[kind]().replace(f"{JOURNAL.parent.resolve()}/", "/")


@pytest.mark.parametrize("kind", ["txt", "json", "plan.txt", "plan.json", "prom", "html"])
def test_outputs_of_a_history_are_as_recorded(kind: str, request: pytest.FixtureRequest) -> None:
    """Every output of a host with earlier boots is the recorded one, to the letter."""
    path = GOLDEN / f"bios-update.{kind}"
    actual = show(kind)
    if request.config.getoption("--rewrite-golden"):
        path.write_text(actual, "utf-8")
    assert_current(path, actual, "make golden")
