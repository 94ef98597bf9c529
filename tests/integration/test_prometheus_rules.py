# SPDX-License-Identifier: Apache-2.0
"""The rules and examples of packaging/prometheus, by Prometheus' own tools, and the pages to them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tdx_headroom.facts.kernel_report import FailureReason
from tdx_headroom.output.metric_families import FAMILIES

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "packaging" / "prometheus"
RULES = FOLDER / "tdx-headroom.rules.yml"
TESTS = sorted(path.name for path in FOLDER.glob("tdx-headroom*.test.yml"))
RUNBOOKS = CHECKOUT / "docs" / "runbooks"
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def load(name: str) -> Any:  # noqa: ANN401  what YAML holds
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in load(RULES.name)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def run(*words: str | Path) -> str:
    """What a tool prints, which must have gone well."""
    done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.program("promtool")
def test_promtool_checks_the_rules() -> None:
    """`promtool check rules` counts every rule and finds nothing."""
    assert f"SUCCESS: {len(rules())} rules found" in run("promtool", "check", "rules", RULES.name)


@pytest.mark.program("promtool")
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    """`promtool test rules` passes: labels and annotations to the letter."""
    assert run("promtool", "test", "rules", *TESTS).count("SUCCESS") == len(TESTS) == 2


@pytest.mark.program("promtool")
@pytest.mark.parametrize(
    "name", ["prometheus.yml", "prometheus-tls.yml", "prometheus-textfile.yml", "prometheus-global.yml"]
)
def test_promtool_checks_the_scrape_examples(name: str, tmp_path: Path) -> None:
    """`promtool check config` accepts the examples as they are, with the files that they name."""
    for file in (FOLDER / name, RULES):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = load(name)
    for scrape in config["scrape_configs"]:
        tls, password = scrape.get("tls_config", {}), scrape.get("basic_auth", {})
        for path in (*(tls[key] for key in ("ca_file",) if key in tls), password.get("password_file")):
            if path:
                (tmp_path / path).write_text("only its presence is checked\n")
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", name], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["promtool", "check", "config", name], cwd=tmp_path, capture_output=True, text=True)
    assert "SUCCESS" in done.stdout, done.stdout + done.stderr


@pytest.mark.program("amtool")
def test_amtool_checks_the_alertmanager_example() -> None:
    """`amtool check-config` finds routes, receivers and the inhibition."""
    assert "SUCCESS" in run("amtool", "check-config", "alertmanager.yml")


@pytest.mark.program("amtool")
@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "on-call"), ("warning", "team"), ("info", "log")]
)
def test_alerts_go_where_they_should(severity: str, receiver: str) -> None:
    """Each severity has its receiver."""
    words = ["amtool", "config", "routes", "test", "--config.file=alertmanager.yml"]
    words += ["alertname=TDXInitFailed", f"severity={severity}"]
    done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True)
    assert done.stdout.split() == [receiver], done.stderr


def test_no_alert_is_repeated_before_its_time() -> None:
    """Alertmanager forgets after 120 h, by default, that it has notified; no interval is longer."""
    route = load("alertmanager.yml")["route"]
    hours = {"h": 1, "d": 24}
    intervals = [r["repeat_interval"] for r in (route, *route["routes"])]
    assert len(intervals) == 3
    assert max(int(text[:-1]) * hours[text[-1]] for text in intervals) <= 120


def test_what_a_critical_alert_does_not_inhibit() -> None:
    """Alerts about the agent itself and about forged records are told beside a host's worst alert."""
    (worst, _) = load("alertmanager.yml")["inhibit_rules"]
    (spared,) = (m.partition("!~")[2].strip('"') for m in worst["target_matchers"] if "!~" in m)
    assert {name for name in ALERTS if re.fullmatch(spared, name)} == {
        "TDXAgentStale",
        "TDXAgentDown",
        "TDXAgentsAbsent",
        "TDXStateNotKept",
        "TDXWebConfigReloadFailed",
        "TDXUntrustedLogRecords",
    }


def test_there_is_a_test_for_every_alert() -> None:
    """Every alert has a test in which it fires, and one in which it does not."""
    checks = [
        check for name in TESTS for test in load(name)["tests"] for check in test.get("alert_rule_test", [])
    ]
    assert {c["alertname"] for c in checks if c.get("exp_alerts")} == set(ALERTS)
    assert {c["alertname"] for c in checks if not c.get("exp_alerts")} == set(ALERTS)


def test_there_is_a_test_for_every_recording() -> None:
    """Every recording rule is asked for in some test, or by an alert that has one."""
    texts = [(FOLDER / name).read_text("utf-8") for name in TESTS] + [a["expr"] for a in ALERTS.values()]
    tested = "".join(texts)
    assert not {rule["record"] for rule in rules() if "record" in rule and rule["record"] not in tested}


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_keep_to_the_conventions(name: str) -> None:
    """CamelCase with the prefix, a known severity, the host in summary and description, a runbook."""
    alert = ALERTS[name]
    assert re.fullmatch(r"TDX[A-Za-z]+", name)
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["summary"].endswith(".")
    for note in (notes["summary"], notes["description"]):
        assert ("{{ $labels.instance }}" in note) == (name != "TDXAgentsAbsent")
    assert notes["runbook_url"].endswith(f"/docs/runbooks/{name}.md")


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_runbook(name: str) -> None:
    """A page of the alert's name, with the four headings in their order, each with something below it."""
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert all(len(part.strip()) > 20 for part in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:])


def test_the_runbook_has_every_reason() -> None:
    """Whatever TDXInitFailed gives as the reason, its page says what to do about it."""
    text = (RUNBOOKS / "TDXInitFailed.md").read_text("utf-8")
    assert [reason for reason in (*FailureReason, "unknown") if f"`{reason}`" not in text] == []


def test_every_runbook_has_an_alert() -> None:
    """No page is left over from an alert that is gone, and docs/prometheus.md links to every one."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)
    overview = (CHECKOUT / "docs" / "prometheus.md").read_text("utf-8")
    for name, alert in ALERTS.items():
        assert f"| [{name}](runbooks/{name}.md) | {alert['labels']['severity']} |" in overview, name


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_labels_that_a_runbook_asks_for_are_there(path: Path) -> None:
    """`label="value"` alone is about its own alert: one that it carries, with a value that it selects."""
    text = re.sub(r"\b\w+\{[^}]*\}|`[^`]*[$/][^`]*`", "", path.read_text("utf-8"))
    for label, value in re.findall(r'`(\w+)="([^"]*)"`', text):
        selected = re.findall(rf'{label}=~?"([^"]*)"', ALERTS[path.stem]["expr"])
        (metric,) = names_in(ALERTS[path.stem]["expr"])
        assert label in FAMILIES[metric].labels
        assert any(re.fullmatch(values, value) for values in selected) or not selected, (label, value)


def names_in(expression: str) -> set[str]:
    """Metrics of this agent that an expression or a page names."""
    return set(re.findall(r"(?<![:\w])tdx_[a-z_]+(?![\w:])", expression))


@pytest.mark.parametrize("path", [RULES, *sorted(RUNBOOKS.glob("*.md"))], ids=lambda path: path.name)
def test_only_metrics_that_exist_are_named(path: Path) -> None:
    """Rules and runbooks name metrics that the agent exports."""
    text = re.sub(r"^ *#.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
    assert names_in(text) <= set(FAMILIES)
