# SPDX-License-Identifier: Apache-2.0
"""What kured is told: which alerts hold a reboot, and which pods hold a node."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tdx_headroom.cli import command_parser
from tdx_headroom.output.labels import PREFIX
from tests.manifests.kured import KUREDS, Json
from tests.manifests.models import COMPILER, MODELS, complaints

PACKAGING = Path(__file__).parents[2] / "packaging"
KURED = PACKAGING / "kubernetes/kured"
RULES = PACKAGING / "prometheus/tdx-headroom.rules.yml"
PAGE = (PACKAGING.parent / "docs/reboot-gate.md").read_text("utf-8")

FLAGS = {
    "prometheus-url": "prometheusUrl",
    "alert-filter-regexp": "alertFilterRegexp",
    "alert-filter-match-only": "alertFilterMatchOnly",
    "alert-firing-only": "alertFiringOnly",
}
"""kured's flags, as its chart of version 6 calls their values."""


def load(name: str) -> Any:  # noqa: ANN401  a list or an object
    return yaml.safe_load((KURED / name).read_text("utf-8"))


def patched() -> Json:
    """kured's DaemonSet with our flags, as a JSON patch (RFC 6902) adds them."""
    found = copy.deepcopy(KUREDS)
    for operation in load("alerts/flags.yaml"):
        assert operation["op"] == "add"
        *folders, last = operation["path"].strip("/").split("/")
        assert last == "-"
        place: Any = found
        for step in folders:
            place = place[int(step) if isinstance(place, list) else step]
        place.append(operation["value"])
    return found


def flags() -> dict[str, str]:
    _, *words = patched()["spec"]["template"]["spec"]["containers"][0]["command"]
    return dict(word.removeprefix("--").split("=", 1) for word in words)


def alerts() -> dict[str, str]:
    """Severities by the names of our alerts."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {
        rule["alert"]: rule["labels"]["severity"]
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    }


def holding() -> set[str]:
    """The alerts that hold a reboot, by their names in the expression."""
    found = re.fullmatch(r"\^\(([A-Za-z|]+)\)\$", flags()["alert-filter-regexp"])
    assert found is not None
    return set(found[1].split("|"))


def test_kubernetes_knows_every_key(tmp_path: Path) -> None:
    """Every key and value of kured with our flags, and of the pods that hold nodes, is one of its kind's."""
    MODELS.need(COMPILER)
    assert complaints([patched(), load("hold/daemonset.yaml")], tmp_path) == []


def test_every_alert_is_ours() -> None:
    """The expression names alerts that exist, and none of what is about this boot, or only informs."""
    assert holding() - set(alerts()) == set()
    assert {
        "TDXInitFailed",
        "TDXGoneSinceLastBoot",
        "TDXNextBootUnknown",
        "TDXAgentDown",
    } & holding() == set()
    assert {alerts()[name] for name in holding()} == {"critical", "warning"}


def test_the_whole_name_counts() -> None:
    """As Go's MatchString() looks for it anywhere, the expression is anchored at both ends."""
    expression = re.compile(flags()["alert-filter-regexp"])
    assert all(expression.search(name) for name in holding())
    for other in ("TDXNextBootWillFailSoon", "MyTDXNextBootAtRisk", "KubeNodeNotReady", "Watchdog"):
        assert not expression.search(other)


def test_what_matches_holds() -> None:
    """Without --alert-filter-match-only it would be ignored; pending alerts count as well."""
    assert set(flags()) == set(FLAGS)
    assert flags()["alert-filter-match-only"] == "true"
    assert flags()["alert-firing-only"] == "false"


def test_the_chart_is_told_the_same() -> None:
    """The values for Helm are the flags of the manifest."""
    values = load("values.yaml")
    assert list(values) == ["configuration"]
    # As YAML, so that false is false in both.
    told = {FLAGS[flag]: yaml.safe_load(value) for flag, value in flags().items()}
    assert values["configuration"] == told


def expressions() -> list[Json]:
    """What a node must match for a pod that holds it."""
    affinity = load("hold/daemonset.yaml")["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    found: list[Json] = term["matchExpressions"]
    return found


def test_the_pods_are_those_that_kured_looks_for() -> None:
    """The selector on the page is the label of the pods, on nodes by labels that we write."""
    pods = load("hold/daemonset.yaml")["spec"]["template"]
    (selector,) = set(re.findall(r"--blocking-pod-selector=(\S+?)[`\s]", PAGE))
    key, _, value = selector.partition("=")
    assert pods["metadata"]["labels"][key] == value
    (terms,) = pods["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ].values()
    assert {each["key"] for each in terms[0]["matchExpressions"]} == {
        f"{PREFIX}/verdict",
        f"{PREFIX}/next-boot-tdx",
    }


@pytest.mark.parametrize(
    ("labels", "held"),
    [
        ({"verdict": "initialized", "next-boot-tdx": "true"}, False),
        ({"verdict": "initialized", "next-boot-tdx": "at-risk"}, True),
        ({"verdict": "initialized", "next-boot-tdx": "false"}, True),
        ({"verdict": "initialized"}, True),
        ({"verdict": "not-tdx"}, False),
        ({}, False),
    ],
)
def test_which_nodes_are_held(labels: dict[str, str], held: bool) -> None:  # noqa: FBT001
    """Those with TDX whose next boot does not keep it for sure, and no node that nothing is known of."""
    own = {f"{PREFIX}/{name}": value for name, value in labels.items()}
    # As Kubernetes has it: NotIn also matches where the label is not there.
    kinds = {
        "Exists": lambda each: each["key"] in own,
        "NotIn": lambda each: own.get(each["key"]) not in each["values"],
    }
    assert all(kinds[each["operator"]](each) for each in expressions()) is held


def test_the_sentinel_command_is_one() -> None:
    """The command of the page splits into a shell and a script, in which our command is understood."""
    (command,) = re.findall(r"--reboot-sentinel-command=(sh -c .*)", PAGE)
    shell, option, script = shlex.split(command)
    assert (shell, option) == ("sh", "-c")
    before, _, ours = script.partition(" && ")
    assert before == "test -e /var/run/reboot-required"
    words = shlex.split(ours.removeprefix("exec "))
    assert words[0] == "tdx-headroom"
    command_parser().parse_args(words[1:])
