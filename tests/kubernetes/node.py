# SPDX-License-Identifier: Apache-2.0
"""A node: Debian with docker and etcd under an overlay, in namespaces of its own, in which Kubernetes runs.

What runs there can neither write to this machine nor outlive the node: its processes end with their PID
namespace, mounts, interfaces and rules with theirs. Only cgroups and the folder are left to remove.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.tools import KernelTestError, MissingError, bootstrap, last_line, new_folder, run
from tests.kubernetes.build import CACHE, SUITE
from tests.tools.cgroups import cgroup
from tests.tools.steps import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = (
    *("docker.io", "etcd-server", "containernetworking-plugins", "python3", "ca-certificates"),
    *("iproute2", "iptables", "conntrack", "socat", "mount", "util-linux", "procps", "curl"),
)
WITH_TDX = Path(__file__).parents[1] / "hosts/good-2-node"
_MODEL = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
NAME, ADDRESS = "tdx-node", "192.0.2.1"
PATIENCE = 300.0
"""Seconds for a server or a pod to come or go on a loaded machine."""

_KERNEL_SETTINGS = {
    "sys/vm/overcommit_memory": 1,
    "sys/vm/panic_on_oom": 0,
    "sys/kernel/panic": 10,
    "sys/kernel/panic_on_oops": 1,
    "sys/kernel/keys/root_maxkeys": 1000000,
    "sys/kernel/keys/root_maxbytes": 25000000,
}
"""What the kubelet wants of the kernel: it finds it in files of the node, and leaves the machine's alone."""

_START = """
    set -e
    cd "$1"
    # Of the machine's /proc, so the number is the machine's.
    read -r pid rest < /proc/self/stat
    mount --make-rprivate /
    mount -t overlay node -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/overlay" root
    cd root
    mount -t proc proc proc
    for file in ../proc/*; do
        mount --bind "$file" "proc/$(basename "$file" | tr : /)"
    done
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    mkdir -p var/lib/docker var/lib/containerd var/lib/etcd opt/kubernetes old
    # Engines lay overlays of their own, which cannot be upon this one.
    mount --bind ../docker var/lib/docker
    mount --bind ../containerd var/lib/containerd
    mount --bind ../etcd var/lib/etcd
    mount --bind "$3" opt/kubernetes
    echo "$4" > proc/sys/kernel/hostname
    pivot_root . old
    umount -l old
    mount --make-rshared /
    mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug || true
    ip link set lo up
    ip link add node type bridge
    ip address add "$5/24" dev node
    ip link set node up
    ip route add default dev node
    echo "$pid"
    exec cat
"""


class Node(NamedTuple):
    """The namespaces and what runs in them.

    Args:
        leader: process that holds them.
        folder: of the node, with the logs.
        servers: what was started there, by name.
    """

    leader: int
    folder: Path
    servers: dict[str, subprocess.Popen[bytes]]

    @property
    def root(self) -> Path:
        """The node's root, from outside."""
        return Path(f"/proc/{self.leader}/root")

    @property
    def cgroup(self) -> str:
        """The cgroup, in every hierarchy, that containers are below."""
        return f"tdx-kubernetes-{self.folder.name}"

    def inside(self, *words: str | Path) -> list[str | Path]:
        """The command that runs such a one on the node."""
        spaces = ("--mount", "--net", "--pid", "--uts", "--ipc", "--root", "--wd")
        return ["nsenter", f"--target={self.leader}", *spaces, "--", *words]

    def run(self, *words: str | Path) -> str:
        """What a program prints that runs on the node.

        Raises:
            KernelTestError: it failed.
        """
        return run(self.inside(*words))

    def start(self, *words: str | Path) -> None:
        """A server on the node, which ends with it; its log is in the folder, under its name."""
        name = Path(words[0]).name
        with self.log(name).open("wb") as stream:
            self.servers[name] = subprocess.Popen(
                self.inside(*words), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def log(self, name: str) -> Path:
        """Where a server writes."""
        return self.folder / f"{name}.log"

    def wait_for(self, what: str, server: str, *words: str | Path) -> None:
        """Until the program succeeds on the node.

        Raises:
            KernelTestError: it did not, or the server has ended; what that said last is in the message.
        """

        def done() -> bool:
            if self.servers[server].poll() is not None:
                return True
            self.run(*words)
            return True

        try:
            wait_for(what, done, PATIENCE)
            self.run(*words)
        except KernelTestError as error:
            said = last_line(self.log(server).read_text("utf-8", "replace"))
            raise KernelTestError(f"{error}; {server} said last: {said}") from None


def node_tree(*, fresh: bool) -> Path:
    """The node's root file system, from the cache or made now."""
    folder = CACHE / f"node-{SUITE}"
    if fresh or not (folder / "tree").exists():
        with new_folder(folder) as made:
            bootstrap(SUITE, made / "tree", PACKAGES)
    return folder / "tree"


@contextmanager
def node(folder: Path, tree: Path, programs: Path) -> Iterator[Node]:
    """A node without a server yet.

    Args:
        folder: what it writes goes there; on a file system that may be below an overlay.
        tree: its root file system, which stays as it is.
        programs: folder that it sees as /opt/kubernetes.

    Raises:
        MissingError: this machine lets nobody make such namespaces or mounts.
    """
    for name in ("upper", "overlay", "root", "docker", "containerd", "etcd", "proc"):
        (folder / name).mkdir()
    for path, text in {**_KERNEL_SETTINGS, "cpuinfo": _cpuinfo()}.items():
        (folder / "proc" / path.replace("/", ":")).write_text(f"{text}\n")
    spaces = ("--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child")
    script = ("sh", "-c", _START, "sh", folder, tree, programs, NAME, ADDRESS)
    holder = subprocess.Popen(
        ["unshare", *spaces, *script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        line = holder.stdout.readline() if holder.stdout else b""
        if not line.strip().isdigit():
            why = holder.communicate()[1].decode(errors="replace")
            raise MissingError(f"namespaces and mounts for a node: {last_line(why)}")
        made = Node(int(line), folder, {})
        with cgroup(made.cgroup):
            try:
                yield made
            finally:
                holder.kill()
                holder.communicate()
    finally:
        holder.kill()
        holder.wait()


def _cpuinfo() -> str:
    """This machine's, but with the processor of a host with TDX: of others the agent has little to say."""
    other = dict(
        re.findall(rf"(?m)^({'|'.join(_MODEL)})(\t+: .*)$", (WITH_TDX / "proc/cpuinfo").read_text("utf-8"))
    )
    text = Path("/proc/cpuinfo").read_text("utf-8")
    for key, rest in other.items():
        text = re.sub(rf"(?m)^{key}\t+: .*$", key + rest, text)
    return text
