# SPDX-License-Identifier: Apache-2.0
"""The page at ``/``: will it come up, why not, what to do; then every TDMR drawn, and what all rests on."""

from __future__ import annotations

import re
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
from tdx_headroom.output.boots_card import boots_section, next_boot_state, next_boot_text
from tdx_headroom.output.cards import fullest, tdmr_section
from tdx_headroom.output.history_card import history_section
from tdx_headroom.output.looks import Firmware
from tdx_headroom.output.moods import MOODS, WORSE
from tdx_headroom.output.runbooks import runbooks_of
from tdx_headroom.output.sources import only_in, used_for
from tdx_headroom.output.tdmr_table import in_words
from tdx_headroom.plan import Outcome
from tdx_headroom.verdict import State, describe, predict
from tdx_headroom.verdict.kernels import names_with
from tdx_headroom.verdict.model import WHAT_TAKES_AREAS, capitalized
from tdx_headroom.verdict.obstacles import doubt_of, other_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from jinja2 import Template

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.sources import Disagreement, SourceStatus
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict import Verdict
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.findings import Finding

_HEADLINES = {
    (State.INITIALIZED, State.WILL_INITIALIZE): "TDX is up, and will come up again",
    (State.INITIALIZED, State.AT_RISK): "TDX is up, but its next initialization is at risk",
    (State.INITIALIZED, State.WILL_FAIL): "TDX is up, but its next initialization will fail",
    (State.INITIALIZED, None): "TDX is up; what comes next cannot be told",
    (State.FAILED, State.WILL_INITIALIZE): "TDX is down, although the memory map fits",
    (State.FAILED, State.AT_RISK): "TDX is down; the memory map fits, but barely",
    (State.FAILED, State.WILL_FAIL): "TDX is down, and will fail again",
    (State.FAILED, None): "TDX is down",
}
_HEADLINES_STAGED = {
    State.WILL_FAIL: "TDX is up, but not after the next boot",
    State.AT_RISK: "TDX is up, but at risk in the next boot",
    State.CANNOT_TELL: "TDX is up; what the next boot brings cannot be told",
}
"""Where this kernel on this map brings it up again, and another comes."""
_HEADLINES_ALONE = {
    State.WILL_INITIALIZE: "TDX will come up",
    State.AT_RISK: "TDX will come up, but barely",
    State.WILL_FAIL: "TDX will not come up",
    State.NOT_TDX: "Not a TDX host",
    State.CANNOT_TELL: "Whether TDX comes up cannot be told",
}
_ERRNO = re.compile(r"(errno -?[0-9]+)")


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
    environment.filters["pieces"] = _pieces
    return environment.get_template("page.html")


def _pieces(text: str) -> list[tuple[str, bool]]:
    """A text in pieces, and whether no line may end inside of each: an error number is one."""
    return [(piece, i % 2 == 1) for i, piece in enumerate(_ERRNO.split(text))]


