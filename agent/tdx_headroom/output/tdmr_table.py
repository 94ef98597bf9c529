# SPDX-License-Identifier: Apache-2.0
"""TDMRs in numbers, for the page: the fullest first, and equal ones in one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.address import show, show_size
from tdx_headroom.verdict.model import AT_RISK_HEADROOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tdx_headroom.plan import Plan, Strategy, Tdmr

_UNKNOWN = 1 << 64


def groups_of(own: Plan, plans: Iterable[Plan], alone: int) -> list[list[int]]:
    """Indices of the TDMRs, those together that need the same under every strategy.

    First comes where this kernel gives up, then what has the least room under its strategy.

    Args:
        own: the plan of this kernel's strategy.
        plans: of all strategies.
        alone: up to so many that have little room, or none, stand alone whatever they need.
    """
    others = list(plans)

    def key(index: int) -> tuple[bool, tuple[int, int, int]]:
        return (own.tdmrs[index].headroom or 0) >= 0, room_of(own.tdmrs[index])

    ordered = sorted(range(len(own.tdmrs)), key=key)
    full = [index for index in ordered if level_of(own.tdmrs[index]) not in ("fits", "unknown")]
    apart = {*full} if len(full) <= alone else set()
    groups: dict[Any, list[int]] = {}
    for index in ordered:
        needs = tuple(_needs(plan.tdmrs[index]) for plan in others)
        groups.setdefault(index if index in apart else needs, []).append(index)
    return list(groups.values())


def room_of(tdmr: Tdmr) -> tuple[int, int, int]:
    """How much room a TDMR has, to sort by."""
    return (
        _UNKNOWN if tdmr.headroom is None else tdmr.headroom,
        _UNKNOWN if tdmr.headroom_worst is None else tdmr.headroom_worst,
        tdmr.base,
    )


def level_of(tdmr: Tdmr) -> str:
    """How it stands with a TDMR, as the verdict counts it."""
    headroom, worst = tdmr.headroom, tdmr.headroom_worst
    if headroom is None or worst is None:
        return "unknown"
    if headroom < 0:
        return "over"
    return "tight" if headroom <= AT_RISK_HEADROOM or worst < 0 else "fits"


def in_words(headroom: int) -> str:
    """How many areas are left, or missing."""
    return f"{-headroom} too many" if headroom < 0 else f"{headroom} left" if headroom else "none left"


def table_of(
    plans: Mapping[Strategy, Plan], groups: Sequence[Sequence[int]], own: Strategy
) -> dict[str, Any]:
    """What the template shows: a row for each group, and this kernel's strategy first."""
    ordered = sorted(plans, key=lambda strategy: strategy is not own)
    return {
        "strategies": [{"name": str(strategy), "own": strategy is own} for strategy in ordered],
        "rows": [_row([[plans[s].tdmrs[i] for i in group] for s in ordered]) for group in groups],
    }


def _row(tdmrs: Sequence[Sequence[Tdmr]]) -> dict[str, Any]:
    """A row of TDMRs that are equal; the same ones under each strategy."""
    first = tdmrs[0]
    nodes = sorted({tdmr.node for tdmr in first if tdmr.node is not None})
    return {
        "bounds": show(first[0].base, first[0].end),
        "equal": [show(tdmr.base, tdmr.end) for tdmr in first[1:]],
        "nodes": ", ".join(map(str, nodes)) or "unknown",
        "size": show_size(first[0].size),
        "cells": [
            {
                "needed": of[0].needed,
                "holes": of[0].needed_holes,
                "pamts": of[0].needed_pamts,
                "worst": of[0].needed_worst,
                "headroom": of[0].headroom,
                "level": level_of(of[0]),
            }
            for of in tdmrs
        ],
    }


def _needs(tdmr: Tdmr) -> tuple[int | None, ...]:
    return tdmr.size, tdmr.needed_holes, tdmr.needed_pamts, tdmr.needed_worst, tdmr.limit
