# SPDX-License-Identifier: Apache-2.0
"""The dashboards as files: valid for Grafana, portable, and about metrics that exist.

That their queries return data is tested beside the real Prometheus, in tests/integration/test_prometheus.py.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from jsonschema import Draft7Validator

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.output.metric_families import FAMILIES
from tdx_headroom.plan import Outcome, Strategy
from tdx_headroom.verdict import State
from tdx_headroom.verdict.findings import Severity
from tests.grafana.board import panels_of
from tests.grafana.colours import BAD, WORDS
from tests.grafana.files import DASHBOARDS, FOLDER, text_of
from tests.grafana.panels import SOURCE
from tests.grafana.schema import make
from tests.tools.generated import assert_current

if TYPE_CHECKING:
    from tests.grafana.colours import Json

SCREEN = 22
"""Rows of Grafana's grid that a screen of 1920x1080 shows below Grafana's own bars."""

RULES = Path(__file__).parents[2] / "packaging" / "prometheus" / "tdx-headroom.rules.yml"
each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Draft7Validator:
    return Draft7Validator(make(tmp_path_factory.mktemp("schema")))


def load(name: str) -> Json:
    board: Json = json.loads((FOLDER / name).read_text("utf-8"))
    return board


def queries(board: Json) -> list[str]:
    return [target["expr"] for panel in panels_of(board) for target in panel["targets"]]


def headings(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] == "row"]


def placed(board: Json) -> list[Json]:
    """Headings and panels, those of the collapsed row too: it is the last one."""
    return [*headings(board), *panels_of(board)]


@each_dashboard
def test_file_is_what_the_code_says(name: str) -> None:
    """The shipped files are up to date."""
    assert_current(FOLDER / name, text_of()[name], "make docs")


@each_dashboard
def test_grafana_knows_every_key(name: str, schema: Draft7Validator) -> None:
    """Every key and value is one of Grafana's own types, of the dashboard and of each kind of panel."""
    assert [f"{list(e.absolute_path)}: {e.message:.300}" for e in schema.iter_errors(load(name))] == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("refresh",), 60),
        (("panels", 1, "options", "graphMode"), "bars"),
        (("panels", 1, "options", "colour"), "red"),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "steps"), None),
        (("panels", 1, "gridPos", "w"), "wide"),
        (("templating", "list", 0, "typ"), "query"),
    ],
    ids=str,
)
def test_the_schema_would_find_something(
    schema: Draft7Validator, where: tuple[str | int, ...], value: object
) -> None:
    """The schema does look: a wrong type, value or key anywhere does not pass."""
    board = copy.deepcopy(load("tdx-headroom-fleet.json"))
    at = board
    for key in where[:-1]:
        at = at[key]  # type: ignore[index]
    at[where[-1]] = value  # type: ignore[index]
    assert not schema.is_valid(board)


@each_dashboard
def test_it_can_be_imported_anywhere(name: str) -> None:
    """No number of a database, no data source but the chosen one, ids of panels that are unique."""
    board = load(name)
    assert "id" not in board
    assert "__inputs" not in board
    assert len({panel["id"] for panel in placed(board)}) == len(placed(board))
    sources = [item["datasource"] for panel in panels_of(board) for item in [panel, *panel["targets"]]]
    sources += [v["datasource"] for v in board["templating"]["list"] if "datasource" in v]
    assert all(source == SOURCE for source in sources)
    assert len({b["uid"] for b in DASHBOARDS.values()}) == len(DASHBOARDS)


@each_dashboard
def test_every_variable_is_there(name: str) -> None:
    """What queries and links name as a variable is one of the dashboard, or Grafana's."""
    board = load(name)
    known = {variable["name"] for variable in board["templating"]["list"]} | {
        "__rate_interval",
        "__data",
        "__all",
    }
    text = json.dumps(board)
    assert {a or b for a, b in re.findall(r"\$\{(\w+)[}.]|\$(\w+)", text)} <= known


@each_dashboard
def test_panels_lie_side_by_side(name: str) -> None:
    """No panel covers another or sticks out of the 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in placed(load(name)):
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@each_dashboard
def test_every_panel_says_what_it_shows(name: str) -> None:
    """Titles are unique, and every panel has a description."""
    panels = list(panels_of(load(name)))
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"].endswith(".") for panel in panels)


@each_dashboard
def test_only_series_that_exist_are_asked_for(name: str) -> None:
    """Metrics are the agent's, recorded series are those of the rules."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    for query in queries(load(name)):
        names = set(re.findall(r"[a-z_]*:?tdx_[a-z_]+(?::[a-z]+)?", query))
        assert names <= recorded | set(FAMILIES), query


