# SPDX-License-Identifier: Apache-2.0
"""What to do about TDMRs with too many reserved areas, or with hardly any left."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, MIB, Range, show, show_size
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence
from tdx_headroom.verdict.remedies.convertible import keep_off
from tdx_headroom.verdict.remedies.give_up import give_up
from tdx_headroom.verdict.remedies.kernels import for_plan
from tdx_headroom.verdict.remedies.moves import holes_of
from tdx_headroom.verdict.remedies.own import own_holes
from tdx_headroom.verdict.remedies.search import Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.observations import FirmwareRange
    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.findings import Signs

MAX_CANDIDATES = 4

_ON_THE_HOST = "`tdx-headroom plan` on the host shows"


def for_areas(signs: Signs, plan: Plan) -> tuple[Remedy, ...]:
    """What to do so that all TDMRs fit, or fit with room to spare."""
    if signs.log_is_to_blame or not signs.asks_what_to_do:
        return ()
    facts = signs.facts
    goal = Goal.ROOMY if Goal.FITS.is_met(plan) else Goal.FITS
    crowded = [tdmr for tdmr in plan.tdmrs if goal.excess(tdmr) > 0]
    parts: tuple[tuple[str, Callable[[], list[Remedy]]], ...] = (
        ("how many reserved areas are too many", lambda: [_excess(crowded, goal)] if crowded else []),
        ("which holes the command line makes", partial(own_holes, facts, plan, goal)),
        ("which memory to give up", lambda: give_up(facts, plan) or keep_off(facts, plan.strategy, goal)),
        ("which holes are the smallest", partial(_smallest, facts, plan, crowded)),
        ("whether splitting would help", partial(_split, plan, crowded, facts.limits.max_tdmrs)),
    )
    found = for_plan(signs)
    for name, make in parts:
        found += tuple(signs.guard.part(f"remedies ({name})", make, list[Remedy]()))
    return found


def _excess(crowded: Sequence[Tdmr], goal: Goal) -> Remedy:
    """How many areas must go, in each TDMR."""
    wanted = []
    for tdmr in crowded:
        short = goal.excess(tdmr)
        spare = Goal.ROOMY.excess(tdmr)
        areas = f"{short} reserved area{'s' if short > 1 else ''} fewer in TDMR {show(tdmr.base, tdmr.end)}"
        more = f" ({spare} fewer to have room to spare)" if spare > short else ""
        wanted.append(f"{areas}{more}")
    text = f"Have {', and '.join(wanted)}."
    return Remedy(RemedyKind.FEWER_AREAS, text, areas_freed=max(map(goal.excess, crowded)))


def _smallest(facts: HostFacts, plan: Plan, crowded: Sequence[Tdmr]) -> list[Remedy]:
    """Which holes the firmware's vendor should look at."""
    if plan.strategy is Strategy.CMR_WALK:
        return []
    holes = (hole for tdmr in crowded for hole in holes_of(tdmr) if hole.start >= MIB)
    candidates = sorted(holes, key=lambda hole: hole.size)[:MAX_CANDIDATES]
    kinds = facts.firmware_map
    named = ", ".join(f"{show(*h)} {show_size(h.size)}{_what(h, kinds)}" for h in candidates)
    if not named:
        return []
    ask = "Ask the firmware's vendor for fewer holes there"
    public = f"{ask}: {_ON_THE_HOST} which are the smallest."
    text = Sentence(f"{ask}; the smallest are {named}.", public=public)
    return [Remedy(RemedyKind.FIRMWARE_MAP, text)]


def _split(plan: Plan, crowded: Sequence[Tdmr], max_tdmrs: int) -> list[Remedy]:
    """What the second proposal of the CMR patch would do: TDMRs of one GiB where one is too full."""
    tdmr = next((tdmr for tdmr in crowded if tdmr.size >= 2 * GIB), None)
    if tdmr is None:
        return []
    fullest = _fullest_gib(tdmr)
    needed = plan.tdmrs_needed - 1 + tdmr.size // GIB
    fits = fullest <= tdmr.limit and needed <= max_tdmrs
    verdict = "would fit" if fits else "would not fit either"
    text = (
        f"For kernel developers: split at 1 GiB borders, the TDMR {verdict}: at most {fullest} areas of"
        f" {tdmr.limit} a piece, {needed} TDMRs of {max_tdmrs}."
    )
    return [Remedy(RemedyKind.CHANGE_KERNEL, text)]


def _fullest_gib(tdmr: Tdmr) -> int:
    """The most areas that lie in one GiB of the TDMR, in whole or in part."""
    # Not GiB by GiB: in facts from outside a TDMR may have as many as fit into 64 bits.
    steps: Counter[int] = Counter()
    for area in tdmr.reserved_areas:
        steps[area.offset // GIB] += 1
        steps[(area.offset + area.size - 1) // GIB + 1] -= 1
    return max(accumulate(steps[piece] for piece in sorted(steps)), default=0)


def _what(hole: Range, firmware: Sequence[FirmwareRange] | None) -> str:
    """What the firmware's map says a hole is made of."""
    kinds = sorted({r.kind for r in firmware or () if r.start < hole.end and r.end > hole.start})
    named = [kind for kind in kinds if kind != "System RAM"]
    return f" ({', '.join(named)})" if named else ""
