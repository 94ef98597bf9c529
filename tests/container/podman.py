# SPDX-License-Identifier: Apache-2.0
"""podman: runc, cgroupfs and the two limits are for machines without systemd or without CAP_SYS_RESOURCE."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.container.engine import CERTIFICATES, Engine, namespaces
from tests.kernel.tools import KernelTestError
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
}
"""Programs that it needs, by name or path, and the Debian package that has each."""

_ENGINE = (
    *("podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "--storage-driver=overlay"),
    "--events-backend=file",
)


class Podman(Engine):
    """Without a daemon."""

    limits = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")

    @property
    def command(self) -> tuple[str, ...]:
        return (*_ENGINE, f"--root={self.folder / 'storage'}", f"--runroot={self.folder / 'run'}")

    def build(self, words: list[str], checkout: Path) -> None:
        # OCI's own format has no health check.
        own = ["--pull=never", "--network=host", "--format=docker"]
        own += [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"]
        self.inside(*self.command, "build", *own, *words, spaces=("--mount", f"--wdns={checkout}"))

    def import_image(self, tar: Path, name: str) -> None:
        self("import", "--quiet", tar, name)

    def wait_for_health(self, name: str, *, healthy: bool) -> None:
        def passes() -> bool:
            try:
                self("healthcheck", "run", name)
            except KernelTestError:
                return False
            return True

        wait_for(f"{'healthy' if healthy else 'unhealthy'} {name}", lambda: passes() == healthy)


@contextmanager
def podman(folder: Path) -> Iterator[Podman]:
    """An engine without an image; its containers, mounts and networks go at the end."""
    with namespaces() as leader:
        engine = Podman(leader, folder)
        try:
            yield engine
        finally:
            engine("rm", "--all", "--force", "--time=5")
