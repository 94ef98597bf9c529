# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tdx_headroom.service.users import DYNAMIC
from tests.manifests.models import COMPILER, MODELS, complaints
from tests.tools.generated import assert_current
from tests.tools.make_rule_object import OBJECT, RULES, rule_object
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBERNETES = Path(__file__).parents[2] / "packaging" / "kubernetes"
BASE = KUBERNETES / "base"
Json = dict[str, Any]


def load(name: str) -> Json:
    value: Json = yaml.safe_load((KUBERNETES / name).read_text("utf-8"))
    return value


def objects() -> list[Json]:
    return [load(f"base/{name}") for name in load("base/kustomization.yaml")["resources"]]


def container() -> Json:
    found: Json = load("base/daemonset.yaml")["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    MODELS.need(COMPILER)
    return tmp_path_factory.mktemp("models")


def test_kubernetes_knows_every_key(scratch: Path) -> None:
    """Every key and value is one that its kind has."""
    assert complaints(objects(), scratch) == []


def test_a_wrong_key_or_value_would_be_found(scratch: Path) -> None:
    """The check does look: misspelt keys, wrong types and malformed values do not pass."""
    wrong = {o["kind"]: copy.deepcopy(o) for o in objects()}
    wrong["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilites"] = {}
    wrong["Service"]["spec"]["ports"][0]["port"] = "metrics"
    wrong["ServiceMonitor"]["spec"]["endpoints"][0]["interval"] = "1 minute"
    wrong["PrometheusRule"]["spec"]["groups"][0]["rules"][0]["fro"] = "5m"
    found = "\n".join(complaints(list(wrong.values()), scratch))
    for key in ("capabilites", "ports/0/port", "endpoints/0/interval", "fro"):
        assert key in found


def test_the_rules_are_the_same() -> None:
    """The PrometheusRule holds what tdx-headroom.rules.yml holds, and is up to date to the letter."""
    assert yaml.safe_load(OBJECT.read_text("utf-8"))["spec"] == yaml.safe_load(RULES.read_text("utf-8"))
    assert_current(OBJECT, rule_object(), "make docs")


def test_everything_belongs_together() -> None:
    """Selectors, ports and namespaces of the objects fit each other, and every file is a resource."""
    by_kind = {o["kind"]: o for o in objects()}
    daemons, service, monitor = by_kind["DaemonSet"], by_kind["Service"], by_kind["ServiceMonitor"]
    labels = daemons["spec"]["template"]["metadata"]["labels"].items()
    assert daemons["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    port = service["spec"]["ports"][0]
    assert port["targetPort"] == container()["ports"][0]["name"]
    assert {end["port"] for end in monitor["spec"]["endpoints"]} == {port["name"]}
    assert {o["metadata"].get("namespace", "tdx-headroom") for o in objects()} == {"tdx-headroom"}
    listed = {*load("base/kustomization.yaml")["resources"], "kustomization.yaml"}
    assert listed == {path.name for path in BASE.iterdir()}


def test_the_user_is_the_images() -> None:
    """The manifest names the user of the image by its number, which is nobody's on any host."""
    recipe = (KUBERNETES.parent / "container/Containerfile").read_text("utf-8")
    users = [argument for argument in container()["args"] if argument.startswith("--user=")]
    assert len(users) == 1
    number = users[0].removeprefix("--user=")
    assert f"useradd --uid {number} --gid {number}" in recipe
    assert f"install -d -o {number} -g {number}" in recipe
    # Between systemd-homed's and the dynamic ones; neither distributions nor systemd use them.
    assert 60706 <= int(number) < DYNAMIC[0]


def test_it_asks_for_no_more_than_it_says() -> None:
    """Nothing of the host can be written but the state; no privileged container outside the overlay."""
    spec = load("base/daemonset.yaml")["spec"]["template"]["spec"]
    assert not {"hostPID", "hostIPC", "hostNetwork"} & set(spec)
    writable = [mount["name"] for mount in container()["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["state"]
    assert not container()["securityContext"].get("privileged")
    patch = load("kernel-log/privileged.yaml")["spec"]["template"]["spec"]
    assert [mount.get("readOnly") for mount in patch["containers"][0]["volumeMounts"]] == [True]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can get to, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.mounts
@pytest.mark.parametrize("owner", [0, 65534], ids=["made by the kubelet", "of an older agent"])
def test_the_capabilities_are_enough(owner: int, open_folder: Path) -> None:
    """With the DaemonSet's mounts and capabilities the agent reads iomem, misses /boot, and keeps none."""
    spec = container()
    state, host, log = (open_folder / name for name in ("state", "host", "log"))
    state.mkdir()
    if owner:
        state.chmod(0o700)
        (state / "state.json").write_text('{"schema": "tdx-headroom/state/1"}')
        for path in (state, state / "state.json"):
            os.chown(path, owner, owner)
    for name in ("proc", "sys"):
        (host / name).mkdir(parents=True)
    paths = {"/host": str(host), "/var/lib/tdx-headroom": str(state)}
    arguments = []
    for argument in spec["args"]:
        flag, equals, value = argument.partition("=")
        arguments.append(f"{flag}{equals}{paths.get(value, value)}")
    capabilities = ",".join(f"+{name.lower()}" for name in spec["securityContext"]["capabilities"]["add"])
    script = (
        f"mount --rbind /proc {host}/proc && mount --rbind /sys {host}/sys && "
        f'exec setpriv --inh-caps=-all --bounding-set=-all,{capabilities} "$@"'
    )
    port = free_port()
    address = f"--web.listen-address=127.0.0.1:{port}"
    command = [sys.executable, "-m", "tdx_headroom", *arguments, address]
    with log.open("w") as stream:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", *command], stderr=stream, stdout=stream
        )
    try:
        end = time.monotonic() + 60
        while "msg=serving" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        status = Path(f"/proc/{process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == fields["Gid"].split() == ["61110"] * 4
        assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
        assert fields["NoNewPrivs"] == "1"
        assert "source=iomem origin" in log.read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/plan", timeout=60) as answer:
            assert json.load(answer)["verdict"]["boots_unknown"] == f"{host}/boot is not mounted"
        assert (state / "state.json").stat().st_uid == state.stat().st_uid == 61110
        assert state.stat().st_mode & 0o777 == 0o700
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
