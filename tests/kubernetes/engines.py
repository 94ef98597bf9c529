# SPDX-License-Identifier: Apache-2.0
"""What runs the node's containers: docker, or containerd by itself, as most clusters have it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError

if TYPE_CHECKING:
    from tests.kubernetes.node import Node

PAUSE = "k8s.gcr.io/pause:3.2"
"""The image of the container that holds a pod's namespaces, as this kubelet calls it."""

RUNTIME = "/opt/runtime"
"""What the engine calls in place of runc (``tests/container/runtime.py``)."""

_CNI_PROGRAMS, _CNI_NETWORKS = "/usr/lib/cni", "/etc/cni/net.d"


class Engine(ABC):
    """An engine on the node.

    Args:
        node: where it runs.
    """

    name: str
    """As the status of a pod has it."""

    kubelet: tuple[str, ...]
    """The kubelet's flags for it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @abstractmethod
    def start(self) -> None:
        """Until it answers."""

    @abstractmethod
    def load(self, archive: str, name: str) -> None:
        """An image of this name from an archive on the node, as ``docker save`` writes them."""

    @abstractmethod
    def tag(self, name: str, other: str) -> None:
        """Another name for an image."""

    @abstractmethod
    def pid(self, container: str) -> int:
        """The process of a container, as the node counts them."""

    @abstractmethod
    def run(self, image: str, folder: str, program: str, *words: str) -> str:
        """What a program of the image prints, run by root, which sees the node below /host.

        Args:
            image: its name.
            folder: of the node, to which it may write.
            program: a path in the image.
            words: its arguments.
        """


class Docker(Engine):
    """By the kubelet's own code for it, which went with Kubernetes 1.24."""

    name = "docker"
    kubelet = (
        *("--docker-endpoint=unix:///run/docker.sock", f"--pod-infra-container-image={PAUSE}"),
        *("--network-plugin=cni", f"--cni-bin-dir={_CNI_PROGRAMS}", f"--cni-conf-dir={_CNI_NETWORKS}"),
    )

    def start(self) -> None:
        self._node.start(
            *("/usr/sbin/dockerd", "--host=unix:///run/docker.sock", "--storage-driver=overlay2"),
            *("--oom-score-adjust=0", "--bridge=none", "--iptables=false"),
            *("--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{self._node.cgroup}"),
            *(f"--add-runtime=here={RUNTIME}", "--default-runtime=here"),
        )
        self._node.wait_for("docker", "dockerd", "docker", "version")

    def load(self, archive: str, name: str) -> None:
        self._node.run("docker", "load", "--quiet", f"--input={archive}")
        self._node.run("docker", "image", "inspect", name)

    def tag(self, name: str, other: str) -> None:
        self._node.run("docker", "tag", name, other)

    def pid(self, container: str) -> int:
        return int(self._node.run("docker", "inspect", "--format={{.State.Pid}}", container))

    def run(self, image: str, folder: str, program: str, *words: str) -> str:
        volumes = ("--volume=/:/host:ro,rslave", f"--volume={folder}:{folder}")
        options = ("--rm", "--network=none", "--cap-add=SYS_ADMIN", f"--entrypoint={program}", *volumes)
        return self._node.run("docker", "run", *options, image, *words)


class Containerd(Engine):
    """By the interface that all engines have in common."""

    name = "containerd"
    _SOCKET = "/run/containerd/containerd.sock"
    kubelet = ("--container-runtime=remote", f"--container-runtime-endpoint=unix://{_SOCKET}")
    _ctr = ("ctr", "--namespace=k8s.io")

    def start(self) -> None:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        lines = (
            "version = 2",
            f"[{cri}]",
            f'sandbox_image = "{PAUSE}"',
            f"[{cri}.cni]",
            f'bin_dir = "{_CNI_PROGRAMS}"',
            f'conf_dir = "{_CNI_NETWORKS}"',
            f"[{cri}.containerd.runtimes.runc]",
            'runtime_type = "io.containerd.runc.v2"',
            f"[{cri}.containerd.runtimes.runc.options]",
            f'BinaryName = "{RUNTIME}"',
        )
        (self._node.root / "etc/containerd/config.toml").write_text("\n".join((*lines, "")))
        self._node.start("/usr/bin/containerd")
        self._node.wait_for("containerd", "containerd", *self._ctr, "version")

    def load(self, archive: str, name: str) -> None:
        self._node.run(*self._ctr, "images", "import", archive)
        found = self._node.run(*self._ctr, "images", "list", "--quiet").split()
        if name not in found:
            raise KernelTestError(f"containerd has {', '.join(found)}, and not {name}")

    def tag(self, name: str, other: str) -> None:
        self._node.run(*self._ctr, "images", "tag", name, other)

    def pid(self, container: str) -> int:
        tasks = self._node.run(*self._ctr, "tasks", "list")
        found = re.search(rf"(?m)^{container} +([0-9]+) ", tasks)
        if found is None:
            raise KernelTestError(f"containerd runs no {container}")
        return int(found[1])

    def run(self, image: str, folder: str, program: str, *words: str) -> str:
        mounts = (
            "--mount=type=bind,src=/,dst=/host,options=rbind:ro:rslave",
            f"--mount=type=bind,src={folder},dst={folder},options=rbind:rw",
        )
        options = ("--rm", f"--runc-binary={RUNTIME}", "--cap-add=CAP_SYS_ADMIN", *mounts)
        group = f"--cgroup=/{self._node.cgroup}/once"
        return self._node.run(*self._ctr, "run", *options, group, image, "once", program, *words)


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Docker, Containerd)}
