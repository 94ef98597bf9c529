# SPDX-License-Identifier: Apache-2.0
"""What huge pages and CMA take, and how little less of them leaves room for the PAMTs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import MIB, page_round, show_size, subtract, total
from tdx_headroom.boots.map_risks import takers
from tdx_headroom.facts.command_line import name_and_value
from tdx_headroom.plan.zones import MOVABLE
from tdx_headroom.verdict.findings import Remedy, RemedyKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.boots.map_risks import Taker
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

OWN_SHARE = 32
"""Of so many bytes the kernel needs one for itself at boot: page structures are 1 in 64 alone."""

OWN = 192 * MIB
"""And so many more, however little memory there is: its image, the initial RAM disk, what starts first."""

_REDUCED = ("hugepages", "cma", "hugetlb_cma")
"""Arguments with one number, in whose place a smaller one can be put."""


def kernels_own(memory: int) -> int:
    """Bytes of so much memory that the kernel needs for itself."""
    return memory // OWN_SHARE + OWN


class Budget(NamedTuple):
    """Memory in which PAMTs can lie, in bytes.

    Args:
        memory: all of it.
        pamts: their sizes in sum.
        aside: what arguments set aside.
    """

    memory: int
    pamts: int
    aside: int

    @property
    def most(self) -> int:
        """The most that may be set aside, with what the kernel needs for itself left, as far as it is known.

        A free run twice as long as a PAMT has a block in it that ``alloc_contig_pages()`` can take.
        """
        return self.memory - 2 * self.pamts - kernels_own(self.memory)


def fewer_set_aside(facts: HostFacts, plan: Plan) -> tuple[Remedy, ...]:
    """Smaller values of arguments that set so much aside that PAMTs may find no room; the largest first.

    None where there is room, in sum. Which pages are free in the end is not known: this helps likely, and is
    not computed.
    """
    line = facts.command_line
    if line is None or facts.memory_regions is None:
        return ()
    found = sorted(takers(line), key=lambda taker: taker.taken, reverse=True)
    budget = _budget(facts, plan, sum(taker.taken for taker in found))
    if budget.aside <= budget.most:
        return ()
    return tuple(remedy for taker in found if taker.taken for remedy in _less(line, taker, budget))


def _budget(facts: HostFacts, plan: Plan, aside: int) -> Budget:
    movable = [(zone.start, zone.end) for zone in facts.zones or () if zone.name == MOVABLE]
    pages = subtract(page_round((r.start, r.end) for r in facts.memory_regions or ()), movable)
    return Budget(total(pages), sum(tdmr.pamt.size for tdmr in plan.tdmrs), aside)


def _less(line: tuple[str, ...], taker: Taker, budget: Budget) -> Iterator[Remedy]:
    """One argument with a value that leaves room; nothing where the others take too much without it."""
    argument = line[taker.index]
    name, value = name_and_value(argument)
    left = budget.most - (budget.aside - taker.taken)
    if name not in _REDUCED or left < 0 or not (value or "").rstrip("KkMmGgTt").isdigit():
        return
    if name == "hugepages":
        smaller = f"hugepages={left // taker.size}"
        what = f"{smaller} (of {show_size(taker.size)} each)"
        later = " More of them can be had once TDX is up: vm.nr_hugepages."
    else:
        smaller = what = f"{name}={left // MIB}M"
        later = ""
    text = (
        f"Have {what} in the place of {argument}. PAMTs need {show_size(budget.pamts)} in contiguous pieces,"
        f" and {show_size(budget.aside)} are set aside of the {show_size(budget.memory)} in which they can"
        f" lie.{later}"
    )
    yield Remedy(RemedyKind.REMOVE_ARGUMENTS, text, (argument,), instead=(smaller,))
