# SPDX-License-Identifier: Apache-2.0
"""A run in words and numbers: for the terminal, for docs/ground-truth.md, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tdx_headroom.verdict.model import State
from tests.kernel.guestmap import MEMORY_REGIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.kernel.check import Result


COMPARED = {"tdmrs": "TDMRs", "areas": "reserved areas", "pamts": "PAMTs"}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the kernel test.

    Args:
        series, version: the kernel, and the version of the package it was built from.
        key: hash of configuration and stand-in.
        seed: of the maps.
        strategy: how the kernel looked for holes.
        results: one a map.
        caught: for each wrong planner the maps that catch it.
        image: what the agent tells wrong of the kernel's image, for each thing that it was asked; empty for
            boots that were kept without.
        seconds: how long booting and comparing took.
        qemu: QEMU's version line.
    """

    series: str
    version: str
    key: str
    seed: int
    results: Sequence[Result]
    caught: Mapping[str, list[str]]
    image: Mapping[str, list[str]]
    seconds: float
    qemu: str
    strategy: str = MEMORY_REGIONS

    @property
    def failed(self) -> list[Result]:
        """Maps on which kernel and agent, or the agent's sources, do not agree."""
        return [result for result in self.results if result.problems]

    @property
    def missed(self) -> list[str]:
        """Wrong planners that no map catches."""
        return [name for name, maps in self.caught.items() if not maps]

    @property
    def misread(self) -> list[str]:
        """What the agent does not tell right of the kernel's image."""
        return [name for name, problems in self.image.items() if problems]


def counts(run: Run) -> dict[str, Any]:
    """The run in numbers."""
    explained = {r.case.guest.name: r.explained for r in run.results if r.explained and not r.differences}
    differ = sum(bool(r.differences) for r in run.results)
    needed: Counter[int] = Counter()
    tdmrs = areas = pamts = 0
    headroom: Counter[int] = Counter()
    for result in run.results:
        truth = result.case.truth
        if truth is None:
            continue
        if result.headroom is not None:
            headroom[result.headroom] += 1
        pamts += sum(allocation.at is not None for allocation in truth.allocations)
        for tdmr in truth.tdmrs or ():
            tdmrs += 1
            areas += len(tdmr.areas)
            needed[len(tdmr.areas)] += 1
    return {
        "kernel": run.series,
        "package": run.version,
        "key": run.key,
        "qemu": run.qemu,
        "seed": run.seed,
        "strategy": run.strategy,
        "maps": len(run.results),
        "seconds": round(run.seconds, 1),
        "agree": len(run.results) - differ - len(explained),
        "explained": explained,
        "disagree": differ,
        "source_problems": sum(len(r.problems) > len(r.differences) for r in run.results),
        "families": dict(sorted(Counter(r.case.guest.family for r in run.results).items())),
        "outcomes": dict(Counter(result.outcome for result in run.results).most_common()),
        "tdmrs_compared": tdmrs,
        "areas_compared": areas,
        "pamts_compared": pamts,
        "tdmrs_with_areas": {str(n): needed[n] for n in sorted(needed)},
        "headroom": {str(n): headroom[n] for n in sorted(headroom)},
        "predicted_places": _places(run),
        "at_risk": _at_risk(run),
        "fallbacks": _fallbacks(run),
        "wrong_planners": {
            name: {"caught_by": len(maps), "first": maps[:1]} for name, maps in run.caught.items()
        },
        "image": dict(run.image),
        "problems": {result.case.guest.name: result.problems for result in run.failed},
    }


def _places(run: Run) -> dict[str, int]:
    """How well the agent predicts where PAMTs are, and what that does to the plan."""
    places = [result.places for result in run.results if result.places is not None]
    return {
        "maps": len(places),
        "pamts": sum(len(p.real) for p in places),
        "right_tdmr": sum(p.right_tdmr for p in places),
        "exact": sum(p.exact for p in places),
        "maps_in_range": sum(p.in_range for p in places),
        "maps_same_areas": sum(p.same_areas for p in places),
        "maps_same_outcome": sum(p.same_outcome for p in places),
    }


