# SPDX-License-Identifier: Apache-2.0
"""The reboot test: what is foretold of the next boot is what comes. README.md says what is tested."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.build import get_kernel
from tests.kernel.tools import MissingError, exit_status, install_packages, run
from tests.reboots import grub_steps, remedy_steps, systemd_boot_steps
from tests.reboots.disk import LOADERS, copy_of, get_disk
from tests.reboots.guest import boot_disk
from tests.reboots.packages import get_packages
from tests.reboots.places import FIRMWARE, KERNEL_CONFIG, SERIES
from tests.reboots.report import report, summary
from tests.reboots.run import go
from tests.reboots.steps import Context
from tests.vm.image import check_machine
from tests.vm.install import build_package, install

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.kernel.build import Kernel
    from tests.reboots.disk import Disk
    from tests.reboots.packages import Packages
    from tests.reboots.run import Result
    from tests.reboots.steps import Step

STEPS: dict[str, tuple[Step, ...]] = {
    "grub": grub_steps.STEPS,
    "systemd-boot": systemd_boot_steps.STEPS,
}
PROGRAMS = {"sfdisk": "fdisk", "mkfs.vfat": "dosfstools"}
FIRST = "7.3"
"""The kernel that a disk has from the beginning."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the reboot test.

    Returns:
        0: all came as foretold. 1: something did not. 69: the machine lacks something. 70: a step failed.
    """
    options = _options(arguments)
    return exit_status("reboot-test", lambda: _run(options))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reboots", description=__doc__)
    parser.add_argument(
        "--loader", action="append", choices=sorted(LOADERS), help="boot loader, repeatable (default: all)"
    )
    parser.add_argument("--remedies", action="store_true", help="paste remedies instead of the other steps")
    parser.add_argument("--quick", action="store_true", help="a few reboots of each loader")
    parser.add_argument(
        "--deb", type=Path, metavar="FILE", help="the agent (default: this checkout's package)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a table of all steps")
    parser.add_argument("--steps", type=int, metavar="N", help="no more than the first N")
    parser.add_argument("--prepare-only", action="store_true", help="make kernels and disks, reboot nothing")
    parser.add_argument("--no-install", action="store_true", help="install no packages: say what is missing")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    _check_machine(install=not options.no_install)
    # No remedy is about another kernel, and one takes minutes to compile.
    needed = (FIRST,) if options.remedies else SERIES
    kernels = {
        series: get_kernel(series, install=not options.no_install, extra=KERNEL_CONFIG) for series in needed
    }
    packages = get_packages(kernels)
    all_steps = remedy_steps.STEPS if options.remedies else STEPS
    loaders = [LOADERS[name] for name in options.loader or all_steps]
    disks = {loader.name: get_disk(loader, packages, kernels[FIRST].image, FIRST) for loader in loaders}
    print(f"reboot-test: prepared in {time.monotonic() - started:.0f} s", flush=True)
    if options.prepare_only:
        return 0
    results: list[Result] = []
    versions = _versions(kernels, packages)
    with tempfile.TemporaryDirectory(prefix="tdx-reboots-") as folder:
        agent = options.deb or build_package("deb", Path(folder))
        for name, disk in disks.items():
            steps = [step for step in all_steps.get(name, ()) if step.quick or not options.quick][
                : options.steps
            ]
            results += _reboot(name, disk, packages, agent, steps[: options.steps], versions)
            if options.report:
                options.report.write_text(report(results, versions))
    print(f"reboot-test: {summary(results)}; {time.monotonic() - started:.0f} s in all")
    return 1 if any(result.differences for result in results) else 0


def _check_machine(*, install: bool) -> None:
    check_machine(install=install)
    lacking = {package for name, package in PROGRAMS.items() if shutil.which(name) is None}
    if not FIRMWARE.exists():
        lacking.add("ovmf")
    if lacking and not install:
        raise MissingError(f"{' '.join(sorted(lacking))}: not installed")
    install_packages(sorted(lacking))


def _reboot(
    name: str,
    disk: Disk,
    packages: Packages,
    agent: Path,
    steps: Sequence[Step],
    versions: dict[str, str],
) -> list[Result]:
    with copy_of(disk) as mine, boot_disk(mine, packages.disk) as guest:
        print(f"{name}: the first boot took {guest.machine.boot_seconds:.0f} s", flush=True)
        install(guest.machine, agent)
        shown = "${Package} ${Version}\\n"
        of = "grub-efi-amd64-bin systemd-boot-efi systemd tdx-headroom"
        for row in guest.run(f"dpkg-query -W -f '{shown}' {of} 2>/dev/null || true").splitlines():
            package, _, version = row.partition(" ")
            versions[package] = version
        return go(name, steps, Context(guest, packages.kernels))


def _versions(kernels: Mapping[str, Kernel], packages: Packages) -> dict[str, str]:
    found = {f"linux {series} with the stand-in": kernel.version for series, kernel in kernels.items()}
    found["Debian's own kernel"] = packages.kernels["debian"].release
    found["ovmf"] = run(["dpkg-query", "-W", "-f", "${Version}", "ovmf"])
    found["QEMU"] = run(["qemu-system-x86_64", "--version"]).splitlines()[0].partition("version ")[2]
    return found


if __name__ == "__main__":
    sys.exit(main())
