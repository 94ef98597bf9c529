# SPDX-License-Identifier: Apache-2.0
"""A container engine in a network and a mount namespace of its own: nothing of the machine's is touched.

Its storage is in a folder that goes with the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, MissingError, install_packages, run
from tests.tools.steps import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PROGRAMS = {"mmdebstrap": "mmdebstrap", "curl": "curl", "unshare": "util-linux", "ip": "iproute2"}
_NAMESPACES = """
    set -e
    mount --make-rprivate /
    mount --make-rshared /
    mount -t tmpfs tmpfs /run
    ip link set lo up
    echo ready
    exec cat
"""


def require(why: str, programs: Mapping[str, str]) -> None:
    """Root, and the programs; installed if need be.

    Args:
        why: root it has to be.
        programs: by name or path, and the Debian package that has each.

    Raises:
        MissingError: this is a plain user, or there are no packages.
    """
    if os.geteuid() != 0:
        raise MissingError(f"root: {why}")
    wanted = {**_PROGRAMS, **programs}
    install_packages([package for name, package in wanted.items() if shutil.which(name) is None])


class Engine(ABC):
    """An engine inside the namespaces.

    Args:
        leader: process that holds the namespaces.
        folder: of its storage.
    """

    limits: tuple[str, ...] = ()
    """Options of every container that this machine may need; they change nothing of what it may do."""

    def __init__(self, leader: int, folder: Path) -> None:
        self.leader = leader
        self.folder = folder

    @property
    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """The program and the options that every command takes."""

    @abstractmethod
    def build(self, words: list[str], checkout: Path) -> None:
        """Build as a page says, from images that are there, with this machine's network and certificates."""

    @abstractmethod
    def import_image(self, tar: Path, name: str) -> None:
        """An image of this name from the tar of its root."""

    @abstractmethod
    def wait_for_health(self, name: str, *, healthy: bool) -> None:
        """Until the engine finds that a container's health check passes, or that it fails."""

    def inside(self, *words: str | Path, spaces: tuple[str, ...] = ("--net", "--mount")) -> str:
        """What a program prints that runs in the namespaces.

        Raises:
            KernelTestError: it failed.
        """
        enter = ["nsenter", f"--target={self.leader}", *spaces]
        # podman would ask systemd for a timer of each health check, which not every machine has.
        return run([*enter, *words], env={**os.environ, "DISABLE_HC_SYSTEMD": "true"})

    def __call__(self, *words: str | Path) -> str:
        """What the engine prints."""
        return self.inside(*self.command, *words)

    def run(self, words: list[str]) -> None:
        """Run as a page says, in the background."""
        self("run", "--detach", *self.limits, *(word for word in words if word != "--detach"))

    def once(self, *words: str) -> str:
        """Run a command in a container that goes with it; what it prints."""
        return self("run", "--rm", *self.limits, *words)

    def inspect(self, name: str, template: str) -> str:
        """A field of a container, as Go's template shows it."""
        return self("container", "inspect", "--format", template, name).strip()

    def logs(self, name: str) -> str:
        """What a container has printed; engines print its errors as errors of their own."""
        return self.inside("sh", "-c", '"$@" 2>&1', "sh", *self.command, "logs", name)

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
def namespaces() -> Iterator[int]:
    """A process that holds new ones; what is mounted and listens there goes with it."""
    words = ["unshare", "--mount", "--net", "sh", "-c", _NAMESPACES]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if holder.stdout is None or holder.stdout.readline() != b"ready\n":
            raise KernelTestError("no namespaces for an engine: this needs root and CAP_SYS_ADMIN")
        yield holder.pid
    finally:
        holder.communicate()
