# SPDX-License-Identifier: Apache-2.0
"""The node's labels, as Node Feature Discovery would make them of our file, and what goes by them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from tests.kernel.tools import run
from tests.kubernetes.agent import AGENT, NAMESPACE, rolled_out
from tests.kubernetes.engines import PAUSE
from tests.kubernetes.node import NAME, PATIENCE
from tests.kubernetes.overlays import run_on_node
from tests.tools.steps import expect, wait_for

if TYPE_CHECKING:
    from tests.kubernetes.cluster import Cluster

HOLD = "tdx-headroom-hold"
PREFIX = "tdx-headroom/"


class Case(NamedTuple):
    """A node, and what must follow from its labels.

    Args:
        host: captured host that it is taken for; empty for the node itself.
        takes: whether a workload goes there that asks for TDX and that it stays.
        left: whether it is among those that the page's selectors list, to leave alone or as not known.
        without: a label that is missing.
        held: whether a pod holds it.
    """

    host: str
    takes: bool
    left: tuple[bool, bool]
    held: bool
    without: str = ""


CASES = {
    "without TDX": Case("no-tdx", takes=False, left=(False, True), held=False),
    # Its made-up menu starts Debian 12's own kernel, which has no TDX.
    "this node": Case("", takes=False, left=(True, True), held=True),
    "keeps TDX": Case("good-2-node", takes=True, left=(False, False), held=False),
    "loses TDX": Case("granite-rapids-like", takes=False, left=(True, True), held=True),
    "cannot be told": Case("good-2-node", False, (False, True), held=True, without=f"{PREFIX}next-boot-tdx"),
    "no label yet": Case("good-2-node", False, (False, False), held=False, without=PREFIX),
}


def labels_and_hold(cluster: Cluster, page: str, checkout: Path) -> str:
    """Node by node: our file becomes labels, and selectors and pods of the pages go by them."""
    command = next(words for words in _commands(page) if "labels" in words[:2] and "--output" in words)
    alone, unknown = re.findall(r"kubectl get nodes -l '([^']+)'", page)
    (asked,) = (
        found["nodeSelector"]
        for block in re.findall(r"(?ms)^```yaml\n(.*?)^```$", page)
        if isinstance(found := yaml.safe_load(block), dict) and "nodeSelector" in found
    )
    workload = ",".join(f"{name}={value}" for name, value in asked.items())
    folder = checkout / "packaging/kubernetes/kured/hold"
    image = yaml.safe_load((folder / "daemonset.yaml").read_text("utf-8"))["spec"]["template"]["spec"]
    cluster.engine.tag(PAUSE, image["containers"][0]["image"])
    cluster("apply", "-k", folder.relative_to(checkout))
    said = []
    for what, case in CASES.items():
        host = checkout / "tests/hosts" / case.host if case.host else None
        found = {
            name: value
            for name, value in labels(cluster, host, command).items()
            if not (case.without and name.startswith(case.without))
        }
        _label(cluster, found)
        listed = tuple(bool(_nodes(cluster, selector)) for selector in (workload, alone, unknown))
        expect(f"{what}: selectors list {listed}", listed == (case.takes, *case.left))
        held = rolled_out(cluster, HOLD, int(case.held)) is not None
        said.append(f"{what}: {'held' if held else 'not held'}")
    cluster("delete", "-k", folder.relative_to(checkout), "--timeout=300s")
    return ", ".join(said)


def _commands(page: str) -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"(?m)^tdx-headroom .*$", page)]


def _nodes(cluster: Cluster, selector: str) -> list[str]:
    return cluster("get", "nodes", f"--selector={selector}", "--output=name").split()


def _label(cluster: Cluster, wanted: dict[str, str]) -> None:
    """Give the node these of our labels and no other, as Node Feature Discovery does."""
    now = cluster.get("node", NAME)["metadata"]["labels"]
    gone = [f"{name}-" for name in now if name.startswith(PREFIX) and name not in wanted]
    if words := [*gone, *(f"{name}={value}" for name, value in wanted.items())]:
        cluster("label", "--overwrite", "node", NAME, *words)


def labels(cluster: Cluster, host: Path | None, words: list[str]) -> dict[str, str]:
    """Labels of the node, or of a captured host, by the page's command, as Node Feature Discovery reads them.

    Its worker has the folder from the node, reads every file, and gives names without a prefix its own.
    """
    (output,) = (word for word in words if word.startswith("/etc/"))
    path = cluster.node.root / output.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    if host:
        run([sys.executable, "-m", "tdx_headroom", "labels", "--output", path, "--root", host])
    else:
        run_on_node(cluster, str(Path(output).parent), "labels", "--output", output)
    told = read_on_node(cluster, Path(output).parent)
    found = {}
    for line in told.splitlines():
        name, _, value = line.strip().partition("=")
        if name and not name.startswith("#"):
            found[name if "/" in name else f"feature.node.kubernetes.io/{name}"] = value or "true"
    return found


def read_on_node(cluster: Cluster, folder: Path) -> str:
    """What a pod reads of a folder of the node, as a worker of Node Feature Discovery would."""
    agent = cluster.get("daemonset", f"--namespace={NAMESPACE}", AGENT)["spec"]["template"]["spec"]
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "worker", "namespace": "default"},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "features", "hostPath": {"path": str(folder), "type": "Directory"}}],
                "containers": [
                    {
                        "name": "worker",
                        "image": agent["containers"][0]["image"],
                        "command": ["sh", "-c", "cat /features/*"],
                        "securityContext": {"runAsUser": 65534, "capabilities": {"drop": ["ALL"]}},
                        "volumeMounts": [{"name": "features", "mountPath": "/features", "readOnly": True}],
                    }
                ],
            },
        }
    )
    ended = "--output=jsonpath={.status.phase}"
    wait_for("end of the worker", lambda: cluster("get", "pod", "worker", ended) == "Succeeded", PATIENCE)
    told = cluster("logs", "worker")
    cluster("delete", "pod", "worker", "--timeout=300s")
    return told
