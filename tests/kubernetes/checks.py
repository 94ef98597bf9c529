# SPDX-License-Identifier: Apache-2.0
"""What must be so of the base, applied as docs/kubernetes.md says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.container.checks import USER
from tests.kubernetes.agent import (
    AGENT,
    NAMESPACE,
    agents_pod,
    answer,
    expect_powerless_container,
    logs,
    metrics,
    verdict,
)
from tests.tools.machine_memory import memory_bytes
from tests.tools.steps import CheckError, expect, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.container.podman import Podman
    from tests.kubernetes.cluster import Cluster, Json

OPERATORS = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
"""Kinds of the Prometheus Operator that the base has objects of, and their plurals."""

Shown = dict[str, list[list[str]]]
"""kubectl's commands of a page, by their first word."""


def image(cluster: Cluster, engine: Podman, words: list[str], checkout: Path) -> str:
    """Build the image as the page says, and hand it to the node."""
    name = words[words.index("-t") + 1]
    engine.build(words, checkout)
    archive = cluster.node.root / "tmp/image.tar"
    engine("save", "--quiet", "--format=docker-archive", f"--output={archive}", name)
    cluster.engine.load("/tmp/image.tar", name)
    archive.unlink()
    return name


def without_operator(cluster: Cluster, shown: Shown) -> str:
    """Where the operator's kinds are not known, the rest is applied, and kubectl says what is missing."""
    done = cluster.call("apply", *applied(shown, "base"))
    expect(f"kubectl's status is {done.returncode}", done.returncode == 1)
    for kind in OPERATORS:
        expect(f"kubectl does not name {kind}: {done.stderr}", f'no matches for kind "{kind}"' in done.stderr)
    expect("no DaemonSet was made", cluster("get", "daemonset", f"--namespace={NAMESPACE}", AGENT))
    return "the other objects are made, and kubectl names the two"


def definitions(cluster: Cluster) -> str:
    """Stand-ins for the operator's definitions: any ServiceMonitor and PrometheusRule will do."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for kind, plural in OPERATORS.items():
        group = "monitoring.coreos.com"
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        definition: Json = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
        }
        cluster.apply(definition)
        cluster("wait", "--for=condition=Established", "--timeout=300s", f"crd/{plural}.{group}")
    return ", ".join(OPERATORS)


def base(cluster: Cluster, shown: Shown) -> str:
    """Applied as the page says, every object is there, and the DaemonSet's pod becomes ready."""
    said = cluster("apply", *applied(shown, "base"))
    wait_for("pods of the DaemonSet", lambda: agents_pod(cluster))
    again = cluster("apply", *applied(shown, "base")).splitlines()
    changed = [line for line in again if not line.endswith(" unchanged")]
    expect(f"applied again it changes {changed}", not changed)
    return f"{len(said.splitlines())} objects, {AGENT} 1/1, and applied again nothing changes"


def served(cluster: Cluster) -> str:
    """The Service's endpoint has this machine's memory, and what the page says of the log and /boot."""
    found = metrics(cluster)
    expect("no tdx_headroom_build_info", any(key[0] == "tdx_headroom_build_info" for key in found))
    read = {key[1]: value for key, value in found.items() if key[0] == "tdx_headroom_source_success"}
    for source in ("iomem", "firmware-memmap", "zoneinfo", "platform"):
        expect(f"{source} was not read", read.get(source) == 1)
    expect("the log was read without the overlay", read.get("kernel-log") == 0)
    memory = found["tdx_memory_bytes",]
    expect(f"{memory:.0f} bytes are served, {memory_bytes()} are in /proc/iomem", memory == memory_bytes())
    unknown = verdict(cluster)["boots_unknown"]
    expect(f"of the next boot it says {unknown!r}", unknown == "/host/boot is not mounted")
    host = json.loads(answer(cluster, "/api/v1/plan"))["host"]
    pod = agents_pod(cluster)["metadata"]["name"]
    expect(f"the host is {host}, not the pod {pod}", host == pod)
    good = ", ".join(sorted(source for source, value in read.items() if value))
    return f"{memory:.0f} bytes of memory planned; read: {good}"


