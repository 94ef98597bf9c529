# SPDX-License-Identifier: Apache-2.0
"""The report for a person at a terminal: the verdict first, then the plan, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show, show_size
from tdx_headroom.errors import one_line, printable
from tdx_headroom.output.boots_report import next_boot_lines
from tdx_headroom.output.evidence import evidence_of
from tdx_headroom.output.no_remedy import no_remedy
from tdx_headroom.output.sources import only_in, used_for
from tdx_headroom.output.table import Column, Row, table
from tdx_headroom.plan import AreaKind, Strategy
from tdx_headroom.verdict import State, describe
from tdx_headroom.verdict.findings import Certainty
from tdx_headroom.verdict.model import AT_RISK_HEADROOM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.output.terminal import Style
    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.assessment import Assessment

_WORDS = {
    State.WILL_INITIALIZE: "WILL INITIALIZE",
    State.AT_RISK: "AT RISK",
    State.WILL_FAIL: "WILL FAIL",
    State.INITIALIZED: "INITIALIZED",
    State.FAILED: "FAILED",
    State.NOT_TDX: "NOT A TDX HOST",
    State.CANNOT_TELL: "CANNOT TELL",
}
MAX_GAUGE = 32
_COLUMNS = (
    Column("TDMR"),
    Column("node", right=True, spared=3),
    Column("size", right=True, spared=7),
    Column("areas", painted=True, spared=4),
    Column("needed", right=True),
    Column("holes", right=True, spared=5),
    Column("PAMTs", right=True, spared=6),
    Column("left", right=True, spared=1),
    Column("at worst", right=True, spared=2),
)
"""Range and areas tell the size, holes and PAMTs once more: these go first."""


def render(assessment: Assessment, style: Style, only: Strategy | None = None) -> str:
    """The whole report; ``only`` leaves out the other strategies' tables."""
    verdict = assessment.verdict
    lines = [
        *_verdict(assessment, style),
        *_listed(style, "Contradiction", verdict.contradictions),
        *_listed(style, "Beware", assessment.warnings),
        *_listed(style, "What to do", verdict.remedies),
        *_listed(style, *evidence_of(assessment, "Why")),
        *_listed(style, "What is missing", verdict.missing),
        *_next_boot(assessment, style),
        "",
    ]
    plans = {strategy: plan for strategy, plan in assessment.plans.items() if only in (None, strategy)}
    for strategy, plan in plans.items():
        if plan is not None:
            lines += [*_strategy(assessment, strategy, plan, style), ""]
    if unplanned := [strategy for strategy, plan in plans.items() if plan is None]:
        lines += [*_unplanned(assessment, unplanned, style), ""]
    lines += _sources(assessment, style)
    return "\n".join(lines) + "\n"


def render_short(assessment: Assessment, style: Style) -> str:
    """Verdict, what to do and what is missing, as a ticket has room for."""
    verdict = assessment.verdict
    nothing = None if verdict.remedies else no_remedy(assessment, warned=False)
    lines = [
        *_verdict(assessment, style),
        *_listed(style, "Contradiction", verdict.contradictions),
        *_listed(style, "What to do", verdict.remedies if nothing is None else [nothing]),
        *_listed(style, "What is missing", verdict.missing),
        *_next_boot(assessment, style),
    ]
    return "\n".join(lines) + "\n"


def _verdict(assessment: Assessment, style: Style) -> Iterable[str]:
    """Which host, what happened in this boot, and what the next initialization does."""
    facts, verdict = assessment.facts, assessment.verdict
    host = one_line(facts.host or "unnamed host", 80)
    release = f", kernel {one_line(facts.kernel_release, 80)}" if facts.kernel_release else ""
    yield from style.wrapped(f"{host}{release}")
    yield ""
    if verdict.preface:
        yield from style.wrapped(f"AN EXCERPT: {verdict.preface.rstrip()}", "  ", "    ")
    word = _WORDS[verdict.state]
    yield from style.wrapped_verdict(f"{word}: {verdict.summary}", word, verdict.state, "  ", "    ")
    if assessment.expected is not None:
        why = assessment.why_expected
        word = _WORDS[assessment.expected]
        any_map = any(finding.certainty is Certainty.ANY_MAP for finding in verdict.findings)
        when = "Next initialization" if any_map else "Next initialization with this memory map"
        text = f"{when}: {word}" + (f": {why}" if why else "")
        yield from style.wrapped_verdict(text, word, assessment.expected, "  ", "    ")


def _listed(style: Style, title: str, texts: Sequence[str]) -> Iterable[str]:
    if texts:
        yield ""
        yield f"  {title}"
        for text in texts:
            yield from style.wrapped(text, "  - ")


