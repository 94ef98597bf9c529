# SPDX-License-Identifier: Apache-2.0
"""What the page draws of TDMRs: the fullest ones, under every strategy; all of them are in its table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import show, show_size
from tdx_headroom.output.addresses import coarse_size
from tdx_headroom.output.looks import Area, Firmware, Look, areas_of
from tdx_headroom.output.picture import COARSE_SLOTS, Map, draw_gauge, draw_map, exact_slots
from tdx_headroom.output.tdmr_table import groups_of, in_words, level_of, room_of, table_of
from tdx_headroom.plan import AreaKind, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.assessment import Assessment

MAX_CARDS = 8
MAX_AREAS = 64
MAX_AREAS_ON_PAGE = 800
"""On a host with more TDMRs than cards the whole page has MAX_CARDS maps, and lists MAX_AREAS areas."""

LABELS = {
    Look.RESERVED: "reserved by the firmware",
    Look.ACPI: "ACPI tables and NVS",
    Look.OTHER: "other firmware types",
    Look.RAM: "RAM that is left out",
    Look.GAP: "not in the firmware's map",
    Look.UNKNOWN: "hole of unknown type",
    Look.PAMT: "PAMT",
    Look.USABLE: "usable",
}


@dataclass(frozen=True, slots=True)
class _View:
    """One TDMR as one or several strategies have it: they need the same areas there."""

    strategies: list[Strategy]
    tdmr: Tdmr
    areas: list[Area]


def tdmr_section(
    assessment: Assessment, firmware: Firmware, *, full_addresses: bool
) -> dict[str, Any] | None:
    """Table, cards and legend, the fullest TDMR first; None when there is no plan."""
    plans = {s: plan for s, plan in assessment.plans.items() if plan is not None}
    own = plans.get(assessment.verdict.strategy) or next(iter(plans.values()), None)
    if own is None or not own.tdmrs:
        return None
    groups = groups_of(own, plans.values(), MAX_CARDS)
    looked_at = groups if own.headroom is not None else []
    views = [
        _views(plans, group[0], assessment.verdict.strategy, firmware) for group in looked_at[:MAX_CARDS]
    ]
    crowded = len(own.tdmrs) > MAX_CARDS
    if crowded:
        views = _within(views, MAX_CARDS)
    slots = COARSE_SLOTS
    if full_addresses:
        slots = exact_slots(len(view.areas) for card in views for view in card)
    cards = [
        _card(
            own.tdmrs[group[0]],
            len(group) - 1,
            card,
            assessment.verdict.strategy,
            slots,
            full_addresses=full_addresses,
        )
        for group, card in zip(looked_at, views, strict=False)
    ]
    _fill_rows(cards)
    shown = [view for card in cards for view in card["views"]]
    if full_addresses:
        most = MAX_AREAS if crowded else MAX_AREAS_ON_PAGE
        _list_areas(zip(shown, chain.from_iterable(views), strict=True), most)
    looks = {amount["look"] for view in shown for amount in view["map"]["amounts"]}
    return {
        "count": len(own.tdmrs),
        "cards": cards,
        "not_drawn": sum(len(group) for group in looked_at[len(views) :]),
        "slots": slots,
        "coarse": not full_addresses,
        "legend": [{"look": str(look), "label": label} for look, label in LABELS.items() if look in looks],
        "any_worst": any(view["gauge"].worst for view in shown),
        "any_over": any(view["gauge"].past for view in shown),
        "table": table_of(plans, groups, assessment.verdict.strategy),
    }


def fullest(assessment: Assessment, firmware: Firmware) -> dict[str, Any] | None:
    """The TDMR that decides: where the kernel gives up, else the fullest; None when none was looked at."""
    plan = assessment.plans[assessment.verdict.strategy]
    if plan is None or plan.headroom is None:
        return None
    tdmr = min(plan.tdmrs, key=room_of) if plan.failed_tdmr is None else plan.tdmrs[plan.failed_tdmr]
    areas = areas_of(tdmr, firmware)
    return {"bounds": show(tdmr.base, tdmr.end), **_numbers(tdmr, areas)}


def _views(plans: dict[Strategy, Plan], index: int, own: Strategy, firmware: Firmware) -> list[_View]:
    """One TDMR under each strategy, this kernel's first; equal ones are one."""
    views: list[_View] = []
    for strategy in sorted(plans, key=lambda s: s is not own):
        tdmr = plans[strategy].tdmrs[index]
        same = (v for v in views if v.tdmr.reserved_areas == tdmr.reserved_areas)
        view = next(same, None)
        if view is None:
            views.append(_View([strategy], tdmr, areas_of(tdmr, firmware)))
        else:
            view.strategies.append(strategy)
    return views


