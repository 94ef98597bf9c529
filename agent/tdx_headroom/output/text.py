# SPDX-License-Identifier: Apache-2.0
"""The report for a person at a terminal: the verdict first, then the plan, then what it rests on."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from tdx_headroom.address import show, show_size
from tdx_headroom.errors import one_line, printable
from tdx_headroom.output.boots_report import next_boot_lines
from tdx_headroom.output.sources import only_in, used_for
from tdx_headroom.plan import AreaKind, Strategy
from tdx_headroom.verdict import State, describe, predict
from tdx_headroom.verdict.findings import Certainty
from tdx_headroom.verdict.model import AT_RISK_HEADROOM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.assessment import Assessment

_COLOURS = {
    State.WILL_INITIALIZE: "32",
    State.INITIALIZED: "32",
    State.AT_RISK: "33",
    State.CANNOT_TELL: "33",
    State.WILL_FAIL: "31",
    State.FAILED: "31",
}
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
WIDTH = 110


class Style:
    """How much a terminal can show.

    Args:
        colour: whether to write colours.
        unicode: whether blocks can be written, or only ASCII.
    """

    def __init__(self, *, colour: bool = False, unicode: bool = True) -> None:
        self._colour = colour
        self.hole, self.pamt, self.free, self.over = ("█", "▒", "·", "!") if unicode else ("#", "%", ".", "!")

    def paint(self, text: str, state: State | None) -> str:
        """The text in the colour of a verdict."""
        code = _COLOURS.get(state) if state is not None else None
        return f"\x1b[1;{code}m{text}\x1b[0m" if self._colour and code else text


def render(assessment: Assessment, style: Style, only: Strategy | None = None) -> str:
    """The whole report; ``only`` leaves out the other strategies' tables."""
    lines = [*_head(assessment, style), ""]
    if assessment.boots is not None:
        lines += [*next_boot_lines(assessment, style), ""]
    for strategy, plan in assessment.plans.items():
        if only in (None, strategy):
            lines += [*_strategy(assessment, strategy, plan, style), ""]
    lines += _sources(assessment)
    return "\n".join(lines) + "\n"


def _head(assessment: Assessment, style: Style) -> Iterable[str]:
    facts, verdict = assessment.facts, assessment.verdict
    contradiction = verdict.finding.contradiction
    host = one_line(facts.host or "unnamed host", 80)
    release = f", kernel {one_line(facts.kernel_release, 80)}" if facts.kernel_release else ""
    yield f"{host}{release}"
    yield ""
    if verdict.preface:
        yield f"  AN EXCERPT: {verdict.preface.rstrip()}"
    yield f"  {style.paint(_WORDS[verdict.state], verdict.state)}: {printable(verdict.summary)}"
    if verdict.next_boot is not None and verdict.next_boot is not verdict.state:
        plan = assessment.plans[verdict.strategy]
        if plan is not None and predict(plan) is not verdict.next_boot:
            # Something else than the memory map decides; the remedies say what.
            plan = None
        word = style.paint(_WORDS[verdict.next_boot], verdict.next_boot)
        any_map = any(finding.certainty is Certainty.ANY_MAP for finding in verdict.findings)
        when = "Next initialization" if any_map else "Next initialization with this memory map"
        yield f"  {when}: {word}" + (f": {describe(plan)}" if plan else "")
    for title, texts in (
        ("Contradiction", verdict.contradictions),
        ("Beware", verdict.warnings),
        ("What to do", verdict.remedies),
        ("Why", (*verdict.evidence, *([contradiction] if contradiction else []))),
        ("What is missing", verdict.missing),
    ):
        if texts:
            yield ""
            yield f"  {title}"
            for text in texts:
                yield from wrap(printable(text), width=WIDTH, initial_indent="  - ", subsequent_indent="    ")


def _strategy(assessment: Assessment, strategy: Strategy, plan: Plan | None, style: Style) -> Iterable[str]:
    mark = " (this kernel's)" if strategy is assessment.verdict.strategy else ""
    if plan is None:
        missing = "memory regions" if assessment.facts.memory_regions is None else "CMRs"
        yield f"Strategy {strategy}{mark}: no plan, the {missing} are unknown"
        return
    yield f"Strategy {strategy}{mark}: {describe(plan)}"
    if not plan.tdmrs:
        return
    width = max(len(show(t.base, t.end)) for t in plan.tdmrs)
    gauge = min(max(t.limit for t in plan.tdmrs), MAX_GAUGE)
    yield (
        f"  {'TDMR':<{width}}  node  {'size':>9}  {'areas':<{gauge + 1}} {'needed':>7}"
        f"  {'holes':>5}  {'PAMTs':>5}  {'left':>5}  {'at worst':>8}"
    )
    for tdmr in plan.tdmrs:
        yield _row(tdmr, width, gauge, style)
    yield (
        f"  PAMTs take {show_size(plan.pamt_bytes)}." if plan.headroom is not None else "  No PAMT is set up."
    )
    for message in plan.messages:
        yield f"  The kernel would print: {message}"
    if plan.not_convertible_bytes:
        yield f"  {show_size(plan.not_convertible_bytes)} of memory lie outside every CMR."


def _row(tdmr: Tdmr, width: int, gauge: int, style: Style) -> str:
    node = "?" if tdmr.node is None else str(tdmr.node)
    start = f"  {show(tdmr.base, tdmr.end):<{width}}  {node:>4}  {show_size(tdmr.size):>9}"
    if tdmr.needed is None or tdmr.headroom is None:
        return f"{start}  not looked at"
    tight = State.AT_RISK if tdmr.headroom <= AT_RISK_HEADROOM else None
    state = State.WILL_FAIL if tdmr.headroom < 0 else tight
    bar = style.paint(_gauge(tdmr, gauge, style), state)
    return (
        f"{start}  {bar} {tdmr.needed:>4}/{tdmr.limit:<2}"
        f"  {tdmr.needed_holes:>5}  {tdmr.needed_pamts:>5}  {tdmr.headroom:>5}  {tdmr.needed_worst:>8}"
    )


def _gauge(tdmr: Tdmr, slots: int, style: Style) -> str:
    """One slot an area, holes first; a mark behind them when areas are left over."""
    kinds = sorted(area.kind for area in tdmr.reserved_areas)
    filled = "".join(style.hole if kind is AreaKind.HOLE else style.pamt for kind in kinds[:slots])
    return filled + style.free * (slots - len(filled)) + (style.over if len(kinds) > slots else " ")


def _sources(assessment: Assessment) -> Iterable[str]:
    facts = assessment.facts
    yield "Sources"
    for source in facts.sources:
        uses = used_for(facts, source.source)
        ok = f"ok  used for {uses}" if uses else "ok"
        yield printable(f"  {source.source:<16} {ok if source.ok else f'FAILED  {source.error}'}")
    if facts.log_health is not None and not facts.log_health.verified:
        yield "  The log is plain text: who wrote its lines cannot be verified."
    if facts.log_health is not None and (loose := facts.log_health.loose):
        lines = "a TDX line that does" if loose == 1 else f"{loose} TDX lines that do"
        yield f"  The log holds {lines} not have its prefix: taken for nothing good."
    if facts.log_health is not None and (earlier := facts.log_health.earlier_boots):
        boots = "a boot" if earlier == 1 else f"{earlier} boots"
        yield f"  The log holds {boots} before this one: `tdx-headroom history` tells of them."
    for found in facts.disagreements:
        yield printable(f"  {found.a} and {found.b} differ by {show_size(found.bytes)}:")
        for line in only_in(found):
            yield printable(f"    {line}")
