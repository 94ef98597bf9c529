# SPDX-License-Identifier: Apache-2.0
"""The kernel test: build, boot, compare. ``python -m tests.kernel --help``; README.md says what is tested."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel import report, store
from tests.kernel.boot import cost
from tests.kernel.build import get_kernel
from tests.kernel.check import Result, check, data
from tests.kernel.guestmap import MEMORY_REGIONS
from tests.kernel.many import Budget, add_options, add_strategy, boot_each, run_name
from tests.kernel.maps import generate
from tests.kernel.own_image import check_image
from tests.kernel.strategies import boot_case
from tests.kernel.tools import KernelTestError, cache_folder, exit_status, progress
from tests.kernel.wrong import caught_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kernel.build import Kernel
    from tests.kernel.guestmap import GuestMap

EX_DISAGREE = 1

ABOUT = "run.json"
"""Which kernel and seed the boots in a folder are of, and what was found about the kernel's image."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kernel test.

    Returns:
        0: kernel and agent agree, the agent tells from the kernel's image what it does, and every wrong
        planner was caught. 1: not so. 69: the machine lacks
        something. 70: a step failed.
    """
    options = _options(arguments)
    return exit_status("kernel-test", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.compare:
        return _finish(options, Path(options.compare))
    kernel = get_kernel(
        options.kernel,
        install=not options.no_install,
        keep_tree=options.keep_tree,
        extra=options.extra,
        cmrs=options.strategy != MEMORY_REGIONS,
    )
    if options.build_only:
        print(kernel.image)
        return 0
    folder = Path(options.out or cache_folder() / "runs" / run_name(kernel.series, options))
    started = time.monotonic()
    image = check_image(kernel, options.seed)
    _boot_all(kernel, generate(options.seed, options.maps, options.strategy), folder, options.jobs)
    about = {
        "key": kernel.key,
        "seed": options.seed,
        "image": image,
        "qemu": _qemu_version(),
        "seconds": time.monotonic() - started,
    }
    (folder / ABOUT).write_text(json.dumps(about) + "\n")
    return _finish(options, folder)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kernel", description=__doc__)
    add_options(parser, "maps")
    parser.add_argument("--maps", type=int, default=60, help="how many maps (default: 60)")
    add_strategy(parser)
    parser.add_argument("--out", metavar="DIR", help="where boots are kept (default: in the cache folder)")
    parser.add_argument("--report", metavar="FILE", help="write a summary: .md or .json")
    parser.add_argument(
        "--compare", metavar="DIR", help="boot nothing: compare the boots that are kept in DIR"
    )
    parser.add_argument(
        "--archive", metavar="FILE.jsonl.xz", help="also pack the boots, for the tests that boot nothing"
    )
    parser.add_argument("--build-only", action="store_true", help="build the kernel, print its path")
    parser.add_argument(
        "--keep-tree", action="store_true", help="leave the kernel's tree in the cache folder"
    )
    return parser.parse_args(arguments)


def _boot_all(kernel: Kernel, guests: Sequence[GuestMap], folder: Path, jobs: int) -> None:
    """Boot every map and keep what it sends; boots of an earlier run in the folder go."""
    folder.mkdir(parents=True, exist_ok=True)
    store.clear(folder)
    budget = Budget.of_this_machine()

    def one(guest: GuestMap) -> None:
        with budget.hold(cost(guest)):
            boot_case(kernel, guest, folder)

    for _ in boot_each(one, guests, jobs, kernel.series, "map"):
        pass


def _finish(options: argparse.Namespace, folder: Path) -> int:
    """Compare all boots in the folder, keep the data, tell the result."""
    cases = store.load_run(folder)
    if not cases:
        raise KernelTestError(f"{folder}: no boots are kept here")
    about = json.loads((folder / ABOUT).read_text())
    started = time.monotonic()
    results: list[Result] = []
    with progress(len(cases), "comparing", "map") as bar:
        for case in cases:
            results.append(check(case))
            bar.update()
    with (folder / "results.jsonl").open("w") as out:
        out.writelines(json.dumps(data(result)) + "\n" for result in results)
    strategy = cases[0].guest.strategy
    caught = caught_by(((r.case, r.facts) for r in results if r.facts is not None), strategy)
    run = report.Run(
        series=cases[0].series,
        version=cases[0].version,
        key=about["key"],
        seed=about["seed"],
        results=results,
        caught=caught,
        image=about.get("image", {}),
        seconds=about["seconds"] + time.monotonic() - started,
        qemu=about["qemu"],
        strategy=strategy,
    )
    if options.archive:
        store.pack(folder, Path(options.archive))
    if options.report:
        report.write(run, Path(options.report))
    print(report.markdown(run))
    print(f"boots: {folder}\ndata: {folder / 'results.jsonl'}")
    bad = len(run.failed) + len(run.missed) + len(run.misread)
    print(f"kernel-test: {len(results) + len(caught) + len(run.image) - bad} passed, {bad} failed")
    return EX_DISAGREE if bad else 0


def _qemu_version() -> str:
    done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