def _within(views: Sequence[list[_View]], maps: int) -> list[list[_View]]:
    """The first cards that have so many maps together, and the first one in any case."""
    ends = accumulate(len(card) for card in views)
    return [card for i, (card, end) in enumerate(zip(views, ends, strict=True)) if i == 0 or end <= maps]


def _card(
    tdmr: Tdmr, equal: int, views: Sequence[_View], own: Strategy, slots: int, *, full_addresses: bool
) -> dict[str, Any]:
    return {
        "equal": equal,
        "bounds": show(tdmr.base, tdmr.end),
        "node": tdmr.node,
        "size": show_size(tdmr.size),
        "step": show_size(max(tdmr.size // slots, 1)),
        "level": level_of(tdmr),
        "wide": len(views) > 1 or level_of(tdmr) in ("over", "tight"),
        "views": [_view(view, own, slots, full_addresses=full_addresses) for view in views],
    }


def _fill_rows(cards: Sequence[dict[str, Any]]) -> None:
    """Let a card that has no neighbour in its row of two take the whole row."""
    alone: dict[str, Any] | None = None
    for card in [*cards, {"wide": True}]:
        if not card["wide"]:
            alone = None if alone else card
        elif alone:
            alone["wide"], alone = True, None


def _view(view: _View, own: Strategy, slots: int, *, full_addresses: bool) -> dict[str, Any]:
    tdmr, areas = view.tdmr, view.areas
    drawn = draw_map(tdmr, areas, slots, titles=full_addresses)
    # A single hole's size may tell where it begins: no finer than what the picture shows of it.
    step = max(tdmr.size // slots, 1)
    sizes = (show_size(a.size) if full_addresses else coarse_size(a.size, step) for a in drawn.amounts)
    amounts = [
        {"look": str(a.look), "label": LABELS[a.look], "size": size}
        for a, size in zip(drawn.amounts, sizes, strict=True)
    ]
    return {
        "name": _names(view.strategies),
        "names": [str(strategy) for strategy in view.strategies],
        "own": own in view.strategies,
        "all": len(view.strategies) == len(Strategy),
        "map": {
            "shapes": drawn.shapes,
            "tally": drawn.tally,
            "rise": drawn.rise,
            "amounts": amounts,
            "words": _words(drawn, amounts, areas),
        },
        "areas": [],
        "not_listed": 0,
        **_numbers(tdmr, areas),
    }


def _numbers(tdmr: Tdmr, areas: Sequence[Area]) -> dict[str, Any]:
    needed, headroom, worst = tdmr.needed or 0, tdmr.headroom or 0, tdmr.needed_worst or 0
    return {
        "gauge": draw_gauge(areas, tdmr.limit, worst),
        "needed": needed,
        "limit": tdmr.limit,
        "left": in_words(headroom),
        "holes": _count(tdmr.needed_holes or 0, "hole"),
        "pamts": _count(tdmr.needed_pamts or 0, "PAMT"),
        "worst": worst,
        "level": level_of(tdmr),
    }


def _words(drawn: Map, amounts: Iterable[dict[str, str]], areas: Sequence[Area]) -> str:
    """What a map shows, for somebody who does not see it."""
    parts = ", ".join(f"{a['label']} {a['size']}" for a in amounts)
    if not areas:
        return f"All of it is usable: {parts}."
    q = drawn.quarters
    return f"By size: {parts}. Reserved areas that begin in each quarter: {q[0]}, {q[1]}, {q[2]}, {q[3]}."


def _list_areas(views: Iterable[tuple[dict[str, Any], _View]], most: int) -> None:
    """Add each area with its addresses, up to so many on the whole page."""
    left = most
    for shown, view in views:
        listed = view.areas[: min(MAX_AREAS, left)]
        left -= len(listed)
        shown["areas"] = [
            {
                "range": show(area.start, area.end),
                "size": show_size(area.end - area.start),
                "label": LABELS[area.look],
                "kind": str(AreaKind.PAMT if area.look is Look.PAMT else AreaKind.HOLE),
            }
            for area in listed
        ]
        shown["not_listed"] = len(view.areas) - len(listed)


def _names(strategies: Sequence[Strategy]) -> str:
    if len(strategies) == len(Strategy):
        return "every strategy"
    return ", ".join(strategies[:-1]) + (" and " if len(strategies) > 1 else "") + strategies[-1]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
