# SPDX-License-Identifier: Apache-2.0
"""The VM test: the units under real versions of systemd. README.md says what is tested."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.build import get_kernel
from tests.kernel.tools import exit_status
from tests.vm import guests
from tests.vm.image import SUITES, check_machine, get_image
from tests.vm.install import CHECKOUT, build_package

if TYPE_CHECKING:
    from collections.abc import Sequence


KERNEL = "6.12"
HERE = Path(__file__).parent
EXTRA = HERE / "kernel"
QUICK = "not (check_service or check_flood or check_boots or bookworm or (check_maps and (15 or 24)))"
"""What shows the most in the least time: the others start Python again and again, or flood it. The package is
installed in both suites by its own test."""

NAMES = ("service", "log", "flood", "memory", "maps", "boots", "package")
CHECKS = tuple(HERE / f"check_{name}.py" for name in NAMES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the VM test.

    Returns:
        0: all checks passed. 1: some did not. 69: the machine lacks something. 70: a step failed.
    """
    options = _options(arguments)
    return exit_status("vm-test", lambda: _run(options))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument(
        "--suite", action="append", choices=sorted(SUITES), help="Debian suite, repeatable (default: all)"
    )
    agent = parser.add_mutually_exclusive_group()
    agent.add_argument(
        "--deb", type=Path, metavar="FILE", help="the agent (default: this checkout's package)"
    )
    agent.add_argument("--wheel", type=Path, metavar="FILE", help="the agent, without a package around it")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="without check_service, check_boots; of bookworm the package only",
    )
    parser.add_argument("-k", dest="only", metavar="EXPRESSION", help="only checks of these names, as pytest")
    parser.add_argument("--prepare-only", action="store_true", help="make kernel and images, run no check")
    parser.add_argument("--no-install", action="store_true", help="install no packages: say what is missing")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    check_machine(install=not options.no_install)
    images = {suite: get_image(suite) for suite in options.suite or SUITES}
    for image in images.values():
        print(f"image {image.suite} ({SUITES[image.suite]}): {_took(image.seconds)}", flush=True)
    began = time.monotonic()
    kernel = get_kernel(KERNEL, install=not options.no_install, extra=EXTRA)
    print(f"kernel {kernel.series} {kernel.version}: {_took(time.monotonic() - began)}", flush=True)
    if options.prepare_only:
        return 0
    with tempfile.TemporaryDirectory(prefix="tdx-vm-") as folder:
        agent = options.deb or options.wheel or build_package("deb", Path(folder))
        disks = {suite: image.path for suite, image in images.items()}
        guests.PREPARED[:] = [guests.Prepared(kernel.image, disks, agent, kernel.modules)]
        command = [
            f"--rootdir={CHECKOUT}",
            f"--config-file={CHECKOUT}/pyproject.toml",
            "-p",
            "no:cacheprovider",
        ]
        command += ["--verbosity=1", "--tb=short", "--durations=5", *map(str, CHECKS)]
        chosen = [f"({words})" for words in (options.quick and QUICK, options.only) if words]
        command += ["-k", " and ".join(chosen)] if chosen else []
        status = int(pytest.main(command, plugins=[guests]))
    if options.quick:
        left_out = "check_service, check_flood and check_boots, two maps of four, and all under bookworm"
        print(f"vm-test: left out: {left_out}")
    print(f"vm-test: {time.monotonic() - started:.0f} s in all")
    return status


def _took(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else "from the cache"


if __name__ == "__main__":
    sys.exit(main())
