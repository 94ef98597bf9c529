# SPDX-License-Identifier: Apache-2.0
"""What to change so that the next boot brings TDX up: what it gives, what it costs, how to do and undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.address import show_size
from tdx_headroom.errors import one_line
from tdx_headroom.output.boot_commands import commands_for
from tdx_headroom.output.boots_report import WORDS
from tdx_headroom.output.plan_json import remedy_to_json
from tdx_headroom.output.remedy_steps import steps_for
from tdx_headroom.verdict import State
from tdx_headroom.verdict.findings import RemedyKind
from tdx_headroom.verdict.obstacles import remedy_in_place
from tdx_headroom.verdict.way_out import in_words, way_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.boots import BootEntry, BootInventory
    from tdx_headroom.output.remedy_steps import Steps
    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot
    from tdx_headroom.verdict.findings import Finding, Remedy
    from tdx_headroom.verdict.model import Verdict
    from tdx_headroom.verdict.way_out import WayOut

SCHEMA = "tdx-headroom/remedy/1"
_CALM = (State.WILL_INITIALIZE, State.INITIALIZED, State.NOT_TDX)


class _Question(NamedTuple):
    """What is to be mended: the boot that comes next, or where that is unknown the next initialization.

    Args:
        release: of its kernel, or None.
        state: what TDX does then; None: unknown.
        verdict: about it; None where its kernel or command line are unknown.
        entry: its boot entry.
        why: the state in a sentence.
    """

    release: str | None
    state: State | None
    verdict: Verdict | None
    entry: BootEntry | None
    why: str


def remedy_text(assessment: Assessment, style: Style) -> str:
    """The remedies, the surest first, for a person at a terminal."""
    asked = _question(assessment)
    host = one_line(assessment.facts.host or "unnamed host", 80)
    release = f", kernel {one_line(asked.release, 80)}" if asked.release else ""
    what = "the next initialization" if asked.entry is None else "the next boot"
    word = "unknown" if asked.state is None else WORDS.get(asked.state, str(asked.state))
    lines = style.wrapped_verdict(f"{host}{release}: {what}: {word}", word, asked.state)
    lines += style.wrapped(asked.why, "  ")
    verdict = asked.verdict
    for found in _in_place(verdict):
        lines += style.wrapped(found.text, "  ")
    remedies = _remedies(verdict)
    way = None if asked.entry is None else way_out(assessment)
    if not remedies and way is None:
        lines += ["", *style.wrapped(_nothing(asked))]
    if way is not None and assessment.coming is not None:
        commands = commands_for(way, assessment.facts.boots).listed()
        lines += ["", *_other_entry(way, assessment.coming, commands, style)]
    for number, (_, remedy) in enumerate(remedies, 1 if way is None else 2):
        lines += ["", *_remedy(number, remedy, asked.entry, style)]
    return "\n".join(lines) + "\n"


def remedy_json(assessment: Assessment) -> dict[str, Any]:
    """The same for programs."""
    asked = _question(assessment)
    return {
        "schema": SCHEMA,
        "host": assessment.facts.host,
        "kernel_release": asked.release,
        "entry": None if asked.entry is None else asked.entry.entry,
        "verdict": None if asked.state is None else str(asked.state),
        "why": asked.why,
        "other_entry": _other_entry_json(
            None if asked.entry is None else way_out(assessment), assessment.facts.boots
        ),
        "in_place": [found.text for found in _in_place(asked.verdict)],
        "remedies": [
            {
                "finding": found.kind,
                **remedy_to_json(remedy, full_addresses=True),
                "steps": _steps_json(_steps(remedy, asked.entry)),
            }
            for found, remedy in _remedies(asked.verdict)
        ],
    }


def _other_entry(
    way: WayOut, coming: Boot, commands: Sequence[tuple[str, str]], style: Style
) -> Iterator[str]:
    yield from style.wrapped(f"{in_words(way, coming)}.", "1. ")
    for word, (command, what) in zip(("do", "or"), commands, strict=False):
        yield f"   {word}     {what}, as root:"
        yield f"            {command}"
    if not commands:
        name = one_line(way.boot.entry.title or way.boot.entry.entry or "", 100)
        text = f"choose '{name}' in the boot loader's menu, for no command is known to do so"
        yield from style.wrapped(text, "   do     ")


def _other_entry_json(way: WayOut | None, inventory: BootInventory | None) -> dict[str, Any] | None:
    if way is None:
        return None
    commands = commands_for(way, inventory)
    entry, plan = way.boot.entry, way.boot.plan
    return {
        "entry": entry.entry,
        "kernel_release": entry.release,
        "verdict": str(way.boot.state),
        "left": None if plan is None else plan.headroom,
        "once": commands.once,
        "for_good": commands.for_good,
    }


def _question(assessment: Assessment) -> _Question:
    coming = assessment.coming
    if coming is not None and coming.verdict is not None:
        return _Question(coming.entry.release, coming.state, coming.verdict, coming.entry, coming.why)
    verdict = assessment.verdict
    state = verdict.state if verdict.next_boot is None else verdict.next_boot
    return _Question(assessment.facts.kernel_release, state, verdict, None, verdict.decides or verdict.told)


def _remedies(verdict: Verdict | None) -> list[tuple[Finding, Remedy]]:
    """Those of all findings, each once and with the first that has it; those that were computed first.

    Two that ask for the same arguments are one, whatever they are for.
    """
    findings = () if verdict is None else verdict.findings
    found: dict[object, tuple[Finding, Remedy]] = {}
    for finding in findings:
        for remedy in finding.remedies:
            same = (remedy.kind, remedy.arguments) if remedy.arguments else remedy
            found.setdefault(same, (finding, remedy))
    return sorted(found.values(), key=lambda pair: not pair[1].computed)


def _in_place(verdict: Verdict | None) -> list[Finding]:
    findings = () if verdict is None else verdict.findings
    return [finding for finding in findings if finding.kind in remedy_in_place.KINDS]


def _nothing(asked: _Question) -> str:
    if asked.state in _CALM:
        return "Nothing is to be changed."
    return "No remedy is known. `tdx-headroom plan` shows what the answer rests on, and what is missing."


def _remedy(number: int, remedy: Remedy, entry: BootEntry | None, style: Style) -> Iterator[str]:
    yield from style.wrapped(remedy.text, f"{number}. ")
    gives = "computed" if remedy.computed else "likely to help, not computed"
    if remedy.left is not None:
        areas = f"{remedy.left} reserved area{'' if remedy.left == 1 else 's'}"
        gives = f"TDX comes up, the fullest TDMR with {areas} left ({gives})"
    yield from style.wrapped(gives, "   gives  ")
    if remedy.bytes_given_up is not None:
        yield f"   costs  {show_size(remedy.bytes_given_up) if remedy.bytes_given_up else 'no memory'}"
    steps = _steps(remedy, entry)
    if steps is not None:
        yield from style.wrapped(f"in {steps.where}, as root:", "   do     ")
        # A command is one line, however long: it is to be copied.
        yield from (f"            {command}" for command in steps.apply)
        yield "   undo   as root:"
        yield from (f"            {command}" for command in steps.undo)
        if steps.note is not None:
            yield from style.wrapped(steps.note, "          ")


def _steps(remedy: Remedy, entry: BootEntry | None) -> Steps | None:
    if remedy.kind is not RemedyKind.ADD_ARGUMENTS or entry is None:
        return None
    return steps_for(entry, remedy.arguments)


def _steps_json(steps: Steps | None) -> dict[str, Any] | None:
    if steps is None:
        return None
    return {
        "where": steps.where,
        "apply": list(steps.apply),
        "undo": list(steps.undo),
        "note": steps.note,
    }
