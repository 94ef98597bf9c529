# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import gc
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.shares import long_first, scheduler

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "openssl": "openssl",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "jsonnet": "jsonnet",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "systemd-analyze": "systemd",
    "systemd-sysusers": "systemd",
    "journalctl": "systemd",
    "systemd-journal-remote": "systemd-journal-remote",
    "bootctl": "systemd-boot",
    "kernel-install": "systemd",
    "run-parts": "debianutils",
    "shellcheck": "shellcheck",
    "start-stop-daemon": "dpkg",
    "sos": "sosreport",
    "ss": "iproute2",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "grub-mkconfig": "grub-common",
    "grub-editenv": "grub-common",
    "grub-script-check": "grub-common",
    "grub-emu": "grub-emu",
    "dpkg-checkbuilddeps": "dpkg-dev",
    "dh": "debhelper",
    "lintian": "lintian",
    "rpmbuild": "rpm",
    "rpm": "rpm",
    "rpm2cpio": "rpm2cpio",
    "cpio": "cpio",
    "git": "git",
    "rpmlint": "rpmlint",
    "make": "make",
    "man": "man-db",
    "zsh": "zsh",
    "bzip2": "bzip2",
    "xz": "xz-utils",
    "zstd": "zstd",
    "lz4": "lz4",
    "lzop": "lzop",
}
"""Programs that some tests need, and the Debian package that has each."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write the golden files anew")
    parser.addoption(
        "--require-everything",
        action="store_true",
        help="fail, as in CI, instead of skipping a test for want of something",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three processes a processor: many tests wait for agents, servers and browsers."""
    return min(8, 3 * (os.cpu_count() or 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Where processes share the tests, those of one module go to one of them: they share its fixtures."""
    return scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only where this is one of several processes: alone, tests run in the order of their files."""
    if hasattr(config, "workerinput"):
        long_first(items)


def pytest_configure(config: pytest.Config) -> None:
    # A collection looks through all that the collected tests hold, a sixth of a second each time.
    gc.set_threshold(10_000, 20, 100)
    # Some tests make files that another user is to read.
    os.umask(0o022)
    # Reports would fit the terminal in which the tests were started.
    os.environ.pop("COLUMNS", None)
    config.addinivalue_line("markers", "program(name): runs this program; skipped when it is not installed")
    config.addinivalue_line("markers", "root(what): does what only root can; skipped for others")
    config.addinivalue_line(
        "markers", "mounts: mounts for itself; skipped where nobody may, as in some containers"
    )


@functools.cache
def _may_mount() -> bool:
    return os.geteuid() == 0 and not subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("root"):
        if os.geteuid() != 0:
            pytest.skip(f"only root {mark.args[0]}")
    if item.get_closest_marker("mounts") is not None and not _may_mount():
        pytest.skip("only root can mount, and not in every container")
    for mark in item.iter_markers("program"):
        name = mark.args[0]
        # Some are root's or systemd's own, and not in everybody's PATH.
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/lib/systemd") is None:
            pytest.skip(f"{name} is not installed: apt-get install {PACKAGES[name]}")


@pytest.fixture
def kernel_log() -> Iterator[int]:
    """A descriptor of this machine's own log; not everybody may open it."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        pytest.skip(f"/dev/kmsg: {error.strerror}")
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--require-everything`` no test may be skipped, whatever it lacks."""
    del call
    report = yield
    if report.skipped and item.config.getoption("--require-everything"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.longrepr = f"{reason}\nNothing may be lacking here: --require-everything"
    return report


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped, and what would bring it."""
    reasons = sorted({str(report.longrepr[2]) for report in terminalreporter.getreports("skipped")})
    for reason in reasons:
        terminalreporter.write_line(f"skipped: {reason.removeprefix('Skipped: ')}")
