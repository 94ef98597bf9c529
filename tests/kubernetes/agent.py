# SPDX-License-Identifier: Apache-2.0
"""The agent's DaemonSet on the node: its pod, and what it answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.container.checks import expect_powerless, samples
from tests.kernel.tools import KernelTestError
from tests.kubernetes.node import PATIENCE
from tests.tools.steps import expect, wait_for

if TYPE_CHECKING:
    from tests.kubernetes.cluster import Cluster, Json

NAMESPACE = AGENT = "tdx-headroom"
LABEL = f"app.kubernetes.io/name={AGENT}"
PORT = 10110


def rolled_out(cluster: Cluster, name: str = AGENT, pods: int = 1) -> Json | None:
    """Wait until as many pods of the newest DaemonSet are ready, and no other is there; one of them.

    Raises:
        KernelTestError: that did not happen; what the pods' events say last is in the message.
    """

    def done() -> bool:
        found = cluster.get("daemonset", f"--namespace={NAMESPACE}", name)
        status, generation = found["status"], found["metadata"]["generation"]
        wanted = status["desiredNumberScheduled"], status.get("numberReady", 0)
        seen = status.get("observedGeneration") == generation
        updated = status.get("updatedNumberScheduled", 0) == pods
        return seen and wanted == (pods, pods) and updated and len(_pods(cluster, name)) == pods

    try:
        wait_for(f"{pods} ready pods of {name}", done, PATIENCE)
    except KernelTestError as error:
        raise KernelTestError(f"{error}; {'; '.join(events(cluster)[-3:])}") from None
    return _pods(cluster, name)[0] if pods else None


def _pods(cluster: Cluster, name: str) -> list[Json]:
    label = f"--selector=app.kubernetes.io/name={name}"
    found: list[Json] = cluster.get("pods", f"--namespace={NAMESPACE}", label)["items"]
    return found


def agents_pod(cluster: Cluster) -> Json:
    """The agent's one pod, when it is ready."""
    found = rolled_out(cluster)
    assert found is not None
    return found


def events(cluster: Cluster) -> list[str]:
    """Warnings about the agent's pods, the oldest first."""
    found = cluster.get("events", f"--namespace={NAMESPACE}", "--field-selector=type=Warning")["items"]
    found.sort(key=lambda event: event["lastTimestamp"] or "")
    return [" ".join(event["message"].split()) for event in found]


def answer(cluster: Cluster, path: str, scheme: str = "http") -> str:
    """What the agent answers at the address that the Service has for Prometheus."""
    endpoints = cluster.get("endpoints", f"--namespace={NAMESPACE}", AGENT)
    places = [
        f"{address['ip']}:{port['port']}"
        for subset in endpoints.get("subsets", ())
        for address in subset.get("addresses", ())
        for port in subset["ports"]
        if port["name"] == "metrics"
    ]
    expect(f"the Service has the addresses {places}", len(places) == 1)
    # A certificate for an address that nobody knew before would prove nothing.
    ask = ("curl", "--silent", "--fail", "--insecure", "--max-time", "30")
    return cluster.node.run(*ask, f"{scheme}://{places[0]}{path}")


def metrics(cluster: Cluster) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    return samples(answer(cluster, "/metrics"))


def verdict(cluster: Cluster) -> dict[str, Any]:
    """The agent's, as its API has it."""
    found: dict[str, Any] = json.loads(answer(cluster, "/api/v1/plan"))["verdict"]
    return found


def expect_powerless_container(cluster: Cluster, pod: Json, name: str, user: int) -> None:
    """The container's process has no capability, and is this user."""
    statuses = {status["name"]: status for status in pod["status"]["containerStatuses"]}
    engine, _, number = statuses[name]["containerID"].partition("://")
    expect(f"the containers are {engine}'s", engine == cluster.engine.name)
    status = cluster.node.run("cat", f"/proc/{cluster.engine.pid(number)}/status")
    expect_powerless(name, status, user)


def logs(cluster: Cluster, pod: Json, container: str = AGENT) -> str:
    """What the container has printed."""
    return cluster("logs", f"--namespace={NAMESPACE}", pod["metadata"]["name"], f"--container={container}")
