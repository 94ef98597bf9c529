# SPDX-License-Identifier: Apache-2.0
"""The page at ``/``: the verdict in words, the plan of each strategy, sources and their health."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tdx_headroom import __version__
from tdx_headroom.address import show, show_size
from tdx_headroom.output.addresses import coarse
from tdx_headroom.plan import AreaKind
from tdx_headroom.verdict import State, describe

if TYPE_CHECKING:
    from jinja2 import Template

    from tdx_headroom.assessment import Assessment
    from tdx_headroom.plan import Plan, Tdmr

_GOOD = (State.WILL_INITIALIZE, State.INITIALIZED)
_BAD = (State.WILL_FAIL, State.FAILED)
MAX_SLOTS = 32


def render_page(assessment: Assessment | None, *, stale: bool = False) -> str:
    """The page as HTML; nothing finer than a TDMR's bounds is on it.

    ``stale`` says that the last attempt to read the host failed and this is an older view.
    """
    context: dict[str, Any] = {"version": __version__, "stale": stale, "verdict": None}
    if assessment is not None:
        context |= _context(assessment)
    return _template().render(context)


@cache
def stylesheet() -> str:
    """The page's style sheet."""
    return resources.files("tdx_headroom.output").joinpath("templates/style.css").read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tdx_headroom.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _context(assessment: Assessment) -> dict[str, Any]:
    facts, verdict = assessment.facts, assessment.verdict
    return {
        "host": facts.host,
        "kernel": facts.kernel_release,
        "verdict": {
            "word": verdict.state.replace("-", " "),
            "mood": _mood(verdict.state),
            "summary": coarse(verdict.summary),
            "next": verdict.next_boot.replace("-", " ") if verdict.next_boot else None,
            "evidence": [coarse(text) for text in verdict.evidence],
            "remedies": [coarse(text) for text in verdict.remedies],
            "warnings": [coarse(text) for text in verdict.warnings],
            "contradiction": verdict.finding.contradiction,
        },
        "strategies": [
            {
                "name": str(strategy),
                "assumed": strategy is verdict.strategy,
                "summary": "No plan: the memory regions or the CMRs are unknown."
                if plan is None
                else describe(plan),
                "fits": None if plan is None else plan.fits,
                "tdmrs": [_tdmr(t) for t in plan.tdmrs] if plan is not None else [],
                "messages": plan.messages if plan is not None else (),
                "pamt": None if plan is None or plan.headroom is None else show_size(plan.pamt_bytes),
                "outside": _outside(plan),
            }
            for strategy, plan in assessment.plans.items()
        ],
        "sources": [
            {
                "name": source.source,
                "ok": source.ok,
                "error": source.error,
                "used": _used(assessment, source.source),
            }
            for source in facts.sources
        ],
        "disagreements": [{"a": d.a, "b": d.b, "size": show_size(d.bytes)} for d in facts.disagreements],
    }


def _mood(state: State) -> str:
    return "good" if state in _GOOD else "bad" if state in _BAD else "unsure"


def _outside(plan: Plan | None) -> str | None:
    if plan is None or not plan.not_convertible_bytes:
        return None
    return show_size(plan.not_convertible_bytes)


def _used(assessment: Assessment, source: str) -> str:
    facts = assessment.facts
    uses = (
        ("memory regions", facts.memory_source),
        ("nodes", facts.node_source),
        ("CMRs", facts.cmr_source),
    )
    return ", ".join(what for what, used in uses if used == source)


def _tdmr(tdmr: Tdmr) -> dict[str, Any]:
    kinds = [str(kind) for kind in sorted(area.kind for area in tdmr.reserved_areas)]
    slots = min(max(tdmr.limit, len(kinds)), MAX_SLOTS)
    cells = [
        ("over " if i >= tdmr.limit else "") + (kinds[i] if i < len(kinds) else "free") for i in range(slots)
    ]
    return {
        "bounds": show(tdmr.base, tdmr.end),
        "node": "unknown" if tdmr.node is None else tdmr.node,
        "size": show_size(tdmr.size),
        "needed": tdmr.needed,
        "holes": sum(kind == AreaKind.HOLE for kind in kinds),
        "pamts": sum(kind == AreaKind.PAMT for kind in kinds),
        "limit": tdmr.limit,
        "worst": tdmr.needed_worst,
        "headroom": tdmr.headroom,
        "cells": cells,
    }