def _next_boot(assessment: Assessment, style: Style) -> Iterable[str]:
    if assessment.boots is not None:
        yield ""
        yield from next_boot_lines(assessment, style, told=assessment.verdict.remedies)


def _unplanned(assessment: Assessment, strategies: Sequence[Strategy], style: Style) -> Iterable[str]:
    """The strategies that cannot be planned: all for want of the same thing."""
    names = [f"{strategy}{_mark(assessment, strategy)}" for strategy in strategies]
    missing = "memory regions" if assessment.facts.memory_regions is None else "CMRs"
    what = "Strategy" if len(names) == 1 else "Strategies"
    yield from style.wrapped(f"{what} {', '.join(names)}: no plan, the {missing} are unknown")


def _mark(assessment: Assessment, strategy: Strategy) -> str:
    return " (this kernel's)" if strategy is assessment.verdict.strategy else ""


def _strategy(assessment: Assessment, strategy: Strategy, plan: Plan, style: Style) -> Iterable[str]:
    yield from style.wrapped(f"Strategy {strategy}{_mark(assessment, strategy)}: {describe(plan)}")
    if not plan.tdmrs:
        return
    slots = min(max(t.limit for t in plan.tdmrs), MAX_GAUGE)
    yield from table(style, _COLUMNS, [_row(tdmr, slots, style) for tdmr in plan.tdmrs], "  ")
    pamts = f"PAMTs take {show_size(plan.pamt_bytes)}." if plan.headroom is not None else "No PAMT is set up."
    yield from style.wrapped(pamts, "  ")
    for message in plan.messages:
        yield from style.wrapped(f"The kernel would print: {message}", "  ", "    ")
    if plan.not_convertible_bytes:
        outside = show_size(plan.not_convertible_bytes)
        yield from style.wrapped(f"{outside} of memory lie outside every CMR.", "  ", "    ")


def _row(tdmr: Tdmr, slots: int, style: Style) -> Row:
    node = "?" if tdmr.node is None else str(tdmr.node)
    cells = [show(tdmr.base, tdmr.end), node, show_size(tdmr.size)]
    if tdmr.needed is None or tdmr.headroom is None:
        return Row([*cells, "not looked at", "?", "", "", "", ""])
    tight = State.AT_RISK if tdmr.headroom <= AT_RISK_HEADROOM else None
    numbers = (tdmr.needed_holes, tdmr.needed_pamts, tdmr.headroom, tdmr.needed_worst)
    needed = f"{tdmr.needed}/{tdmr.limit:<2}"
    return Row(
        [*cells, _gauge(tdmr, slots, style), needed, *map(str, numbers)],
        State.WILL_FAIL if tdmr.headroom < 0 else tight,
    )


def _gauge(tdmr: Tdmr, slots: int, style: Style) -> str:
    """One slot an area, holes first; a mark behind them when areas are left over."""
    kinds = sorted(area.kind for area in tdmr.reserved_areas)
    filled = "".join(style.hole if kind is AreaKind.HOLE else style.pamt for kind in kinds[:slots])
    return filled + style.free * (slots - len(filled)) + (style.over if len(kinds) > slots else " ")


def _sources(assessment: Assessment, style: Style) -> Iterable[str]:
    facts = assessment.facts
    yield "Sources"
    for source in facts.sources:
        uses = used_for(facts, source.source)
        ok = f"ok  used for {uses}" if uses else "ok"
        text = ok if source.ok else f"FAILED  {source.error}"
        yield from style.wrapped(text, f"  {printable(source.source):<16} ")
    for note in _notes(assessment):
        yield from style.wrapped(note, "  ", "    ")
    for found in facts.disagreements:
        yield from style.wrapped(f"{found.a} and {found.b} differ by {show_size(found.bytes)}:", "  ", "    ")
        for line in only_in(found):
            yield from style.wrapped(line, "    ", "      ")


def _notes(assessment: Assessment) -> Iterable[str]:
    """What has to be known of the log."""
    health = assessment.facts.log_health
    if health is None:
        return
    if not health.verified:
        yield "The log is plain text: who wrote its lines cannot be verified."
    if health.loose:
        lines = "a TDX line that does" if health.loose == 1 else f"{health.loose} TDX lines that do"
        yield f"The log holds {lines} not have its prefix: taken for nothing good."
    if health.earlier_boots:
        boots = "a boot" if health.earlier_boots == 1 else f"{health.earlier_boots} boots"
        yield f"The log holds {boots} before this one: `tdx-headroom history` tells of them."
