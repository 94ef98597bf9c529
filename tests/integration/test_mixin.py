# SPDX-License-Identifier: Apache-2.0
"""The jsonnet mixin: as it is it gives what is shipped, and configured what promtool accepts and tests."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import _jsonnet
import pytest
import yaml

from tests.grafana.board import panels_of
from tests.tools.make_rule_object import FOR_JSONNET, rules_as_json

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES, TESTS = (PACKAGING / "prometheus" / f"tdx-headroom.{kind}.yml" for kind in ("rules", "test"))
RULE_GROUPS = "mixin.prometheusRules.groups + mixin.prometheusAlerts.groups"
BOARDS = "mixin.grafanaDashboards"
SELECTOR = 'fleet!="other"'
Json = dict[str, Any]


@cache
def made(what: str, config: str = "{}", packaging: Path = PACKAGING) -> Any:  # noqa: ANN401  what JSON holds
    """What the mixin gives with this configuration."""
    text = f"local mixin = (import 'mixin/mixin.libsonnet') + {{ _config+:: {config} }}; {what}"
    return json.loads(_jsonnet.evaluate_snippet("test", text, jpathdir=[str(packaging)]))


def with_selector(text: str, selector: str) -> str:
    call = "(import 'mixin/promql.libsonnet').withSelector(%s, %s)"
    snippet = call % (json.dumps(text), json.dumps(selector))
    return str(json.loads(_jsonnet.evaluate_snippet("test", snippet, jpathdir=[str(PACKAGING)])))


def load(path: Path) -> Json:
    found: Json = yaml.safe_load(path.read_text("utf-8"))
    return found


def alert(config: str, name: str) -> Json:
    (found,) = (
        rule for group in made(RULE_GROUPS, config) for rule in group["rules"] if rule.get("alert") == name
    )
    rule: Json = found
    return rule


def promtool(*words: str, rules: list[Json], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool beside these rules."""
    (folder / RULES.name).write_text(yaml.safe_dump({"groups": rules}))
    return subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True)


def some_tests() -> list[Json]:
    """For every third alert the first of the shipped tests in which it fires, where that lasts an hour.

    promtool takes half a second for each.
    """
    found: dict[str, Json] = {}
    for test in load(TESTS)["tests"]:
        checks = test.get("alert_rule_test", [])
        if all(re.fullmatch(r"1h|\d\d?m", check["eval_time"]) for check in checks):
            for check in checks:
                if check.get("exp_alerts"):
                    found.setdefault(check["alertname"], test)
    assert len(found) > 15
    return list({id(found[name]): found[name] for name in sorted(found)[::3]}.values())


def write_tests(folder: Path, tests: list[Json]) -> str:
    path = folder / "mixin.test.yml"
    path.write_text(yaml.safe_dump({**load(TESTS), "tests": tests}))
    return path.name


def test_unconfigured_it_gives_the_rules_that_are_shipped() -> None:
    """Every group, with every rule, is the one of tdx-headroom.rules.yml."""
    shipped = {group["name"]: group for group in load(RULES)["groups"]}
    assert {group["name"]: group for group in made(RULE_GROUPS)} == shipped


def test_unconfigured_it_gives_the_dashboards_that_are_shipped() -> None:
    """Every dashboard of packaging/grafana is there, and is the same."""
    shipped = {
        path.name: json.loads(path.read_text("utf-8")) for path in (PACKAGING / "grafana").glob("*.json")
    }
    assert made(BOARDS) == shipped


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("tdx_tdmrs", 'tdx_tdmrs{a="b"}'),
        ("tdx_tdmrs{} > 1", 'tdx_tdmrs{a="b"} > 1'),
        ('up{job=~".*tdx_x.*"} == 0', 'up{a="b",job=~".*tdx_x.*"} == 0'),
        ("last_over_time(tdx_tdmrs[15m])", 'last_over_time(tdx_tdmrs{a="b"}[15m])'),
        ("sum by (tdx, up_to) (up)", 'sum by (tdx, up_to) (up{a="b"})'),
        ("job_verdict:tdx_verdict:sum", "job_verdict:tdx_verdict:sum"),
        (
            r"""label_replace(tdx_a, "tdx_b", '\'tdx_c', "up\"{", `\`)""",
            r"""label_replace(tdx_a{a="b"}, "tdx_b", '\'tdx_c', "up\"{", `\`)""",
        ),
    ],
)
def test_the_selector_is_put_where_it_belongs(text: str, selected: str) -> None:
    """Into every selector of an exported metric; not into strings, labels or recorded series."""
    assert with_selector(text, 'a="b"') == selected
    assert with_selector(text, "") == text