def _at_risk(run: Run) -> dict[str, dict[str, int]]:
    """Maps that were said to be at risk, by what is left, and how many of them came up."""
    counted: dict[str, Counter[str]] = {}
    for result in run.results:
        places = result.places
        if places is None or places.foretold is not State.AT_RISK:
            continue
        left, worst = places.left
        why = f"{left} left" if worst is None or worst >= 0 else f"{left} left, {-worst} short at worst"
        counted.setdefault(why, Counter()).update(maps=1, came_up=int(places.came_up))
    return {why: dict(counted[why]) for why in sorted(counted)}


def _told(run: Run) -> str:
    """What the agent told of the kernel's image."""
    if not run.image:
        return "not looked at"
    told = ", ".join(f"{name}: {'WRONG' if problems else 'right'}" for name, problems in run.image.items())
    return "; ".join([told, *(problem for problems in run.image.values() for problem in problems)])


def _fallbacks(run: Run) -> dict[str, dict[str, int]]:
    made: dict[str, Counter[str]] = {}
    for result in run.results:
        for fallback in result.fallbacks:
            same = "the same plan"
            other = f"{fallback.differs}: {fallback.reason or 'UNEXPLAINED'}"
            made.setdefault(fallback.name, Counter())[same if fallback.differs is None else other] += 1
    return {name: dict(counter.most_common()) for name, counter in made.items()}


def markdown(run: Run) -> str:
    """The run as a section of docs/ground-truth.md."""
    c = counts(run)
    outcomes = ", ".join(f"{name} {n}" for name, n in c["outcomes"].items())
    families = ", ".join(f"{name} {n}" for name, n in c["families"].items())
    near = ", ".join(f"{n}: {c['headroom'].get(n, 0)} maps" for n in ("-1", "0", "1"))
    compared = ", ".join(f"{c[f'{name}_compared']} {text}" for name, text in COMPARED.items())
    agreed = f"agree on {c['agree']} maps, disagree on {len(c['explained'])} with a known reason"
    agreed += f" and on {c['disagree']} without one; maps with trouble among sources: {c['source_problems']}"
    p = c["predicted_places"]
    predicted = (
        f"{p['right_tdmr']} of {p['pamts']} PAMTs in the TDMR predicted, {p['exact']} at the address;"
        f" areas within the worst case on {p['maps_in_range']} of {p['maps']} maps, as many as predicted"
        f" on {p['maps_same_areas']}"
    )
    predicted += f", the same outcome on {p['maps_same_outcome']}"
    at_risk = ", ".join(f"{why}: {n['came_up']} of {n['maps']}" for why, n in c["at_risk"].items())
    under = "" if run.strategy == MEMORY_REGIONS else f"{run.strategy}, "
    lines = [
        f"## Linux {run.series} ({run.version}), {under}seed {run.seed}, {c['maps']} maps",
        "",
        f"Test kernel {run.key}; {run.qemu}; {c['seconds']} s.",
        "",
        f"* kernel and agent {agreed}",
        f"* outcomes: {outcomes}",
        f"* families: {families}",
        f"* compared: {compared}",
        f"* areas left in the worst TDMR: {near}",
        f"* predicted places (measured, no part of the result): {predicted}",
        f"* said to be at risk, and came up: {at_risk or 'none'}",
        f"* when it initializes TDX and what it does with CMRs, by its own image: {_told(run)}",
        "",
        "| sources left | plan | maps |",
        "| --- | --- | --- |",
        *(f"| {name} | {what} | {n} |" for name, made in c["fallbacks"].items() for what, n in made.items()),
        "",
        "| wrong planner | caught by | first |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {len(maps)} | {maps[0] if maps else 'NOT CAUGHT'} |"
            for name, maps in run.caught.items()
        ),
        "",
    ]
    if c["explained"]:
        lines += ["Disagreements with a reason:", ""]
        by_reason: dict[str, list[str]] = {}
        for name, reason in c["explained"].items():
            by_reason.setdefault(reason, []).append(name)
        lines += [f"* {reason}: {', '.join(names)}" for reason, names in by_reason.items()]
        lines.append("")
    if run.failed:
        lines += ["Disagreements and trouble among sources, without a reason:", ""]
        for result in run.failed:
            lines.append(
                f"* {result.case.guest.name} ({result.case.guest.note}), `{result.case.guest.command_line}`"
            )
            lines += [f"  * {problem}" for problem in result.problems]
        lines.append("")
    return "\n".join(lines)


def write(run: Run, path: Path) -> None:
    """Write the report: JSON when the name ends so, else Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(counts(run), indent=1) + "\n" if path.suffix == ".json" else markdown(run))