def test_targets_of_other_jobs_are_not_counted() -> None:
    """All jobs are chosen as `.+`: what asks for `up`, which every target has, names TDXAgentDown's jobs."""
    matcher = re.search(r"up\{(job=~\"[^\"]+\")\}", RULES.read_text("utf-8"))
    assert matcher
    asking = [query for name in DASHBOARDS for query in queries(load(name)) if re.search(r"\bup\{", query)]
    assert asking
    assert all(matcher[1] in query for query in asking), asking


def test_links_lead_to_the_other_dashboard() -> None:
    """Links between the dashboards name their uids."""
    uids = {board["uid"] for board in DASHBOARDS.values()}
    for board in DASHBOARDS.values():
        assert set(re.findall(r"/d/([a-z-]+)", json.dumps(board))) <= uids


def alert_severities() -> set[str]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["labels"]["severity"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_word_of_the_agent_has_a_colour() -> None:
    """Each value of a label that is coloured has one, and no colour is for a value that does not exist."""
    values = {
        "verdict": set(State),
        "state": set(ModuleState),
        "outcome": set(Outcome),
        "severity": set(Severity) | alert_severities(),
    }
    coloured = {label: set(colours) for label, colours in WORDS.items()}
    assert coloured == values, "WORDS in tests/grafana/colours.py, then make docs"
    bad = {State.FAILED, State.WILL_FAIL, Severity.FAILS, "critical", *Outcome} - {Outcome.OK}
    assert {word for colours in WORDS.values() for word, to in colours.items() if to == BAD} == bad


@each_dashboard
def test_coloured_labels_are_coloured_wherever_they_are_shown(name: str) -> None:
    """A column or figure with a label of WORDS has the mappings of all its values."""
    shown = 0
    for panel in panels_of(load(name)):
        for label, column in columns(panel):
            if label in WORDS:
                shown += 1
                found = mappings(panel, column)
                assert found is not None, (panel["title"], label)
                assert set(found) == set(WORDS[label]), panel["title"]
    assert shown > 4


def columns(panel: Json) -> list[tuple[str, str]]:
    """What a panel shows, and what it calls it."""
    if panel["type"] == "stat":
        field = panel["options"]["reduceOptions"]["fields"].strip("/^$")
        return [(field, field)] if field else []
    for transformation in panel["transformations"]:
        if transformation["id"] == "organize":
            options = transformation["options"]
            return [(field, options["renameByName"].get(field, field)) for field in options["indexByName"]]
    return []


def mappings(panel: Json, column: str) -> Json | None:
    config = panel["fieldConfig"]
    rules = [rule for rule in config["overrides"] if rule["matcher"]["options"] == column]
    found = [p["value"] for rule in rules for p in rule["properties"] if p["id"] == "mappings"]
    found += [config["defaults"]["mappings"]] if "mappings" in config["defaults"] else []
    options: Json | None = found[0][0]["options"] if found else None
    return options


ALWAYS_ONE = re.compile(r"== 1\)*$|_info\{|^tdx_boot_verdict\{|tdx_finding\{|ALERTS\{")


@each_dashboard
def test_no_column_is_always_one(name: str) -> None:
    """What a query returns of a series that is there because it is 1 is in no table: its labels are."""
    looked_at = 0
    for panel in panels_of(load(name)):
        several = len(panel["targets"]) > 1
        for target in panel["targets"]:
            first = target["expr"].split(" and on ")[0]
            if ALWAYS_ONE.search(first) and not re.search(r"\b(?:count|sum) by", first):
                looked_at += 1
                field = f"Value #{target['refId']}" if several else "Value"
                assert field not in [column for column, _ in columns(panel)], panel["title"]
    assert looked_at > 3


def test_a_hosts_story_fits_one_screen() -> None:
    """What it needs is above the first heading, and that heading is on a screen of the usual size."""
    board = load("tdx-headroom-host.json")
    assert headings(board)[0]["gridPos"]["y"] <= SCREEN
    above = {p["title"] for p in panels_of(board) if p["gridPos"]["y"] < headings(board)[0]["gridPos"]["y"]}
    story = {"Verdict", "Next boot", "TDX module", "Findings", "Alerts of this host", "Why TDX failed"}
    assert story < above


def test_the_target_kernel_can_have_every_strategy() -> None:
    """The variable of the fleet's dashboard offers all, mainline's first."""
    board = load("tdx-headroom-fleet.json")
    (variable,) = (one for one in board["templating"]["list"] if one["type"] == "custom")
    assert [option["value"] for option in variable["options"]] == list(Strategy)
    assert variable["current"]["value"] == Strategy.MEMORY_REGIONS