def test_no_query_goes_without_the_selector() -> None:
    """All exported metrics of rules, panels and variables have it."""
    config = json.dumps({"selector": SELECTOR})
    texts = [rule["expr"] for group in made(RULE_GROUPS, config) for rule in group["rules"]]
    for board in made(BOARDS, config).values():
        texts += [target["expr"] for panel in panels_of(board) for target in panel["targets"]]
        texts += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    for text in texts:
        for match in re.finditer(r"(?<![\w:])(?:tdx_\w+|up)\b(?!:)", re.sub(r'"[^"]*"', '""', text)):
            assert match.string[match.end() :].startswith('{fleet!=""'), text
    assert sum(text.count(SELECTOR) for text in texts) > 100


@pytest.mark.program("promtool")
def test_promtool_accepts_configured_rules(tmp_path: Path) -> None:
    """Rules with everything configured are valid, and none is missing but the one that is to be."""
    config = {
        "selector": 'fleet=~"a|b",env!="test"',
        "gap": "30m",
        "hold": {"TDXAgentDown": "1h", "TDXUntrustedLogRecords": "5m"},
        "severity": {"TDXAgentDown": "info"},
        "without": ["TDXMemoryMapChanged"],
        "alertLabels": {"team": "virt"},
        "agentJobs": "tdx.*",
        "runbookUrl": "https://wiki.example/tdx",
    }
    rules = made(RULE_GROUPS, json.dumps(config))
    done = promtool("check", "rules", RULES.name, rules=rules, folder=tmp_path)
    count = sum(len(group["rules"]) for group in load(RULES)["groups"])
    assert f"SUCCESS: {count - 1} rules found" in done.stdout, done.stdout + done.stderr
    down = alert(json.dumps(config), "TDXAgentDown")
    assert down["for"] == "1h"
    assert down["labels"] == {"severity": "info", "team": "virt"}
    assert down["annotations"]["runbook_url"] == "https://wiki.example/tdx/TDXAgentDown.md"
    assert down["expr"] == 'up{fleet=~"a|b",env!="test",job=~"tdx.*"} == 0'
    assert "[15m" not in json.dumps(rules)


