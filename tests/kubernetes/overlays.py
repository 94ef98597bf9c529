# SPDX-License-Identifier: Apache-2.0
"""What must be so of the overlays that tell the next boot, and of what kured gets."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

from tests.container.checks import BOOTS, FROM_HOST, NEXT, USER
from tests.kubernetes.agent import (
    AGENT,
    NAMESPACE,
    agents_pod,
    events,
    expect_powerless_container,
    metrics,
    verdict,
)
from tests.kubernetes.checks import applied
from tests.kubernetes.node import PATIENCE
from tests.manifests.kured import KUREDS
from tests.tools.steps import expect, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kubernetes.checks import Shown
    from tests.kubernetes.cluster import Cluster

LACKING = "/lib/modules"
"""Of the folders that the pods want, the one that the node has not at first."""

_PROGRAM = "/opt/tdx-headroom/bin/tdx-headroom"
_INVENTORY = "/host/run/tdx-headroom-boots"
_TRY = """
    for place in $(cut -d " " -f 5 /proc/self/mountinfo | grep ^/host | sort -u); do
        if mkdir "$place/tdx-test" 2> /dev/null; then
            rmdir "$place/tdx-test"
            echo "$place"
        fi
    done
"""


def folder_lacks(cluster: Cluster, shown: Shown) -> str:
    """On a node that lacks one of the folders the pod does not start, and its events name the folder."""
    root = cluster.node.root
    shutil.copytree(BOOTS / "boot", root / "boot", symlinks=True, dirs_exist_ok=True)
    (root / "boot/grub/grub.cfg").chmod(0o600)
    (root / "boot/efi").mkdir()
    cluster.node.run("mount", "-t", "tmpfs", "esp", "/boot/efi")
    for name in FROM_HOST:
        if name != LACKING:
            (root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    expect(f"this node has {LACKING}", not (root / LACKING.lstrip("/")).exists())
    cluster("apply", *applied(shown, "boots"))
    said = f"hostPath type check failed: {LACKING} is not a directory"
    wait_for(f"event that says {said!r}", lambda: any(said in event for event in events(cluster)), PATIENCE)
    return said


def sidecar(cluster: Cluster) -> str:
    """With all folders the pod starts, and the agent knows the next boot from the second container."""
    (cluster.node.root / LACKING.lstrip("/")).mkdir()
    pod = agents_pod(cluster)
    wait_for("next boot", lambda: verdict(cluster)["boots_next"] == NEXT, PATIENCE)
    found = metrics(cluster)
    (info,) = (key for key in found if key[0] == "tdx_next_boot_info")
    expect(f"the metrics have {info}", NEXT in info)
    (foretold,) = (key[1] for key, value in found.items() if key[0] == "tdx_next_boot" and value == 1)
    expect_powerless_container(cluster, pod, AGENT, USER)
    expect_powerless_container(cluster, pod, "boots", 0)
    return f"{NEXT} boots next, {foretold}; {AGENT} 2/2, both without a capability"


def writable(cluster: Cluster) -> str:
    """Where the container that stays root can write: in mounts below its read-only volumes, too."""
    pod = agents_pod(cluster)["metadata"]["name"]
    tried = cluster("exec", f"--namespace={NAMESPACE}", pod, "--container=boots", "--", "sh", "-c", _TRY)
    found = sorted(tried.split())
    volumes = {"/host/proc", "/host/sys", *(f"/host{name}" for name in FROM_HOST), "/host/usr/lib/modules"}
    expect(f"it can write to {found}", not volumes & {*found} and _INVENTORY in found)
    return f"besides its own folder: {', '.join(name for name in found if name != _INVENTORY) or 'nothing'}"


def of_host(cluster: Cluster, page: str, checkout: Path) -> str:
    """The page's own kustomization, with the host's service in place of the container, and with the log."""
    folder = _INVENTORY.removeprefix("/host")
    (cluster.node.root / folder.lstrip("/")).mkdir()
    # What the package's service runs on the node.
    run_on_node(cluster, folder, "take-boots", "--output", f"{folder}/boots.json")
    own = kustomization(cluster, page, checkout, "boots/sidecar", to="of-host")
    own.write_text(own.read_text("utf-8").replace("boots/sidecar", "boots/of-host"))
    cluster("apply", "-k", own.parent)
    pod = agents_pod(cluster)
    expect("there is a second container", len(pod["spec"]["containers"]) == 1)
    wait_for("next boot", lambda: verdict(cluster)["boots_next"] == NEXT, PATIENCE)
    read = metrics(cluster)["tdx_headroom_source_success", "kernel-log"]
    expect("the kernel's log was not read", read == 1)
    expect_powerless_container(cluster, pod, AGENT, USER)
    return f"{NEXT} boots next, the log is read; {AGENT} 1/1 without a capability"


def read_only(cluster: Cluster, page: str, checkout: Path) -> str:
    """The component for newer servers is built with the sidecar's; this one knows no such field."""
    own = kustomization(cluster, page, checkout, "boots/sidecar", to="read-only")
    own.write_text(own.read_text("utf-8") + "  - boots/read-only\n")
    mounts = cluster("kustomize", own.parent).count("recursiveReadOnly: Enabled")
    expect(f"{mounts} mounts are read-only with all below", mounts == 7)
    done = cluster.call("apply", "--dry-run=server", "-k", own.parent)
    (said,) = re.findall(r'unknown field "[^"]*recursiveReadOnly"', done.stderr)[:1] or [done.stderr]
    expect(f"the server says {said}", done.returncode == 1 and said.startswith("unknown field"))
    return f"{mounts} mounts; refused by this server: {said}"


def alerts(cluster: Cluster, page: str, checkout: Path) -> str:
    """kured's manifest with our flags, by the page's kustomization: the server takes it."""
    own = kustomization(cluster, page, checkout, "alerts", to="alerts", below="kured")
    (own.parent / "kured.yaml").write_text(json.dumps(KUREDS))
    made = json.loads(cluster("apply", "--dry-run=server", "--output=json", "-k", own.parent))
    command = made["spec"]["template"]["spec"]["containers"][0]["command"]
    expect(f"kured's command is {command}", len(command) == 5 and "--alert-filter-match-only=true" in command)
    return f"{len(command) - 1} flags, taken by the server (--dry-run=server)"


def kustomization(
    cluster: Cluster, page: str, checkout: Path, component: str, *, to: str, below: str = ""
) -> Path:
    """The page's kustomization that has this component, as a file beside copies of ours."""
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", page)
    (shown,) = (block for block in blocks if re.search(rf"(?m)^  - {component}$", block))
    copy = cluster.node.folder / f"manifests-{to}"
    shutil.copytree(checkout / "packaging/kubernetes", copy)
    path = copy / below / "kustomization.yaml"
    path.write_text(shown)
    return path


def run_on_node(cluster: Cluster, folder: str, *words: str) -> str:
    """The image's agent as root on the node, which it sees below /host; it may write to the folder."""
    agent = cluster.get("daemonset", f"--namespace={NAMESPACE}", AGENT)["spec"]["template"]["spec"]
    image = agent["containers"][0]["image"]
    return cluster.engine.run(image, folder, _PROGRAM, *words, "--path.rootfs=/host")
