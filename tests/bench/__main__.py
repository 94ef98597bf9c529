# SPDX-License-Identifier: Apache-2.0
"""How fast and small the agent is: `make bench`, or `python -m tests.bench --help`.

One table; every figure stands beside a peer's that was measured in the same run, in turns with it, so that a
busy machine slows both. node_exporter is Debian's; without it, its rows are left out. The record rows need
root; the instruction counts need valgrind.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.audits import audits
from tests.bench.captures import captures
from tests.bench.instructions import instructions
from tests.bench.planning import growth, hosts_a_second, plan_time
from tests.bench.programs import CHECKOUT, has_node_exporter
from tests.bench.record import records
from tests.bench.serving import idle, memory, scrapes, start
from tests.bench.table import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bench.table import Row

PARTS: dict[str, tuple[Callable[[], Iterable[Row]], Callable[[], Iterable[Row]]]] = {
    "scrapes": (lambda: scrapes(1000), lambda: scrapes(100)),
    "memory": (memory, memory),
    "start": (lambda: start(9), lambda: start(3)),
    "records": (lambda: records(100), lambda: records(10)),
    "plan": (plan_time, plan_time),
    "growth": (growth, growth),
    "fleet": (lambda: hosts_a_second(500), lambda: hosts_a_second(50)),
    "captures": (lambda: captures(500), lambda: captures(20)),
    "audits": (lambda: audits(1000, 10_000), lambda: audits(20, 100)),
    "idle": (lambda: idle(60), lambda: idle(5)),
    "instructions": (instructions, tuple),
}
"""Each part, and its short form."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(PARTS), help="repeatable")
    parser.add_argument("--quick", action="store_true", help="rough figures, to see that all of it runs")
    options = parser.parse_args()
    # An installed program is compiled, and so is each peer.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(CHECKOUT / "agent", quiet=1)
    rows: list[Row] = []
    for name in options.only or PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        full, quick = PARTS[name]
        rows += (quick if options.quick else full)()
    print(machine())
    print()
    print(render(rows))
    return 0


def machine() -> str:
    """What it was measured on."""
    cpu = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    libraries = ("prometheus_client", "tornado", "structlog", "psutil")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in libraries)
    where = f"{os.cpu_count()} x {cpu}, Linux {platform.release()}, Python {platform.python_version()}"
    exporter = "" if has_node_exporter() else "; node_exporter is not installed"
    return f"{where}, {versions}; load {os.getloadavg()[0]:.1f}{exporter}"


if __name__ == "__main__":
    sys.exit(main())
