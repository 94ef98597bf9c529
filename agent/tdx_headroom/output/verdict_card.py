# SPDX-License-Identifier: Apache-2.0
"""The page's first section: will it come up, why not, and what to do, now and before the next boot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import one_line
from tdx_headroom.output.addresses import coarse, coarse_error, public
from tdx_headroom.output.boots_card import next_boot_state, next_boot_text
from tdx_headroom.output.boots_report import new_remedies
from tdx_headroom.output.cards import fullest
from tdx_headroom.output.evidence import evidence_of
from tdx_headroom.output.moods import MOODS, WORSE
from tdx_headroom.output.no_remedy import no_remedy
from tdx_headroom.output.runbooks import runbooks_of
from tdx_headroom.plan import Outcome
from tdx_headroom.verdict import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tdx_headroom.output.looks import Firmware
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
_HEADLINES_ALONE = {
    State.WILL_INITIALIZE: "TDX will come up",
    State.AT_RISK: "TDX will come up, but barely",
    State.WILL_FAIL: "TDX will not come up",
    State.NOT_TDX: "Not a TDX host",
    State.CANNOT_TELL: "Whether TDX comes up cannot be told",
}
_HEADLINES_STAGED = {
    (State.INITIALIZED, State.WILL_INITIALIZE): "TDX is up, and will be after the next boot",
    (State.INITIALIZED, State.AT_RISK): "TDX is up, but at risk in the next boot",
    (State.INITIALIZED, State.WILL_FAIL): "TDX is up, but not after the next boot",
    (State.INITIALIZED, State.CANNOT_TELL): "TDX is up; what the next boot brings cannot be told",
    (State.FAILED, State.WILL_INITIALIZE): "TDX is down, but will come up in the next boot",
    (State.FAILED, State.AT_RISK): "TDX is down, and at risk in the next boot",
    (State.FAILED, State.WILL_FAIL): "TDX is down, and will fail in the next boot",
    (State.FAILED, State.CANNOT_TELL): "TDX is down; what the next boot brings cannot be told",
}
"""Where the next boot does something else than this kernel on this map."""
_HEADLINES_STAGED_ALONE = {
    State.WILL_INITIALIZE: "TDX will come up in the next boot",
    State.AT_RISK: "TDX is at risk in the next boot",
    State.WILL_FAIL: "TDX will not come up in the next boot",
    State.CANNOT_TELL: "What the next boot brings cannot be told",
}
_BUT_THIS_KERNEL = {
    State.WILL_FAIL: ", though this kernel would fail",
    State.AT_RISK: ", though at risk under this kernel",
}
"""What is behind a next boot that is well."""


def verdict_section(assessment: Assessment, firmware: Firmware, *, full_addresses: bool) -> dict[str, Any]:
    """What the template shows: headline, answers, what to do, what it rests on, and what is missing."""
    verdict = assessment.verdict
    shown: Callable[[str], str] = (lambda text: text) if full_addresses else coarse
    rests_on, evidence = evidence_of(assessment, "How that is known")
    staged = new_remedies(assessment, told=verdict.remedies)
    remedies, warnings = (*verdict.remedies, *staged), assessment.warnings
    texts = (verdict.told, *evidence, *remedies, *warnings, *verdict.contradictions)
    answers = list(_answers(assessment, shown))
    deciding = None if verdict.state is State.NOT_TDX else fullest(assessment, firmware)
    return {
        "headline": _headline(assessment),
        "mood": max((answer["mood"] for answer in answers), key=WORSE.index),
        "answers": answers,
        "fullest": deciding,
        "rests_on": rests_on,
        "evidence": [shown(text) for text in evidence],
        "todo": _todo(assessment, staged, full_addresses=full_addresses),
        "contradictions": [shown(text) for text in verdict.contradictions],
        "warnings": [shown(text) for text in warnings],
        "left_out": any(shown(text) != text for text in texts),
        "runbooks": runbooks_of(_findings(assessment)),
        "missing": [text if full_addresses else coarse_error(text) for text in verdict.missing],
    }


def _findings(assessment: Assessment) -> list[Finding]:
    """Those of the verdict, and those of the boot that comes next."""
    coming = assessment.coming
    of_next = () if coming is None or coming.verdict is None else coming.verdict.findings
    return [*assessment.verdict.findings, *of_next]


def _todo(assessment: Assessment, staged: Sequence[str], *, full_addresses: bool) -> list[dict[str, Any]]:
    """Lists of remedies, for this kernel and for the staged boot; what is more urgent comes first."""
    verdict = assessment.verdict
    lists: list[dict[str, Any]] = []
    if verdict.remedies:
        remedies = [text if full_addresses else coarse(text) for text in verdict.remedies]
        lists.append({"heading": None, "remedies": remedies})
    elif nothing := no_remedy(assessment):
        lists.append({"heading": nothing, "remedies": []})
    if not staged:
        return lists
    release = None if assessment.coming is None else assessment.coming.entry.release
    kernel = "of an unknown kernel" if release is None else f"of kernel {one_line(release, 60)}"
    remedies = [public(text, full_addresses=full_addresses) for text in staged]
    lists.append({"heading": f"Before the next boot, {kernel}:", "remedies": remedies})
    if verdict.remedies and verdict.next_boot is State.WILL_INITIALIZE:
        lists.reverse()
        lists[1]["heading"] = "Under this kernel:"
    return lists


def _headline(assessment: Assessment) -> str:
    verdict, coming = assessment.verdict, next_boot_state(assessment)
    if coming not in (None, verdict.next_boot or State.CANNOT_TELL):
        headline = _HEADLINES_STAGED.get((verdict.state, coming)) or _HEADLINES_STAGED_ALONE[coming]
        behind = verdict.next_boot if coming is State.WILL_INITIALIZE else None
        up = verdict.state is not State.FAILED
        return headline + (_BUT_THIS_KERNEL.get(behind, "") if up and behind is not None else "")
    return _HEADLINES.get((verdict.state, verdict.next_boot)) or _HEADLINES_ALONE[verdict.state]


def _answers(assessment: Assessment, shown: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """What happened in this boot, where something has, and what the next initialization does."""
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
    if happened and assessment.expected is not None:
        why = shown(assessment.why_expected or "")
        plan = assessment.plans[verdict.strategy]
        if plan is not None and plan.outcome is Outcome.OK and verdict.next_boot is State.WILL_FAIL:
            why = f"The memory map fits, but something else stops TDX. {why}"
        yield _answer("Next initialization", assessment.expected, why)
    coming = next_boot_state(assessment)
    if coming is not None:
        yield _answer("Next boot", coming, next_boot_text(assessment, full_addresses=shown is not coarse))


def _answer(label: str, state: State, text: str) -> dict[str, str]:
    word = state.replace("-", " ").capitalize().replace("tdx", "TDX")
    return {"label": label, "mood": MOODS[state], "word": word, "text": text}
