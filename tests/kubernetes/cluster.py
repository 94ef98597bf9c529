# SPDX-License-Identifier: Apache-2.0
"""Kubernetes on the node: its servers, and kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.kernel.tools import KernelTestError, last_line, run
from tests.kubernetes.engines import PAUSE, RUNTIME
from tests.kubernetes.node import ADDRESS, NAME, PATIENCE
from tests.tools.steps import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.kubernetes.build import Programs
    from tests.kubernetes.engines import Engine
    from tests.kubernetes.node import Node

Json = dict[str, Any]
_RUNC = Path(__file__).parents[1] / "container/runtime.py"
_SECRETS = "/etc/kubernetes/pki"
_CONFIGURATION = "/etc/kubernetes/admin.conf"
_TOKEN = "of-the-test"
_NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "198.51.100.0/24"}]]},
        }
    ],
}
_ETCD = (
    *("/usr/bin/etcd", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync"),
    *("--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"),
    *("--listen-peer-urls=http://127.0.0.1:2380",),
)
_SERVER = (
    *(
        "/opt/kubernetes/kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        "--cert-dir=/etc/kubernetes/pki",
    ),
    *("--service-cluster-ip-range=10.96.0.0/16", f"--advertise-address={ADDRESS}", "--allow-privileged"),
    "--kubelet-preferred-address-types=InternalIP",
    *("--authorization-mode=RBAC", f"--token-auth-file={_SECRETS}/tokens.csv"),
    *("--service-account-issuer=https://tdx-node", f"--service-account-key-file={_SECRETS}/accounts.key"),
    f"--service-account-signing-key-file={_SECRETS}/accounts.key",
)
_CONTROLLERS = (
    *("/opt/kubernetes/kube-controller-manager", f"--kubeconfig={_CONFIGURATION}", "--leader-elect=false"),
    f"--service-account-private-key-file={_SECRETS}/accounts.key",
)
_SCHEDULER = ("/opt/kubernetes/kube-scheduler", f"--kubeconfig={_CONFIGURATION}", "--leader-elect=false")
_KUBELET = (
    *("/opt/kubernetes/kubelet", f"--kubeconfig={_CONFIGURATION}", f"--node-ip={ADDRESS}"),
    f"--hostname-override={NAME}",
    # Cgroups of its own for the classes of pods are more than a container lets it make.
    *("--cgroups-per-qos=false", "--enforce-node-allocatable=", "--cgroup-driver=cgroupfs"),
    # How full this machine's disk is must not end pods.
    *("--eviction-hard=", "--image-gc-high-threshold=100", "--fail-swap-on=false"),
)

_ASK = ("curl", "--insecure", "--silent", "--fail")


class Cluster(NamedTuple):
    """One node that is everything.

    Args:
        node: where it runs.
        engine: what runs its containers.
        kubectl: the client.
        checkout: folder in which kubectl runs, which the pages' commands are meant for.
        configuration: kubectl's.
    """

    node: Node
    engine: Engine
    kubectl: Path
    checkout: Path
    configuration: Path

    def __call__(self, *words: str | Path, stdin: str = "") -> str:
        """What kubectl prints, run in the checkout.

        Raises:
            KernelTestError: it failed.
        """
        done = self.call(*words, stdin=stdin)
        if done.returncode != 0:
            shown = " ".join(map(str, words))
            raise KernelTestError(f"kubectl {shown}: status {done.returncode}: {last_line(done.stderr)}")
        return done.stdout

    def call(self, *words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """kubectl with this outcome, whatever it is."""
        command, env = self._command(*words)
        return subprocess.run(
            command, cwd=self.checkout, env=env, input=stdin, capture_output=True, text=True
        )

    @contextmanager
    def during(self, *words: str | Path) -> Iterator[None]:
        """kubectl for as long as the block lasts."""
        command, env = self._command(*words)
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def _command(self, *words: str | Path) -> tuple[list[str | Path], dict[str, str]]:
        """In the node's network, with this machine's files; and the environment of it."""
        # It keeps what it learns of a server, by address, and the next test's server has the same.
        env = {**os.environ, "KUBECONFIG": str(self.configuration), "HOME": str(self.node.folder)}
        return ["nsenter", f"--target={self.node.leader}", "--net", "--", self.kubectl, *words], env

    def get(self, *words: str) -> Json:
        """An object or a list of them."""
        found: Json = json.loads(self("get", "--output=json", *words))
        return found

    def apply(self, *objects: Json, options: Sequence[str] = ()) -> str:
        """Objects made or changed."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self("apply", *options, "--filename=-", stdin=text)


def start(node: Node, engine: Engine, programs: Programs, checkout: Path, pause: str) -> Cluster:
    """The servers, until the node is ready.

    Args:
        node: where they run.
        engine: what is to run containers there.
        programs: of Kubernetes.
        checkout: folder in which kubectl runs.
        pause: on the node, the archive of the image of that name.

    Raises:
        KernelTestError: one does not come up; its last line is in the message.
    """
    etc = node.root / "etc"
    (etc / "kubernetes/pki").mkdir(parents=True)
    (etc / "cni/net.d").mkdir(parents=True)
    (etc / "cni/net.d/pods.conflist").write_text(json.dumps(_NETWORK))
    (etc / "kubernetes/pki/tokens.csv").write_text(f"{_TOKEN},test,test,system:masters\n")
    run(["openssl", "genrsa", "-out", etc / "kubernetes/pki/accounts.key", "2048"])
    configuration = node.folder / "kubectl.json"
    configuration.write_text(json.dumps(_configuration()))
    shutil.copy(configuration, etc / "kubernetes/admin.conf")
    runtime = node.root / RUNTIME.lstrip("/")
    shutil.copy(_RUNC, runtime)
    runtime.chmod(0o755)

    node.start(*_ETCD)
    node.wait_for("etcd", "etcd", *_ASK, "http://127.0.0.1:2379/health")
    node.start(*_SERVER)
    engine.start()
    engine.load(pause, PAUSE)
    node.wait_for("Kubernetes' server", "kube-apiserver", *_ASK, "https://127.0.0.1:6443/readyz")
    for words in (_CONTROLLERS, _SCHEDULER, (*_KUBELET, *engine.kubelet, f"--cgroup-root=/{node.cgroup}")):
        node.start(*words)
    cluster = Cluster(node, engine, programs.kubectl, checkout, configuration)
    wait_for("ready node", lambda: _ready(cluster.get("node", NAME)), PATIENCE)
    # Without its default account no pod may be made in a namespace.
    wait_for("account", lambda: cluster("get", "serviceaccount", "default"), PATIENCE)
    return cluster


def _ready(node: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))


def _configuration() -> Json:
    """kubectl's, of a server whose certificate it has made itself a moment ago."""
    server = {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": "test", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
