# SPDX-License-Identifier: Apache-2.0
"""The page at ``/``: will it come up, why not, what to do; then every TDMR drawn, and what all rests on."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tdx_headroom import __version__
from tdx_headroom.address import show_size
from tdx_headroom.errors import one_line
from tdx_headroom.output import picture
from tdx_headroom.output.addresses import coarse, coarse_error, coarse_size
from tdx_headroom.output.boots_card import boots_section
from tdx_headroom.output.cards import tdmr_section
from tdx_headroom.output.history_card import history_section
from tdx_headroom.output.looks import Firmware
from tdx_headroom.output.moods import MOODS
from tdx_headroom.output.sources import only_in, used_for
from tdx_headroom.output.tdmr_table import in_words
from tdx_headroom.output.verdict_card import verdict_section
from tdx_headroom.output.whole import MAX_ON_PAGE, pieces
from tdx_headroom.plan import Outcome
from tdx_headroom.verdict import State, describe, predict
from tdx_headroom.verdict.kernels import names_with
from tdx_headroom.verdict.model import WHAT_TAKES_AREAS, capitalized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2 import Template

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.sources import Disagreement, SourceStatus
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.assessment import Assessment


def render_page(
    assessment: Assessment | None,
    *,
    stale: bool = False,
    full_addresses: bool = False,
    telemetry_path: str = "/metrics",
    assessed_at: float | None = None,
    records: Sequence[BootRecord] = (),
    runbook_url: str | None = None,
) -> str:
    """The page as HTML.

    Args:
        assessment: what to show; None when the host has not been read yet.
        stale: whether the last attempt to read the host failed, and this is an older view.
        full_addresses: whether to show addresses finer than a TDMR's bounds; without it pictures are cut into
            64 steps.
        telemetry_path: where the metrics are.
        assessed_at: when the host was read, in seconds since the epoch; None: not said.
        records: of its boots, the present one last.
        runbook_url: where the runbooks can be read; None: they are named, without a link.
    """
    context: dict[str, Any] = {
        "version": __version__,
        "stale": stale,
        "metrics": telemetry_path.removeprefix("/"),
        "assessed": None if assessed_at is None else datetime.fromtimestamp(assessed_at, UTC),
        "picture": picture,
        "verdict": None,
        "runbook_url": None if runbook_url is None else runbook_url.rstrip("/"),
        "host": None,
        "kernel": None,
    }
    if assessment is not None:
        context |= _context(assessment, full_addresses=full_addresses)
        context["history"] = history_section(records)
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
        # Otherwise a template is looked for at each use; who is no longer root may not find it any more.
        auto_reload=False,
    )
    environment.filters["pieces"] = pieces
    environment.globals["longest_whole"] = MAX_ON_PAGE
    return environment.get_template("page.html")


def _context(assessment: Assessment, *, full_addresses: bool) -> dict[str, Any]:
    facts = assessment.facts
    firmware = Firmware(facts.firmware_map)
    shown: Callable[[str], str] = (lambda text: text) if full_addresses else coarse
    return {
        "host": one_line(facts.host, 80) if facts.host else None,
        "kernel": one_line(facts.kernel_release, 80) if facts.kernel_release else None,
        "verdict": verdict_section(assessment, firmware, full_addresses=full_addresses),
        "tdmrs": tdmr_section(assessment, firmware, full_addresses=full_addresses),
        "strategies": [
            _strategy(assessment, strategy, plan, shown) for strategy, plan in assessment.plans.items()
        ],
        "boots": boots_section(assessment, full_addresses=full_addresses),
        "max_tdmrs": facts.limits.max_tdmrs,
        "sources": [_source(assessment, s, full_addresses=full_addresses) for s in facts.sources],
        "sources_ok": sum(source.ok for source in facts.sources),
        "log_health": facts.log_health,
        "disagreements": [_disagreement(d, full_addresses=full_addresses) for d in facts.disagreements],
    }


def _strategy(
    assessment: Assessment, strategy: Strategy, plan: Plan | None, shown: Callable[[str], str]
) -> dict[str, Any]:
    common = {
        "name": str(strategy),
        "own": strategy is assessment.verdict.strategy,
        "rule": f"{capitalized(WHAT_TAKES_AREAS[strategy])}.",
        "kernels": ", ".join(names_with({strategy})) or "no kernel that is known",
    }
    if plan is None:
        missing = "memory regions" if assessment.facts.memory_regions is None else "CMRs"
        return common | {
            "planned": False,
            "mood": "none",
            "word": "No plan",
            "summary": f"The {missing} are unknown.",
        }
    state = predict(plan)
    return common | {
        "planned": True,
        "mood": MOODS[state],
        "word": {State.WILL_FAIL: "Would fail", State.AT_RISK: "At risk"}.get(state, "Would fit"),
        "summary": shown(describe(plan)),
        "left": None if plan.headroom is None else in_words(plan.headroom),
        "worst": None if plan.headroom_worst is None else in_words(plan.headroom_worst),
        "tdmrs": plan.tdmrs_needed,
        "pamt": None if plan.headroom is None else show_size(plan.pamt_bytes),
        "outside": show_size(plan.not_convertible_bytes) if plan.not_convertible_bytes else None,
        "module": str(plan.module.status) if plan.module and plan.outcome is Outcome.REJECTED else None,
        "messages": [shown(message) for message in plan.messages],
    }


def _source(assessment: Assessment, source: SourceStatus, *, full_addresses: bool) -> dict[str, Any]:
    error = source.reason or source.error or ""
    if not full_addresses:
        error = coarse_error(error)
    return {
        "name": source.source,
        "ok": source.ok,
        "error": one_line(error),
        "used": used_for(assessment.facts, source.source),
    }


def _disagreement(found: Disagreement, *, full_addresses: bool) -> dict[str, Any]:
    return {
        "a": found.a,
        "b": found.b,
        "size": show_size(found.bytes) if full_addresses else coarse_size(found.bytes),
        "only": only_in(found) if full_addresses else [],
    }
