# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: the guests that the checks run in, each booted once, and what took how long."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.vm.install import drop_in, install
from tests.vm.machine import GuestError, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PORT = 10110
SERVICE = "tdx-headroom.service"
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
    """

    suite: str
    machine: Machine
    systemd: int

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
            raise GuestError(f"{error}\n{self.log(15)}") from None

    def log(self, lines: int) -> str:
        """The last lines of what the service and systemd have logged about it."""
        return self.machine.run(f"journalctl --no-pager --output=cat --lines={lines} --unit={SERVICE}")

    def prop(self, name: str, unit: str = SERVICE) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run(f"systemctl show --value --property={name} {unit}")

    def start(self) -> None:
        """Start the service as a package's installation would."""
        self.run(f"systemctl enable --now tdx-headroom.socket {SERVICE}")

    def samples(self) -> Samples:
        """A scrape from outside the guest."""
        families = text_string_to_metric_families(self.machine.fetch("/metrics"))
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

        Raises:
            GuestError: it does not hold in time.
        """
        started = time.monotonic()
        while not holds():
            if time.monotonic() - started > seconds:
                raise GuestError(f"not within {seconds:.0f} s: {what}\n{self.log(15)}")
            time.sleep(0.1)
        return time.monotonic() - started


@dataclass
class Prepared:
    """What the guests are made from, and what was measured.

    Args:
        kernel: the guests' kernel.
        images: disk image by suite.
        wheel: the agent.
        times: lines for the end of the report.
    """

    kernel: Path
    images: dict[str, Path]
    wheel: Path
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


@contextmanager
def _booted(suite: str, append: str) -> Iterator[Guest]:
    prepared = PREPARED[0]
    with Machine(prepared.kernel, prepared.images[suite], port=PORT, append=append) as machine:
        started = time.monotonic()
        version = int(machine.run("systemctl --version").split()[1])
        install(machine, prepared.wheel)
        guest = Guest(suite, machine, version)
        if not guest.has_open_file:
            drop_in(machine, SERVICE, "old-systemd.conf")
        installed = time.monotonic()
        guest.start()
        prepared.times.append(
            f"{suite}: systemd {version}; boot {machine.boot_seconds:.1f} s, installation"
            f" {installed - started:.1f} s, start of the service {time.monotonic() - installed:.1f} s"
        )
        yield guest