def _context(assessment: Assessment, *, full_addresses: bool) -> dict[str, Any]:
    facts = assessment.facts
    firmware = Firmware(facts.firmware_map)
    shown: Callable[[str], str] = (lambda text: text) if full_addresses else coarse
    return {
        "host": one_line(facts.host, 80) if facts.host else None,
        "kernel": one_line(facts.kernel_release, 80) if facts.kernel_release else None,
        "verdict": _verdict(assessment, firmware, shown),
        "missing": _missing(assessment.verdict, full_addresses=full_addresses),
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


def _verdict(assessment: Assessment, firmware: Firmware, shown: Callable[[str], str]) -> dict[str, Any]:
    verdict = assessment.verdict
    contradiction = verdict.finding.contradiction
    evidence = (*verdict.evidence, *([contradiction] if contradiction else []))
    texts = (verdict.told, *evidence, *verdict.remedies, *verdict.warnings, *verdict.contradictions)
    answers = list(_answers(assessment, shown))
    deciding = None if verdict.state is State.NOT_TDX else fullest(assessment, firmware)
    return {
        "headline": _headline(verdict, next_boot_state(assessment)),
        "mood": max((answer["mood"] for answer in answers), key=WORSE.index),
        "answers": answers,
        "fullest": deciding,
        "evidence": [shown(text) for text in evidence],
        "remedies": [shown(text) for text in verdict.remedies],
        "contradictions": [shown(text) for text in verdict.contradictions],
        "warnings": [shown(text) for text in verdict.warnings],
        "left_out": any(shown(text) != text for text in texts),
        "runbooks": runbooks_of(_findings(assessment)),
        "no_remedy": _no_remedy(assessment),
    }


def _findings(assessment: Assessment) -> list[Finding]:
    """Those of the verdict, and those of the boot that comes next."""
    coming = assessment.coming
    of_next = () if coming is None or coming.verdict is None else coming.verdict.findings
    return [*assessment.verdict.findings, *of_next]


def _missing(verdict: Verdict, *, full_addresses: bool) -> list[str]:
    return [text if full_addresses else coarse_error(text) for text in verdict.missing]


def _no_remedy(assessment: Assessment) -> str | None:
    """What to say where there is nothing to propose."""
    verdict = assessment.verdict
    if verdict.state is State.NOT_TDX:
        return None
    if verdict.state is State.CANNOT_TELL:
        return "Give the agent what is missing, see below."
    calm = verdict.state in (State.INITIALIZED, State.WILL_INITIALIZE) and verdict.next_boot in (
        State.WILL_INITIALIZE,
        None,
    )
    return " ".join(["Nothing.", *_elsewhere(assessment)]) if calm else "No remedy is known."


def _elsewhere(assessment: Assessment) -> Iterator[str]:
    """How a host that is well would fare with other kernels, and with those that are installed."""
    verdict, plans = assessment.verdict, assessment.plans
    others = [plan for strategy, plan in plans.items() if strategy is not verdict.strategy]
    left = [plan.headroom for plan in others if plan is not None and plan.headroom is not None]
    if any(finding.kind == other_kernels.KIND for finding in verdict.findings):
        yield "Another kernel would be a risk: see above."
    elif left:
        areas = "area" if min(left) == 1 else "areas"
        yield f"Under kernels that look for holes in another way it fits, too, with {min(left)} {areas} left."
    if None in others:
        missing = "memory regions" if assessment.facts.memory_regions is None else "CMRs"
        yield f"How it would fare under some other kernels is unknown, since the {missing} are."
    boots = assessment.boots or ()
    well = sum(boot.state is State.WILL_INITIALIZE for boot in boots)
    if len(boots) > 1:
        yield f"TDX comes up with {'all' if well == len(boots) else f'{well} of'} {len(boots)} boot entries."


def _headline(verdict: Verdict, coming: State | None) -> str:
    pair = (verdict.state, verdict.next_boot)
    if pair == (State.INITIALIZED, State.WILL_INITIALIZE) and coming in _HEADLINES_STAGED:
        return _HEADLINES_STAGED[coming]
    return _HEADLINES.get(pair) or _HEADLINES_ALONE[verdict.state]


def _answers(assessment: Assessment, shown: Callable[[str], str]) -> Iterable[dict[str, str]]:
    """What happened in this boot, where something has, and what the next initialisation does."""
    verdict = assessment.verdict
    happened = verdict.state in (State.INITIALIZED, State.FAILED)
    label = (
        "This boot"
        if happened
        else "This host"
        if verdict.state in (State.NOT_TDX, State.CANNOT_TELL)
        else "Next initialization"
    )
    yield _answer(label, verdict.state, shown(verdict.told))
    if happened and verdict.next_boot is None:
        doubt = doubt_of(verdict.findings) or "The memory map is not known well enough."
        yield _answer("Next initialization", State.CANNOT_TELL, shown(doubt))
    elif happened and verdict.next_boot is not None:
        plan = assessment.plans[verdict.strategy]
        text = "Something else than the memory map stops TDX: see what to do."
        if plan is not None and plan.outcome is Outcome.OK and verdict.next_boot is State.WILL_FAIL:
            text = "The memory map fits, but something else stops TDX: see what to do."
        elif plan is not None:
            same = predict(plan) is verdict.next_boot
            text = shown(describe(plan) if same or verdict.decides is None else verdict.decides)
        yield _answer("Next initialization", verdict.next_boot, text)
    coming = next_boot_state(assessment)
    if coming is not None:
        yield _answer("Next boot", coming, next_boot_text(assessment, full_addresses=shown is not coarse))


def _answer(label: str, state: State, text: str) -> dict[str, str]:
    word = state.replace("-", " ").capitalize().replace("tdx", "TDX")
    return {"label": label, "mood": MOODS[state], "word": word, "text": text}


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
