# SPDX-License-Identifier: Apache-2.0
"""The agent's search for memory to give up, against all sets of up to three pieces; boots nothing.

``make remedy-search MAPS=100 SEED=1``. Pieces are the memory between two holes and the pages below GiB
borders, in the TDMRs that are too full, at most 40, the cheapest first. The search must find something
where one of these sets helps, and not give up more than the cheapest of them. With ``STRATEGY=cmr-walk``
holes are looked for so, and the maps have CMRs.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import combinations, pairwise
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import GIB, MIB, PAGE, Range, subtract, union
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.plan import Outcome, Strategy
from tdx_headroom.verdict.remedies.moves import Memory, holes_of, without
from tdx_headroom.verdict.remedies.search import Goal, search
from tdx_headroom.verdict.remedies.trial import planned
from tests.kernel.many import add_strategy
from tests.kernel.tools import exit_status, progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.remedies.moves import Move

GOALS = {Goal.FITS: "fits", Goal.ROOMY: "roomy"}
CANDIDATES = 40
MAX_CMRS = 32
PAGES = 10
"""So many of the candidates at least are pages below borders, where there are so many."""


class Found(NamedTuple):
    """One map and goal: bytes of the search and of the sets; None: nothing was found."""

    mine: int | None
    best: int | None

    @property
    def missed(self) -> bool:
        """Whether a set helps and the search finds nothing."""
        return self.mine is None and self.best is not None

    @property
    def dearer(self) -> bool:
        """Whether the search gives up more memory than needed."""
        return self.mine is not None and self.best is not None and self.mine > self.best


def make(r: Random, strategy: Strategy = Strategy.MEMORY_REGIONS) -> HostFacts:
    """A host: memory below a PCI hole and above it, nodes, holes that crowd in some GiBs.

    For a strategy that looks at CMRs it has some: all memory lies in them, and most of the holes do not.
    """
    low = r.choice((2 * GIB, 3 * GIB, GIB + 512 * MIB, GIB + 700 * MIB))
    top = 4 * GIB + r.choice((2, 5, 12, 60, 250, 1000)) * GIB + r.choice((0, 512 * MIB, 3 * MIB))
    nodes = r.choice((1, 1, 1, 2, 4, 8))
    spans = []
    if r.random() < 0.7:
        spans.append((max(low - GIB + MIB, 300 * MIB), low, r.choice((10, 14, 15, 16, 17, 18, 20, 24, 30))))
    if r.random() < 0.6:
        size = r.choice((GIB, 300 * MIB, 2 * GIB))
        spans.append((top - size, top, r.choice((10, 13, 14, 15, 16, 18, 22))))
    share = (top - 4 * GIB) // nodes // (128 * MIB) * 128 * MIB
    for i in range(nodes if nodes > 1 else 0):
        start = 4 * GIB + i * share
        spans.append((start, min(start + GIB, top), r.choice((0, 3, 8, 14, 17))))
    holes = [hole for start, end, count in spans for hole in _holes(r, start, end, count)]
    ram = subtract([(0x1000, 0x9F000), (MIB, low), (4 * GIB, top)], union(holes))
    borders = [4 * GIB + i * share for i in range(1, nodes)]
    regions = []
    for start, end in ram:
        cuts = [start, *(b for b in borders if start < b < end), end]
        regions += [MemoryRegion(a, b, sum(b > border for border in borders)) for a, b in pairwise(cuts)]
    cmrs = _cmrs(r, ram) if strategy.needs_cmrs else None
    return HostFacts(kernel_release="7.3.0", memory_regions=tuple(regions), cmrs=cmrs)


def _cmrs(r: Random, ram: Sequence[Range]) -> tuple[tuple[int, int], ...]:
    """The memory with some of its holes, the smallest where a module could not report so many CMRs."""
    holes = [Range(a.end, b.start) for a, b in pairwise(ram)]
    closed = {hole for hole in holes if r.random() < 0.1}
    closed.update(sorted(holes, key=lambda hole: hole.size)[: max(0, len(ram) - MAX_CMRS)])
    return tuple((start, end - start) for start, end in union([*ram, *closed]))


def _holes(r: Random, start: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    for _ in range(count):
        at = r.randrange(start, end, PAGE)
        yield at, min(end, at + r.choice((PAGE, 4 * PAGE, MIB, 20 * MIB, r.randrange(1, 64) * PAGE)))


def goal_of(facts: HostFacts, strategy: Strategy = Strategy.MEMORY_REGIONS) -> tuple[Plan, Goal] | None:
    """The plan of a host, and what it lacks; None where that is nothing, or nothing of areas."""
    plan = planned(facts, strategy)
    if plan is None or plan.outcome not in (Outcome.OK, Outcome.RESERVED_AREAS):
        return None
    goal = Goal.ROOMY if Goal.FITS.is_met(plan) else Goal.FITS
    return None if goal.is_met(plan) else (plan, goal)


def compare(facts: HostFacts, plan: Plan, goal: Goal, most: int = CANDIDATES) -> Found:
    """The search and the sets on one host."""
    mended = search(facts, plan, goal)
    best = None
    sets = [s for size in (1, 2, 3) for s in combinations(_candidates(facts, plan, goal, most), size)]
    for moves in sorted(sets, key=lambda s: (sum(move.cost for move in s), len(s))):
        tried = planned(without(facts, [move.range for move in moves]), plan.strategy)
        if tried is not None and goal.is_met(tried):
            best = sum(move.cost for move in moves)
            break
    return Found(None if mended is None else mended.bytes, best)


def _candidates(facts: HostFacts, plan: Plan, goal: Goal, most: int) -> list[Move]:
    memory = Memory(facts)
    crowded = [tdmr for tdmr in plan.tdmrs if goal.excess(tdmr) > 0]
    pieces = [Range(a.end, b.start) for tdmr in crowded for a, b in pairwise(holes_of(tdmr))]
    pages = [Range(b - PAGE, b) for tdmr in crowded for b in range(tdmr.base + GIB, tdmr.end, GIB)]
    joins = sorted(_moves(memory, pieces), key=lambda move: move.cost)
    splits = _moves(memory, pages)
    joins = joins[: most - min(len(splits), PAGES)]
    room = most - len(joins)
    if len(splits) > room:
        # Borders between which nothing lies are alike: spread over all.
        splits = [splits[i * len(splits) // room] for i in range(room)]
    return [*joins, *splits]


def _moves(memory: Memory, ranges: Sequence[Range]) -> list[Move]:
    found = (memory.move(*r) for r in ranges)
    return [move for move in found if move is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0: nothing was missed for more than 2 % of the maps, and nothing dearer than needed. 1: not so.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.kernel.brute_force", description=__doc__)
    parser.add_argument("--maps", type=int, default=100, help="how many maps (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="which maps (default: 1)")
    add_strategy(parser)
    return exit_status("remedy-search", lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    r = Random(f"{options.seed}/brute-force")
    strategy = Strategy(options.strategy)
    started = time.monotonic()
    found: dict[Goal, list[Found]] = {goal: [] for goal in GOALS}
    with progress(options.maps, "comparing", "map") as bar:
        while sum(map(len, found.values())) < options.maps:
            facts = make(r, strategy)
            lacking = goal_of(facts, strategy)
            if lacking is not None:
                found[lacking[1]].append(compare(facts, *lacking))
                bar.update()
    bad = False
    for goal, rows in found.items():
        missed, dearer = sum(row.missed for row in rows), sum(row.dearer for row in rows)
        helped = sum(row.best is not None for row in rows)
        more = sum(row.best is None and row.mine is not None for row in rows)
        print(
            f"{GOALS[goal]}: {len(rows)} maps; a set helps {helped}, of which the search misses"
            f" {missed} and pays more for {dearer}; it mends {more} that no set does"
        )
        bad = bad or dearer > 0 or missed > helped // 50
    word = "failed" if bad else "ok"
    print(f"remedy-search: seed {options.seed}, {time.monotonic() - started:.0f} s: {word}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
