# SPDX-License-Identifier: Apache-2.0
"""Boots pairs and compares what the first foretold with what the second did: ``make boot-pairs``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kernel.boot import cost
from tests.kernel.build import get_kernel
from tests.kernel.foretell import Grade, foretell, row_of
from tests.kernel.many import Budget, add_options, boot_each
from tests.kernel.pairs import pairs
from tests.kernel.strategies import boot_case
from tests.kernel.tools import cache_folder, exit_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernel import store
    from tests.kernel.build import Kernel
    from tests.kernel.foretell import Foretold
    from tests.kernel.guestmap import GuestMap
    from tests.kernel.pairs import Pair


SECONDS = 45
"""A guest that takes longer hangs: a kernel that panics over its map does so before it knows ``panic=``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0: every prediction held. 1: one did not. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.boot_pairs", description=__doc__)
    add_options(parser, "pairs")
    parser.add_argument("--pairs", type=int, default=100, help="how many pairs (default: 100)")
    parser.add_argument("--rows", metavar="FILE.jsonl", help="boot nothing: compare the pairs in FILE")
    parser.add_argument(
        "--out", metavar="FILE.jsonl", help="where the pairs are kept (default: cache folder)"
    )
    return exit_status("boot-pairs", lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    if options.rows:
        with Path(options.rows).open() as file:
            return _tell([json.loads(line) for line in file])
    kernel = get_kernel(options.kernel, install=not options.no_install, extra=options.extra)
    folder = cache_folder() / "runs"
    out = Path(options.out or folder / f"pairs-{kernel.series}-seed{options.seed}.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".pairs-{os.getpid()}"
    budget = Budget.of_this_machine()
    rows = []
    todo = pairs(options.seed, options.pairs)
    with out.open("w") as file:
        try:
            for row in boot_each(
                lambda pair: _both(kernel, pair, scratch, budget), todo, options.jobs, kernel.series, "pair"
            ):
                if row is not None:
                    rows.append(row)
                    file.write(json.dumps(row) + "\n")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"pairs: {out}; {len(todo) - len(rows)} of {len(todo)} without a first boot")
    return _tell(rows)


def _both(kernel: Kernel, pair: Pair, scratch: Path, budget: Budget) -> dict[str, Any] | None:
    cases = [_one(kernel, guest, scratch, budget) for guest in (pair.first, pair.second)]
    row = row_of(*cases)
    for guest in (pair.first, pair.second):
        shutil.rmtree(scratch / guest.name)
    return row and json.loads(json.dumps(row))


def _one(kernel: Kernel, guest: GuestMap, folder: Path, budget: Budget) -> store.Case:
    with budget.hold(cost(guest)):
        return boot_case(kernel, guest, folder, seconds=SECONDS, may_hang=True)


def _tell(rows: Sequence[dict[str, Any]]) -> int:
    """Print what came out."""
    found = [foretell(row) for row in rows]
    booted = [f for f in found if f.booted]
    exact = [f for f in booted if f.simulated.exact]
    print(f"{len(found)} pairs, the second boot came up in {len(booted)}")
    print(f"called exact: {len(exact)}, the same to the byte: {sum(f.same_regions for f in exact)}")
    others = [f for f in booted if not f.simulated.exact]
    print(f"not called exact: {len(others)}, the same all the same: {sum(f.same_regions for f in others)}")
    print("not booted:", Counter(str(f.simulated.risks) for f in found if not f.booted))
    grades = Counter((f.grade.name, f.row["outcome"]) for f in found)
    for (grade, outcome), number in sorted(grades.items()):
        print(f"  {grade:9} {outcome:22} {number}")
    plain = [f for f in booted if f.plain_grade is Grade.COMES_UP and not f.comes_up]
    print(f"better than the outcome if nobody looked at the risks: {len(plain)}")
    for f in plain:
        print(f"  {_short(f)} {', '.join(f.simulated.risks)}")
    alarms = [f for f in booted if f.plain_grade is Grade.FAILS and f.comes_up]
    print(f"said to fail, and came up: {len(alarms)}")
    for f in alarms:
        print(f"  {_short(f)} {f.plan.outcome} {', '.join(f.simulated.risks)}")
    bad = [f for f in found if f.problems]
    for f in bad:
        print(f"{_short(f)}: {'; '.join(f.problems)}\n  {' '.join(f.row['arguments'])}")
    print(f"boot-pairs: {len(found) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad or not found else 0


def _short(found: Foretold) -> str:
    row = found.row
    return f"{row['kernel']}/{row['number']} {row['outcome']}, worst {found.plan.headroom_worst}"


if __name__ == "__main__":
    sys.exit(main())
