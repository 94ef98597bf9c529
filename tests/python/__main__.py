# SPDX-License-Identifier: Apache-2.0
"""Unit, golden and fault tests under the newest Python that Debian has, as a plain user.

mmdebstrap makes a root file system of Debian's unstable suite, with little more than Python in it: what a
test needs beyond that, it must name. The wheels are fetched by this machine's pip, however it is configured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import MissingError, bootstrap, exit_status, install_packages, run

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
SUITE = "sid"
TESTS = ("tests/test_house.py", "tests/unit", "tests/golden", "tests/faults")
HOME = Path("home/tester")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests.

    Returns:
        pytest's status. 69: the machine lacks something. 70: a step before the tests failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.python", description=__doc__)
    parser.add_argument("tests", nargs="*", default=TESTS, help=f"what to run (default: {' '.join(TESTS)})")
    options = parser.parse_args(arguments)
    return exit_status("python", lambda: _run(options.tests))


def _run(tests: Sequence[str]) -> int:
    if os.geteuid() != 0:
        raise MissingError("root: a root file system belongs to root")
    install_packages(["mmdebstrap"] if shutil.which("mmdebstrap") is None else [])
    with tempfile.TemporaryDirectory(prefix="tdx-python-") as name:
        tree = Path(name) / "tree"
        _bootstrap(tree)
        return _test(tree, tests)


def _bootstrap(tree: Path) -> None:
    """A root file system with Python, a plain user, a copy of this checkout and the wheels that it takes."""
    # A mirror that is behind still has Python.
    valid = '--aptopt=Acquire::Check-Valid-Until "false"'
    bootstrap(SUITE, tree, ["python3", "python3-venv"], valid)
    run(["chroot", tree, "useradd", "--create-home", "tester"])
    version = run(
        ["chroot", tree, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    ).strip()
    print(f"Python {version} of Debian {SUITE}", flush=True)
    home = tree / HOME
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    fetch += ["--only-binary=:all:", f"--python-version={version}", f"--dest={home / 'wheels'}"]
    # An editable wheel takes the last one to build.
    run([*fetch, ".", "--group", "dev", "editables"], cwd=CHECKOUT)
    files = run(["git", "ls-files", "-z"], cwd=CHECKOUT).split("\0")
    for name in filter(None, files):
        copy = home / "checkout" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, copy, follow_symlinks=False)
    run(["chroot", tree, "chown", "--recursive", "tester:", f"/{HOME}"])


def _test(tree: Path, tests: Sequence[str]) -> int:
    """Install and test in the root file system; the mounts go with the namespace."""
    inside = f"""
        cd /{HOME}/checkout
        python3 -m venv .venv
        .venv/bin/pip install --quiet --no-index --find-links ../wheels --editable . --group dev
        exec .venv/bin/python -m pytest {" ".join(tests)}
    """
    script = f"""
        set -e
        mount --rbind /dev {tree}/dev; mount -t proc proc {tree}/proc; mount --rbind /sys {tree}/sys
        exec chroot --userspec=tester:tester {tree} env --ignore-environment HOME=/{HOME} LANG=C.UTF-8 \\
            PATH=/usr/bin:/bin sh -ec "$1"
    """
    command = ["unshare", "--mount", "--fork", "bash", "-c", script, "bash", inside]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
