# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: the guests that the checks run in, each booted once, and what took how long."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kernel.tools import run
from tests.tools.scrape import EVERYTHING
from tests.vm.install import drop_in, install, mask_drop_in, remove_drop_in
from tests.vm.machine import GuestError, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PORT = 10110
PATIENCE = 5
"""A guest is that much slower on a machine that does other things too."""

SERVICE = "tdx-headroom.service"
ALL = "tdx-headroom*"
OLD = "old-systemd.conf"
TDX_FAILS = "tdx_standin.fail_fn=45"
"""With TDX initialized, memory that is added stays offline; with TDH.SYS.CONFIG failing it comes into use."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass
class Guest:
    """A booted guest with the agent installed.

    Args:
        suite: Debian suite.
        machine: the machine.
        systemd: version of systemd.
        packaged: the agent was installed by dpkg, not from a wheel.
    """

    suite: str
    machine: Machine
    systemd: int
    packaged: bool

    @property
    def has_open_file(self) -> bool:
        """Whether systemd knows OpenFile=."""
        return self.systemd >= 253

    def run(self, command: str) -> str:
        """Run a shell command as root.

        Raises:
            GuestError: it fails; with what the service has logged.
        """
        try:
            return self.machine.run(command).strip()
        except GuestError as error:
            raise GuestError(f"{error}\n{self.log(15, ALL)}") from None

    def log(self, lines: int, units: str = SERVICE) -> str:
        """The last lines of what the service and systemd have logged about it."""
        return self.machine.run(f"journalctl --no-pager --output=cat --lines={lines} --unit='{units}'")

    def prop(self, name: str, unit: str = SERVICE) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run(f"systemctl show --value --property={name} {unit}")

    def start(self) -> None:
        """Start the service where the installation has not."""
        if not self.packaged:
            self.run(f"systemctl enable --now tdx-headroom.socket {SERVICE}")

    def help_old_systemd(self, unit: str = SERVICE) -> None:
        """Have old-systemd.conf where OpenFile= is not known, as after the installation."""
        if not self.has_open_file:
            if self.packaged:
                remove_drop_in(self.machine, unit, OLD)
            else:
                drop_in(self.machine, unit, OLD)

    def leave_old_systemd_alone(self) -> None:
        """Take old-systemd.conf away."""
        if self.packaged:
            mask_drop_in(self.machine, SERVICE, OLD)
        else:
            remove_drop_in(self.machine, SERVICE, OLD)

    def samples(self) -> Samples:
        """A scrape from outside the guest."""
        families = text_string_to_metric_families(self.machine.fetch(EVERYTHING))
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    def value(self, name: str, **labels: str) -> float | None:
        """One value of a scrape from outside the guest."""
        return self.samples().get((name, tuple(sorted(labels.items()))))

    def sources(self) -> dict[str, float]:
        """Which sources the agent could read."""
        name = "tdx_headroom_source_success"
        return {labels[0][1]: value for (n, labels), value in self.samples().items() if n == name}

    def memory(self) -> int:
        """Bytes of System RAM in /proc/iomem as root sees them, in whole pages, from 1 MiB on."""
        total = 0
        for line in self.run("grep ' : System RAM' /proc/iomem").splitlines():
            start, end = (int(number, 16) for number in line.strip().split(" ")[0].split("-"))
            first, last = max(-(-start // 4096) * 4096, 1 << 20), (end + 1) // 4096 * 4096
            total += max(0, last - first)
        return total

    def wait(self, holds: Callable[[], bool], seconds: float, what: str) -> float:
        """Seconds until it holds.

        Args:
            holds: asked again and again.
            seconds: how long it takes at most on an idle machine.
            what: that is waited for, for the error.

        Raises:
            GuestError: it does not hold in time.
        """
        started = time.monotonic()
        while not holds():
            if time.monotonic() - started > seconds * PATIENCE:
                raise GuestError(f"not within {seconds:.0f} s: {what}\n{self.log(15, ALL)}")
            time.sleep(0.1)
        return time.monotonic() - started


@dataclass
class Prepared:
    """What the guests are made from, and what was measured.

    Args:
        kernel: the guests' kernel.
        images: disk image by suite.
        agent: the agent, as a Debian package or a wheel.
        modules: kernel modules by name.
        times: lines for the end of the report.
    """

    kernel: Path
    images: dict[str, Path]
    agent: Path
    modules: Mapping[str, Path]
    times: list[str] = field(default_factory=list)


PREPARED: list[Prepared] = []
"""What the command has prepared before it starts pytest: one."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each check runs in a guest of each suite."""
    for name in ("guest", "growing_guest"):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, list(PREPARED[0].images), indirect=True, scope="module")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured."""
    for line in PREPARED[0].times:
        terminalreporter.write_line(line)


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest in which TDX is initialized and the service runs."""
    with _booted(request.param, "") as made:
        yield made


@pytest.fixture(scope="module")
def growing_guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """The same, where memory that is added comes into use."""
    with _booted(request.param, TDX_FAILS) as made:
        yield made


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes something that was measured into the report."""
    return lambda text: PREPARED[0].times.append(f"{request.node.name}: {text}")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of the first suite that keeps what guests write, for several boots after one another."""
    path = tmp_path_factory.mktemp("disk") / "root.ext4"
    run(["cp", "--sparse=always", next(iter(PREPARED[0].images.values())), path])
    yield path
    path.unlink()


@contextmanager
def boot_disk(disk: Path, *, memory: int, append: str = "", more: Sequence[str] = ()) -> Iterator[Guest]:
    """A boot from a disk that keeps what is written; the agent is installed if it is not there yet."""
    prepared = PREPARED[0]
    with Machine(
        prepared.kernel, disk, port=PORT, memory=memory, append=append, keep=True, more=more
    ) as machine:
        guest = _guest(next(iter(prepared.images)), machine)
        if machine.status("command -v tdx-headroom") != 0:
            _install(guest)
        guest.wait(lambda: guest.prop("SubState") == "running", 60, "running after a boot")
        yield guest
        machine.power_off()


@contextmanager
def _booted(suite: str, append: str) -> Iterator[Guest]:
    prepared = PREPARED[0]
    with Machine(prepared.kernel, prepared.images[suite], port=PORT, append=append) as machine:
        started = time.monotonic()
        guest = _guest(suite, machine)
        _install(guest)
        prepared.times.append(
            f"{suite}: systemd {guest.systemd}; boot {machine.boot_seconds:.1f} s, installation and start of"
            f" the service {time.monotonic() - started:.1f} s"
        )
        yield guest


def _guest(suite: str, machine: Machine) -> Guest:
    version = int(machine.run("systemctl --version").split()[1])
    return Guest(suite, machine, version, PREPARED[0].agent.suffix == ".deb")


def _install(guest: Guest) -> None:
    install(guest.machine, PREPARED[0].agent)
    guest.help_old_systemd()
    guest.start()
