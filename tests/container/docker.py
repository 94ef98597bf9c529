# SPDX-License-Identifier: Apache-2.0
"""docker, by a daemon that the test starts and ends."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.container.engine import CERTIFICATES, Engine, namespaces
from tests.kernel.tools import KernelTestError, last_line
from tests.tools.cgroups import cgroup
from tests.tools.steps import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = {"dockerd": "docker.io", "runc": "runc", "iptables": "iptables"}
"""Programs that it needs, and the Debian package that has each."""

_ENDS = 60.0


class Docker(Engine):
    """With a daemon in the namespaces."""

    # As often as the image says, each look at a stopped agent would take two minutes.
    limits = ("--health-interval=2s", "--health-timeout=5s")

    def __init__(self, leader: int, folder: Path) -> None:
        super().__init__(leader, folder)
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> tuple[str, ...]:
        return ("docker", f"--host=unix://{self.folder / 'socket'}")

    @property
    def cgroup(self) -> str:
        """The cgroup that its containers are below."""
        return f"tdx-{self.folder.name}"

    def import_image(self, tar: Path, name: str) -> None:
        """With this machine's certificates: a build cannot be given them."""
        self("import", tar, name)
        number = self("create", name, "true").strip()
        certificates = self.folder / "certificates.tar"
        with tarfile.open(certificates, "w", dereference=True) as made:
            made.add(CERTIFICATES, CERTIFICATES.lstrip("/"))
        copy = (*self.command, "cp", "-", f"{number}:/")
        self.inside("sh", "-c", 'tar=$1; shift; exec "$@" < "$tar"', "sh", certificates, *copy)
        self("commit", number, name)
        self("rm", number)

    def build(self, words: list[str], checkout: Path) -> None:
        """In the daemon's network, which is the machine's only meanwhile."""
        self.end()
        self.begin(("--mount",), "--bridge=none")
        try:
            spaces = ("--mount", f"--wdns={checkout}")
            self.inside(*self.command, "build", "--network=host", *words, spaces=spaces)
        finally:
            self.end()
            self.begin()

    def wait_for_health(self, name: str, *, healthy: bool) -> None:
        status = "healthy" if healthy else "unhealthy"
        wait_for(f"{status} {name}", lambda: self.inspect(name, "{{.State.Health.Status}}") == status)

    def begin(self, spaces: tuple[str, ...] = ("--net", "--mount"), *options: str) -> None:
        """Start the daemon, until it answers.

        Raises:
            KernelTestError: it does not; its last line is in the message.
        """
        folder = self.folder
        words = (
            *("dockerd", f"--data-root={folder / 'storage'}", f"--exec-root={folder / 'exec'}"),
            *(f"--pidfile={folder / 'pid'}", self.command[1], "--storage-driver=overlay2"),
            *("--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{self.cgroup}"),
            *(f"--add-runtime=here={folder / 'runtime'}", "--default-runtime=here", "--oom-score-adjust=0"),
            *("--iptables=false", "--default-ulimit=nofile=1024:1024"),
        )
        log = folder / "dockerd.log"
        with log.open("wb") as stream:
            self._daemon = daemon = subprocess.Popen(
                ["nsenter", f"--target={self.leader}", *spaces, *words, *options],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            wait_for("answer of dockerd", lambda: daemon.poll() is not None or self("version"))
            self("version")
        except KernelTestError as error:
            said = last_line(log.read_text("utf-8", "replace"))
            raise KernelTestError(f"{error}; dockerd said last: {said}") from None

    def remove_all(self) -> None:
        """Of whatever is left when a step fails."""
        if left := self("ps", "--all", "--quiet").split():
            self("rm", "--force", *left)

    def end(self) -> None:
        """End the daemon."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(_ENDS)
            self._daemon = None


@contextmanager
def docker(folder: Path) -> Iterator[Docker]:
    """An engine without an image; its containers, mounts and networks go at the end."""
    runtime = folder / "runtime"
    shutil.copy(Path(__file__).with_name("runtime.py"), runtime)
    runtime.chmod(0o755)
    with namespaces() as leader:
        engine = Docker(leader, folder)
        with cgroup(engine.cgroup), ExitStack() as at_end:
            at_end.callback(engine.end)
            engine.begin()
            at_end.callback(engine.remove_all)
            yield engine
