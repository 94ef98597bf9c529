# SPDX-License-Identifier: Apache-2.0
"""The DaemonSet with what tells the next boot: which container sees what, and as whom."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.manifests.kustomize import Json, daemon_set
from tests.manifests.models import COMPILER, MODELS, complaints

KUBERNETES = Path(__file__).parents[2] / "packaging" / "kubernetes"
SIDECAR, READ_ONLY, OF_HOST, LOG = (
    "boots/sidecar/sidecar.yaml",
    "boots/read-only/read-only.yaml",
    "boots/of-host/of-host.yaml",
    "kernel-log/privileged.yaml",
)
INVENTORY = "/host/run/tdx-headroom-boots"
SEEN = {
    "/host/boot": "/boot",
    "/host/lib/modules": "/lib/modules",
    "/host/usr/lib/modules": "/lib/modules",
    "/host/etc/modprobe.d": "/etc/modprobe.d",
    "/host/usr/lib/modprobe.d": "/usr/lib/modprobe.d",
}
"""Where a container sees which folder of the host."""

NAMES = ("sidecar", "read-only", "of-host")
"""The components."""

COMBINATIONS = [(SIDECAR,), (OF_HOST,), (LOG, SIDECAR), (LOG, OF_HOST), (LOG, SIDECAR, READ_ONLY)]


def containers(found: Json) -> dict[str, Json]:
    return {each["name"]: each for each in found["spec"]["template"]["spec"]["containers"]}


def volumes(found: Json) -> dict[str, Json]:
    return {each["name"]: each for each in found["spec"]["template"]["spec"]["volumes"]}


def of_host(found: Json, container: Json) -> dict[str, str]:
    """Folders of the host by where the container sees them."""
    by_name = volumes(found)
    return {
        mount["mountPath"]: by_name[mount["name"]]["hostPath"]["path"]
        for mount in container["volumeMounts"]
        if "hostPath" in by_name[mount["name"]]
    }


def test_kubernetes_knows_every_key(tmp_path: Path) -> None:
    """Every key and value of each combination is one that a DaemonSet has."""
    MODELS.need(COMPILER)
    assert complaints([daemon_set(KUBERNETES, *patches) for patches in COMBINATIONS], tmp_path) == []


def test_the_files_are_named() -> None:
    """Every patch is in its component, the overlay takes the sidecar, and no folder has another file."""
    found = {
        str(path.relative_to(KUBERNETES / "boots")): yaml.safe_load(path.read_text("utf-8"))
        for path in (KUBERNETES / "boots").rglob("*.yaml")
    }
    assert found["kustomization.yaml"]["resources"] == ["../base"]
    assert found["kustomization.yaml"]["components"] == ["sidecar"]
    patches = {
        f"{name}/{patch['path']}"
        for name in NAMES
        for patch in found[f"{name}/kustomization.yaml"]["patches"]
    }
    kustomizations = {"kustomization.yaml", *(f"{name}/kustomization.yaml" for name in NAMES)}
    assert set(found) == patches | kustomizations


@pytest.mark.parametrize("patches", COMBINATIONS)
def test_nothing_of_the_host_is_written_or_made(patches: tuple[str, ...]) -> None:
    """But for the state, nothing of the host is writable, and no folder that a node lacks is made."""
    found = daemon_set(KUBERNETES, *patches)
    for container in containers(found).values():
        host = of_host(found, container)
        assert SEEN.items() <= host.items()
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert {host[path] for path in writable & set(host)} <= {"/var/lib/tdx-headroom"}
        (boot,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/host/boot"]
        assert boot["mountPropagation"] == ("None" if "recursiveReadOnly" in boot else "HostToContainer")
    types = {v["hostPath"]["path"]: v["hostPath"]["type"] for v in volumes(found).values() if "hostPath" in v}
    made = [path for path, kind in types.items() if kind not in ("Directory", "CharDevice")]
    assert made == ["/var/lib/tdx-headroom"]


@pytest.mark.parametrize("patches", [(SIDECAR,), (LOG, SIDECAR)])
def test_who_is_root_has_neither_port_nor_capability(patches: tuple[str, ...]) -> None:
    """The container that reads what is root's alone has no capability; the one with the port stays 61110."""
    found = containers(daemon_set(KUBERNETES, *patches))
    boots, agent = found["boots"], found["tdx-headroom"]
    context = boots["securityContext"]
    assert (context["runAsUser"], context["capabilities"]) == (0, {"drop": ["ALL"]})
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert not context.get("privileged")
    assert "ports" not in boots
    assert "--user=61110" in agent["args"]


def test_read_only_is_all_that_is_mounted_below() -> None:
    """With the component for it no mount below a volume of the host is writable for who stays root."""
    boots = containers(daemon_set(KUBERNETES, SIDECAR, READ_ONLY))["boots"]
    volumes_of_host = [mount for mount in boots["volumeMounts"] if mount["mountPath"] != INVENTORY]
    assert len(volumes_of_host) == len(of_host(daemon_set(KUBERNETES, SIDECAR), boots)) == 7
    for mount in volumes_of_host:
        assert (mount["readOnly"], mount["recursiveReadOnly"]) == (True, "Enabled")
        # The server takes no other together with it.
        assert mount.get("mountPropagation", "None") == "None"


def test_the_agent_reads_what_the_sidecar_writes() -> None:
    """One folder in memory, which only the sidecar may write to; it is where the agent looks."""
    found = daemon_set(KUBERNETES, SIDECAR)
    assert "emptyDir" in volumes(found)["boots"]
    for name, read_only in (("boots", None), ("tdx-headroom", True)):
        mounts = {mount["name"]: mount for mount in containers(found)[name]["volumeMounts"]}
        assert (mounts["boots"]["mountPath"], mounts["boots"].get("readOnly")) == (INVENTORY, read_only)
    assert containers(found)["boots"]["env"] == [{"name": "CACHE_DIRECTORY", "value": INVENTORY}]


def test_the_one_shot_of_the_host() -> None:
    """Where the package is on the node there is no sidecar, and the one shot's folder is mounted."""
    found = daemon_set(KUBERNETES, OF_HOST)
    assert list(containers(found)) == ["tdx-headroom"]
    assert of_host(found, containers(found)["tdx-headroom"])[INVENTORY] == "/run/tdx-headroom-boots"


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A folder with a stand-in of the agent that notes what it is called with, and ends the loop."""
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)
    stub = tmp_path / "tdx-headroom"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    stub.chmod(0o755)
    return tmp_path


def test_the_sidecars_script(sandbox: Path) -> None:
    """It takes the folder from others, takes the inventory, waits, and ends at once when it is told to."""
    container = containers(daemon_set(KUBERNETES, SIDECAR))["boots"]
    (script,) = container["args"]
    script = script.replace("/opt/tdx-headroom/bin/tdx-headroom", str(sandbox / "tdx-headroom"))
    assert re.search(r"sleep 60 & wait \$!", script)
    # Instead of the wait that the kubelet's SIGTERM ends.
    script = script.replace("sleep 60 & wait $!", "kill $$")
    run = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": "/usr/bin:/bin", "CACHE_DIRECTORY": str(sandbox / "shared")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert (sandbox / "shared").stat().st_mode & 0o777 == 0o755
    output = f"--output {sandbox}/shared/boots.json"
    assert (sandbox / "calls").read_text() == f"take-boots --path.rootfs /host {output}\n"