@pytest.mark.program("promtool")
def test_rule_tests_pass_under_a_selector(tmp_path: Path) -> None:
    """Alerts fire for the hosts that are selected, with all that they say."""
    rules = made(RULE_GROUPS, json.dumps({"selector": SELECTOR}))
    tests = write_tests(tmp_path, some_tests())
    done = promtool("test", "rules", tests, rules=rules, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.program("promtool")
def test_no_alert_is_about_a_host_that_is_not_selected(tmp_path: Path) -> None:
    """The same hosts with the label that is excluded: nothing fires, but that there is no agent at all."""
    rules = made(RULE_GROUPS, json.dumps({"selector": SELECTOR}))
    tests = copy.deepcopy(some_tests())
    for test in tests:
        for series in test["input_series"]:
            series["series"] = series["series"].replace("{", '{fleet="other",', 1)
        test.pop("promql_expr_test", None)
        for check in test["alert_rule_test"]:
            if check["alertname"] != "TDXAgentsAbsent":
                check.pop("exp_alerts", None)
        test["alert_rule_test"] = [c for c in test["alert_rule_test"] if c["alertname"] != "TDXAgentsAbsent"]
    done = promtool("test", "rules", write_tests(tmp_path, tests), rules=rules, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.program("promtool")
@pytest.mark.parametrize(("seconds", "fires"), [(900, False), (300, True)])
def test_another_threshold_is_another_alert(seconds: int, fires: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A host that was assessed ten minutes ago alerts when five are too many."""
    name, config = "TDXAgentStale", json.dumps({"staleSeconds": seconds})
    test = copy.deepcopy(load(TESTS)["tests"][0])
    for series in test["input_series"]:
        if series["series"].startswith("tdx_headroom_assessment_timestamp_seconds{"):
            series["values"] = "-600+60x60"
    notes = {
        key: text.replace("{{ $labels.instance }}", "db1:10110")
        for key, text in alert(config, name)["annotations"].items()
    }
    labels = {"severity": "warning", "job": "tdx-headroom", "instance": "db1:10110"}
    expected = [{"exp_labels": labels, "exp_annotations": notes}] if fires else []
    test["alert_rule_test"] = [{"eval_time": "1h", "alertname": name, "exp_alerts": expected}]
    test.pop("promql_expr_test", None)
    tests = write_tests(tmp_path, [test])
    done = promtool("test", "rules", tests, rules=made(RULE_GROUPS, config), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.program("promtool")
@pytest.mark.program("jsonnet")
def test_the_example_of_the_page(tmp_path: Path) -> None:
    """Debian's own jsonnet makes of it, by the page's command, rules for promtool, and all dashboards."""
    page = (PACKAGING.parent / "docs" / "mixin.md").read_text("utf-8")
    (example,), (command,) = (
        re.findall(rf"(?s)```{kind}\n(.*?)```", page.partition("As in other")[0]) for kind in ("text", "sh")
    )
    for name in ("mixin", "prometheus", "grafana"):
        shutil.copytree(PACKAGING / name, tmp_path / name)
    (tmp_path / "tdx.jsonnet").write_text(example)
    done = subprocess.run(["sh", "-ec", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    done = subprocess.run(["promtool", "check", "rules", RULES.name], cwd=out, capture_output=True, text=True)
    assert "SUCCESS" in done.stdout, done.stdout + done.stderr
    boards = {path.name: load(path) for path in out.glob("*.json")}
    assert {name: f"{board['uid']}.json" for name, board in boards.items()} == {
        path.name: path.name for path in (PACKAGING / "grafana").glob("*.json")
    }
    rules = [rule for group in load(out / RULES.name)["groups"] for rule in group["rules"]]
    assert any('cluster="lab"' in rule["expr"] for rule in rules)
    assert not any(rule.get("alert") == "TDXMemoryMapChanged" for rule in rules)


def test_the_rules_for_jsonnet() -> None:
    """They are those of the file."""
    assert FOR_JSONNET.read_text("utf-8") == rules_as_json(), "make docs"


def test_the_page_has_every_setting() -> None:
    """docs/mixin.md lists what _config has, and nothing else."""
    page = (PACKAGING.parent / "docs" / "mixin.md").read_text("utf-8")
    listed = {name for row in re.findall(r"(?m)^\| (`.*?) \|", page) for name in re.findall(r"`(\w+)`", row)}
    assert listed - {"_config"} == set(made("std.objectFields(mixin._config)"))


@pytest.mark.parametrize("key", ["hold", "severity", "without"])
def test_an_unknown_alert_is_an_error(key: str) -> None:
    """A misspelt name is told, not ignored."""
    value: object = ["TDXAgentGone"] if key == "without" else {"TDXAgentGone": "1h"}
    with pytest.raises(RuntimeError, match="no such alert: TDXAgentGone"):
        made(RULE_GROUPS, json.dumps({key: value}))


def test_a_threshold_that_is_no_longer_in_the_rule_is_an_error(tmp_path: Path) -> None:
    """Whoever changes a rule in the file is told that the mixin looks for its number."""
    for name in ("mixin", "prometheus", "grafana"):
        shutil.copytree(PACKAGING / name, tmp_path / name)
    rules = tmp_path / "mixin" / FOR_JSONNET.name
    rules.write_text(rules.read_text("utf-8").replace("> 900", "> 901"))
    with pytest.raises(RuntimeError, match="TDXAgentStale: no > 900"):
        made(RULE_GROUPS, packaging=tmp_path)
