# SPDX-License-Identifier: Apache-2.0
"""The shipped rules, rule tests and configurations under each engine: ``python -m tests.prometheus``.

`installed`: Prometheus and Alertmanager of this machine's Debian; `newest`: those of Debian's unstable suite.
Both run the tests of make test that start these programs: promtool and amtool check every file, promtool runs
the rule tests, and live servers watch agents whose hosts begin to fail. `vmalert`: VictoriaMetrics, also of
the unstable suite, reads the same rules and runs the same rule tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import exit_status
from tests.prometheus import engines, vmalert

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = ("tests/integration/test_prometheus_rules.py", "tests/integration/test_prometheus.py")
NAMES = ("installed", "newest", "vmalert")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.prometheus", description=__doc__)
    parser.add_argument("--engine", action="append", choices=NAMES, help="repeatable (default: all)")
    parser.add_argument(
        "--fresh", action="store_true", help="look for newer versions than those in the cache"
    )
    options = parser.parse_args(arguments)
    return exit_status("prometheus-test", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    names = options.engine or NAMES
    failed = False
    engines.others()
    if "installed" in names:
        failed |= not _prometheus(engines.installed())
    if {"newest", "vmalert"} & set(names):
        newest = engines.newest(fresh=options.fresh)
        if "newest" in names:
            failed |= not _prometheus(newest)
        if "vmalert" in names:
            failed |= not _vmalert(newest)
    return int(failed)


def _prometheus(programs: engines.Engines) -> bool:
    """Whether the tests pass with these programs."""
    print(f"prometheus-test: {programs}", flush=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--require-everything", *TESTS]
    done = subprocess.run(command, cwd=CHECKOUT, env=programs.environment, check=False)
    return done.returncode == 0


def _vmalert(programs: engines.Engines) -> bool:
    """Whether vmalert takes the rules, and its own tool passes their tests."""
    print(f"prometheus-test: vmalert, of {programs}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tdx-vmalert-") as name:
        tests = vmalert.rule_tests(Path(name))
        for command in vmalert.commands(tests):
            began = time.monotonic()
            done = subprocess.run(command, cwd=name, env=programs.environment, check=False)
            said = "good" if done.returncode == 0 else f"FAILED, status {done.returncode}"
            took = f"{time.monotonic() - began:.0f} s"
            print(f"prometheus-test: {' '.join(command)}: {said} ({took})", flush=True)
            if done.returncode != 0:
                return False
    return True


if __name__ == "__main__":
    sys.exit(main())
