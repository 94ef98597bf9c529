# SPDX-License-Identifier: Apache-2.0
"""podman in a network and a mount namespace of its own: no port, mount or network of the machine is touched.

Its storage is in a folder that goes with the test. runc, cgroupfs and the two limits are for machines without
systemd or without CAP_SYS_RESOURCE; they change nothing of what a container may do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.tools import KernelTestError, MissingError, install_packages, run
from tests.tools.steps import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "conmon": "conmon",
    "iptables": "iptables",
    "/usr/lib/podman/netavark": "netavark",
    "mmdebstrap": "mmdebstrap",
    "curl": "curl",
    "unshare": "util-linux",
    "ip": "iproute2",
}
"""Programs that the test runs, by name or path, and the Debian package that has each."""

_ENGINE = (
    *("podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "--storage-driver=overlay"),
    "--events-backend=file",
)
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_NAMESPACES = """
    set -e
    mount --make-rprivate /
    mount --make-rshared /
    mount -t tmpfs tmpfs /run
    ip link set lo up
    echo ready
    exec cat
"""


def require(why: str) -> None:
    """Root, and the programs; installed if need be.

    Args:
        why: root it has to be.

    Raises:
        MissingError: this is a plain user, or there are no packages.
    """
    if os.geteuid() != 0:
        raise MissingError(f"root: {why}")
    install_packages([package for name, package in PROGRAMS.items() if shutil.which(name) is None])


class Podman(NamedTuple):
    """podman inside the namespaces.

    Args:
        leader: process that holds the namespaces.
        folder: of its storage.
    """

    leader: int
    folder: Path

    def inside(self, *words: str | Path, spaces: tuple[str, ...] = ("--net", "--mount")) -> str:
        """What a program prints that runs in the namespaces.

        Raises:
            KernelTestError: it failed.
        """
        enter = ["nsenter", f"--target={self.leader}", *spaces]
        # podman would ask systemd for a timer of each health check, which not every machine has.
        return run([*enter, *words], env={**os.environ, "DISABLE_HC_SYSTEMD": "true"})

    @property
    def engine(self) -> tuple[str, ...]:
        """The program and the options that every command takes."""
        return (*_ENGINE, f"--root={self.folder / 'storage'}", f"--runroot={self.folder / 'run'}")

    def __call__(self, *words: str | Path) -> str:
        """What podman prints."""
        return self.inside(*self.engine, *words)

    def build(self, words: list[str], checkout: Path) -> None:
        """Build as a page says, from images that are there, with this machine's network and certificates."""
        # OCI's own format has no health check.
        own = ["--pull=never", "--network=host", "--format=docker"]
        own += [f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro"]
        self.inside(*self.engine, "build", *own, *words, spaces=("--mount", f"--wdns={checkout}"))

    def run(self, words: list[str]) -> None:
        """Run as a page says, in the background."""
        self("run", "--detach", *_LIMITS, *(word for word in words if word != "--detach"))

    def once(self, *words: str) -> str:
        """Run a command in a container that goes with it; what it prints."""
        return self("run", "--rm", *_LIMITS, *words)

    def inspect(self, name: str, template: str) -> str:
        """A field of a container, as Go's template shows it."""
        return self("container", "inspect", "--format", template, name).strip()

    def logs(self, name: str) -> str:
        """What a container has printed; podman prints its errors as errors of its own."""
        return self.inside("sh", "-c", '"$@" 2>&1', "sh", *self.engine, "logs", name)

    def get(self, path: str) -> str:
        """What the agent answers on the port that is published."""
        return self.inside("curl", "--silent", "--fail", "--max-time", "30", f"http://localhost:10110{path}")

    def wait_for_agent(self, name: str) -> None:
        """Until it is ready; its log is in the error when it does not come up."""
        try:
            wait_for("answer of the agent", lambda: self.get("/-/ready"))
        except KernelTestError as error:
            state = self.inspect(name, "{{.State.Status}}")
            raise KernelTestError(f"{error}; {name} is {state}; {self.logs(name)!r}") from None


@contextmanager
def podman(folder: Path) -> Iterator[Podman]:
    """An engine without an image; its containers, mounts and networks go at the end."""
    words = ["unshare", "--mount", "--net", "sh", "-c", _NAMESPACES]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if holder.stdout is None or holder.stdout.readline() != b"ready\n":
            raise KernelTestError("no namespaces for podman: this needs root and CAP_SYS_ADMIN")
        engine = Podman(holder.pid, folder)
        try:
            yield engine
        finally:
            engine("rm", "--all", "--force", "--time=5")
    finally:
        holder.communicate()