def powerless(cluster: Cluster) -> str:
    """The agent has become its user, and has no account of the cluster."""
    pod = agents_pod(cluster)
    expect_powerless_container(cluster, pod, AGENT, USER)
    mounts = {m["mountPath"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]}
    expect("it has an account's token", not any("serviceaccount" in path for path in mounts))
    return f"the user {USER} without a capability"


def looked_at(cluster: Cluster, shown: Shown, page: str) -> str:
    """The page's commands find the pod of a node, run `check` in it, and bring its page here."""
    pod = agents_pod(cluster)
    place = {"POD": pod["metadata"]["name"], "NODE": pod["spec"]["nodeName"]}
    (find,), (check,) = (
        [["-n", *words] for words in shown["-n"] if verb in words] for verb in ("get", "exec")
    )
    found = cluster(*(_put(word, place) for word in find))
    expect(f"{place['POD']} is not found: {found}", place["POD"] in found)
    # Whatever the status is, it was looked at.
    done = cluster.call(*(_put(word, place) for word in check))
    expect(f"check printed {done.stdout}{done.stderr}", "\nstatus: " in done.stdout)
    (forward,) = re.findall(r"`kubectl (.* port-forward [^`]*)`, then `(http://[^`]*)`", page)
    with cluster.during(*(_put(word, place) for word in forward[0].split())):
        ask = ("curl", "--silent", "--fail", forward[1])
        wait_for("page", lambda: "<!doctype html>" in cluster.node.run(*ask).lower())
    return f"check says {done.stdout.strip().splitlines()[-1]}; its page is served here"


def restarted(cluster: Cluster) -> str:
    """A pod in place of a deleted one goes on with the state on the node."""
    state = cluster.node.root / "var/lib/tdx-headroom/state.json"
    wait_for("state on the node", state.exists)
    expect("the state is not the agent's", state.stat().st_uid == USER)
    boot = json.loads(state.read_text("utf-8"))["current"]["boot_id"]
    before, pod = metrics(cluster)["tdx_memory_bytes",], agents_pod(cluster)["metadata"]
    cluster("delete", "pod", f"--namespace={NAMESPACE}", pod["name"], "--timeout=300s")
    new = agents_pod(cluster)
    expect("it is the same pod", new["metadata"]["uid"] != pod["uid"])
    expect("it serves other memory", metrics(cluster)["tdx_memory_bytes",] == before)
    expect("the state was set aside", "set aside" not in logs(cluster, new))
    expect("the state is of another boot", json.loads(state.read_text("utf-8"))["current"]["boot_id"] == boot)
    expect_powerless_container(cluster, new, AGENT, USER)
    return "another pod, the same answer and state"


def kernel_log(cluster: Cluster, shown: Shown) -> str:
    """With the overlay the agent reads the log, and keeps none of a privileged container's capabilities."""
    cluster("apply", "--dry-run=server", *applied(shown, "kernel-log"))
    cluster("apply", *applied(shown, "kernel-log"))
    pod = agents_pod(cluster)
    read = metrics(cluster)["tdx_headroom_source_success", "kernel-log"]
    expect("the kernel's log was not read", read == 1)
    expect_powerless_container(cluster, pod, AGENT, USER)
    return f"the log is read, by the user {USER} without a capability"


def applied(shown: Shown, overlay: str) -> list[str]:
    """The words after `kubectl apply` in the page's command for the overlay."""
    for words in shown["apply"]:
        if words[-1].endswith(f"/{overlay}"):
            return words
    raise CheckError(f"the page does not apply {overlay}")


def _put(word: str, place: dict[str, str]) -> str:
    """A word of a page's command with names of this cluster in place of the page's."""
    name, equals, value = word.partition("=")
    return f"{name}{equals}{place.get(value, value)}" if equals else place.get(word, word)
