# SPDX-License-Identifier: Apache-2.0
"""The remedy test: what the agent offers on a map that fails, or nearly so, is booted: does TDX come up?

``make remedy-test KERNEL=7.3 MAPS=100 SEED=1``. Each map is booted, the agent reads the guest's files, and
the guest is booted again with each remedy that changes the command line. TDX has to come up, with as many
areas left as was said. With ``STRATEGY=cmr-walk`` the kernel looks for holes so, and the maps have CMRs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdx_headroom.facts.boots import KernelTraits
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.findings import RemedyKind
from tests.kernel import agent
from tests.kernel.boot import cost
from tests.kernel.build import get_kernel
from tests.kernel.guestmap import CMR_SUBREGION, CMR_WALK, MEMORY_REGIONS
from tests.kernel.many import Budget, add_options, add_strategy, boot_each, run_name
from tests.kernel.remedy_maps import generate
from tests.kernel.strategies import boot_case
from tests.kernel.tools import cache_folder, exit_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.verdict.findings import Remedy
    from tests.kernel import store
    from tests.kernel.build import Kernel
    from tests.kernel.guestmap import GuestMap
    from tests.kernel.truth import Truth

SECONDS = 60

RELEASES = {CMR_SUBREGION: "6.4.0-150600.23.7.3-default"}
"""A release by which the agent knows of a strategy that no image shows."""
TRAITS = {CMR_WALK: KernelTraits(walks_cmrs=True, reads_cmrs=True)}
"""What an image shows (``own_image.py``: that of the test kernel does)."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One remedy to boot.

    Args:
        kind: what it asks for; ``smaller-value``: an argument in the place of another.
        arguments: that it adds, takes away or puts there.
        line: the whole command line with it.
        said: areas left, as it says.
    """

    kind: str
    arguments: tuple[str, ...]
    line: tuple[str, ...]
    said: int | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """One remedy, booted.

    Args:
        kind: what it asks for.
        arguments: that it adds, takes away or puts there.
        said: areas left, as it says.
        left: areas left in the fullest TDMR; None: TDX did not come up.
        error: why the guest sent nothing.
    """

    kind: str
    arguments: tuple[str, ...]
    said: int | None
    left: int | None
    error: str | None = None

    @property
    def wrong(self) -> str | None:
        """What is not as it was said; None where all is."""
        if self.error is not None:
            return f"the boot is lost: {self.error}"
        if self.left is None:
            return "TDX does not come up"
        return None if self.said in (None, self.left) else f"{self.left} areas are left, not {self.said}"


@dataclass(frozen=True, slots=True)
class Row:
    """One map: what happened, and what was offered.

    Args:
        guest: the map.
        up: whether TDX came up without a remedy.
        foretold: what the agent says of the same boot once more.
        outcome: of its plan.
        tried: the remedies.
    """

    guest: GuestMap
    up: bool
    foretold: str | None
    outcome: str
    tried: tuple[Tried, ...]

    @property
    def counts(self) -> str | None:
        """``fails`` or ``at-risk``; None where nothing is to be mended."""
        if not self.up:
            return "fails"
        return "at-risk" if self.foretold == State.AT_RISK else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0: all that was offered held. 1: something did not. 69: the machine lacks something. 70: a step
        failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.remedies", description=__doc__)
    add_options(parser, "maps")
    parser.add_argument("--maps", type=int, default=40, help="how many maps (default: 40)")
    add_strategy(parser)
    parser.add_argument("--out", metavar="FILE.jsonl", help="where the rows are kept (default: cache folder)")
    return exit_status("remedy-test", lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    kernel = get_kernel(
        options.kernel,
        install=not options.no_install,
        extra=options.extra,
        cmrs=options.strategy != MEMORY_REGIONS,
    )
    folder = cache_folder() / "runs"
    out = Path(options.out or folder / f"remedies-{run_name(kernel.series, options)}.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".remedies-{os.getpid()}"
    budget = Budget.of_this_machine()
    started = time.monotonic()
    rows = []
    guests = generate(options.seed, options.maps, options.strategy)
    with out.open("w") as file:
        try:
            for row in boot_each(
                lambda guest: _map(kernel, guest, scratch, budget), guests, options.jobs, kernel.series, "map"
            ):
                if row is not None:
                    rows.append(row)
                    file.write(json.dumps(_data(row)) + "\n")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"rows: {out}; {len(guests) - len(rows)} of {len(guests)} maps without a first boot")
    print(f"kernel {kernel.series} {kernel.version}, seed {options.seed}; {time.monotonic() - started:.0f} s")
    return tell(rows)


def _map(kernel: Kernel, guest: GuestMap, scratch: Path, budget: Budget) -> Row | None:
    try:
        case = _booted(kernel, guest, scratch, budget)
        if case.truth is None:
            return None
        assessment = assess(_facts(case))
        plan = assessment.plans[assessment.verdict.strategy]
        remedies = [r for f in assessment.verdict.findings for r in f.remedies]
        trials = [trial for remedy in remedies for trial in _trials(guest.arguments, remedy)]
        tried = tuple(_try(kernel, guest, i, trial, scratch, budget) for i, trial in enumerate(trials))
        outcome = "unknown" if plan is None else str(plan.outcome)
        foretold = assessment.verdict.next_boot
        return Row(guest, case.truth.initialized, foretold and str(foretold), outcome, tried)
    finally:
        shutil.rmtree(scratch / guest.name, ignore_errors=True)


def _facts(case: store.Case) -> HostFacts:
    """What the agent read from the guest; of the module it is told the limits, which no file tells.

    CMRs are those that the kernel printed, if it did. How it looks for holes is learnt from its image or its
    release; the test kernel's own release is mainline's.
    """
    facts = agent.with_limits(agent.read_root(case.root), case.guest.module)
    strategy = case.guest.strategy
    return replace(
        facts,
        kernel_release=RELEASES.get(strategy, facts.kernel_release),
        traits=TRAITS.get(strategy, facts.traits),
    )


def _trials(line: Sequence[str], remedy: Remedy) -> Iterator[Trial]:
    """The command lines that a remedy leads to."""
    if remedy.computed and remedy.arguments:
        yield Trial(str(remedy.kind), remedy.arguments, applied(line, remedy), remedy.left)
    if remedy.instead:
        (smaller,) = remedy.instead
        instead = tuple(smaller if argument in remedy.arguments else argument for argument in line)
        yield Trial("smaller-value", remedy.instead, instead)


def _try(kernel: Kernel, guest: GuestMap, index: int, trial: Trial, scratch: Path, budget: Budget) -> Tried:
    with_it = replace(guest, family=f"{guest.family}-{index}", arguments=trial.line)
    try:
        case = _booted(kernel, with_it, scratch, budget)
        if case.error is not None:
            # Is it lost, or was the machine busy with something else?
            case = _booted(kernel, with_it, scratch, budget, seconds=5 * SECONDS)
        left = None if case.truth is None else _left(case.truth, guest.module.max_reserved)
        return Tried(trial.kind, trial.arguments, trial.said, left, case.error)
    finally:
        shutil.rmtree(scratch / with_it.name, ignore_errors=True)


def applied(line: Sequence[str], remedy: Remedy) -> tuple[str, ...]:
    """A command line with a remedy."""
    if remedy.kind is RemedyKind.ADD_ARGUMENTS:
        return (*line, *remedy.arguments)
    gone = set(remedy.arguments)
    return tuple(argument for argument in line if not gone & set(_names(argument)))


def _names(argument: str) -> Iterator[str]:
    """What a remedy may call an argument: as it stands, or what it does."""
    yield argument
    yield from (edit.argument for edit in map_edits([argument]))


def _left(truth: Truth, limit: int) -> int | None:
    if not truth.initialized:
        return None
    return min((limit - len(tdmr.areas) for tdmr in truth.tdmrs or ()), default=None)


def _booted(
    kernel: Kernel, guest: GuestMap, folder: Path, budget: Budget, *, seconds: int = SECONDS
) -> store.Case:
    with budget.hold(cost(guest)):
        return boot_case(kernel, guest, folder, seconds=seconds, may_hang=True)


def tell(rows: Sequence[Row]) -> int:
    """Print what came of it; the exit status."""
    bad = 0
    for group in ("fails", "at-risk"):
        mine = [row for row in rows if row.counts == group]
        offered = [row for row in mine if row.tried]
        tried = [one for row in mine for one in row.tried]
        wrong = [one for one in tried if one.wrong]
        print(f"{group}: {len(mine)} maps, {len(offered)} with a remedy; {len(tried)} remedies booted")
        for kind in sorted({one.kind for one in tried}):
            of_kind = [one for one in tried if one.kind == kind]
            print(f"  {kind}: {sum(one.wrong is None for one in of_kind)} of {len(of_kind)} as said")
        bad += len(wrong)
        for row in mine:
            for one in row.tried:
                if one.wrong:
                    print(f"  {row.guest.name}: {one.kind} {' '.join(one.arguments)}: {one.wrong}")
    print(f"remedy-test: {bad} wrong")
    return 1 if bad or not rows else 0


def _data(row: Row) -> dict[str, Any]:
    return {
        "map": row.guest.name,
        "note": row.guest.note,
        "arguments": row.guest.arguments,
        "up": row.up,
        "foretold": row.foretold,
        "outcome": row.outcome,
        "tried": [
            {
                "kind": one.kind,
                "arguments": one.arguments,
                "said": one.said,
                "left": one.left,
                "wrong": one.wrong,
            }
            for one in row.tried
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
