# SPDX-License-Identifier: Apache-2.0
"""A whole captured host in, whole outputs out. `make golden` rewrites the files; read the diff."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.tools.generated import assert_current

from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output import metrics
from tdx_headroom.output.metric_families import DEFAULT
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.service.agent import Agent
from tdx_headroom.verdict.assessment import Assessment, assess

GOLDEN = Path(__file__).parent
HOSTS = GOLDEN.parent / "hosts"
NAMES = sorted(path.name for path in HOSTS.iterdir() if path.is_dir())


class _Fixed(Agent):
    """An agent whose view does not come from reading the host."""

    def __init__(self, assessment: Assessment) -> None:
        super().__init__(Root("/nonexistent"))
        self.assessment = assessment


def registry_of(name: str) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(assess_host(name)))
    return registry


def assess_host(name: str) -> Assessment:
    """A host without the only thing in its facts that tells where this checkout lies."""
    facts = json.dumps(read_facts(Root(HOSTS / name)).to_json())
    return assess(HostFacts.from_json(json.loads(facts.replace(f"{(HOSTS / name).resolve()}/", "/"))))


def show(name: str, kind: str) -> str:
    if kind == "prom":
        # prometheus_client before 0.22 writes e+010 where later ones write e+10: the same number.
        return re.sub(r"e\+0([0-9]{2})\b", r"e+\1", generate_latest(registry_of(name)).decode())
    assessment = assess_host(name)
    return {
        "txt": lambda: render(assessment, Style()),
        "json": lambda: json.dumps(to_json(assessment), indent=1) + "\n",
        "facts.json": lambda: json.dumps(assessment.facts.to_json(), indent=1) + "\n",
        "html": lambda: render_page(assessment),
    }[kind]()


@pytest.mark.parametrize("kind", ["txt", "json", "prom", "html"])
@pytest.mark.parametrize("name", NAMES)
def test_output_is_as_recorded(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    """Every output of a captured host is the recorded one, to the letter."""
    path = GOLDEN / f"{name}.{kind}"
    actual = show(name, kind)
    if request.config.getoption("--rewrite-golden"):
        path.write_text(actual, "utf-8")
    assert_current(path, actual, "make golden")


@pytest.mark.parametrize("name", NAMES)
def test_facts_survive_json(name: str) -> None:
    """A captured host is just its facts: after JSON they are equal, and so are the plans."""
    facts = read_facts(Root(HOSTS / name))
    again = HostFacts.from_json(json.loads(json.dumps(facts.to_json())))
    assert again == facts
    assert to_json(assess(again)) == to_json(assess(facts))


@pytest.mark.program("promtool")
@pytest.mark.parametrize("name", NAMES)
def test_promtool_has_nothing_to_say(name: str) -> None:
    """`promtool check metrics` is silent on every host's metrics."""
    run = subprocess.run(
        ["promtool", "check", "metrics"], input=show(name, "prom"), capture_output=True, text=True
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_openmetrics_parses(name: str) -> None:
    """The OpenMetrics form is read by prometheus_client's own parser, with the same samples."""
    registry = registry_of(name)
    families = list(text_string_to_metric_families(generate_openmetrics(registry).decode()))
    assert sum(len(f.samples) for f in families) == sum(len(f.samples) for f in registry.collect())


@pytest.mark.parametrize("name", NAMES)
def test_series_are_few_unique_and_coarse(name: str) -> None:
    """Series are few, each once, and no address finer than 1 GiB is among them."""
    samples = [s for family in metrics.collect(assess_host(name), None) for s in family.samples]
    usual = metrics.collect(assess_host(name), None, frozenset({DEFAULT}))
    assert sum(len(family.samples) for family in usual) < 90
    keys = [(s.name, tuple(sorted(s.labels.items()))) for s in samples]
    assert len(keys) == len(set(keys)) < 150
    for sample in samples:
        for bound in sample.labels.get("tdmr", "").split("-"):
            assert not bound or int(bound, 16) % (1 << 30) == 0
