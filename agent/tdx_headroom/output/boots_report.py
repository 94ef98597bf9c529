# SPDX-License-Identifier: Apache-2.0
"""Boot entries for a person at a terminal: a row each, the next one marked; and why."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line, printable
from tdx_headroom.facts.boots import Change, Role, Starts
from tdx_headroom.verdict import State
from tdx_headroom.verdict.boots import why_none_comes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.output.text import Style
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot

WIDTH = 110
MAX_ROWS = 60
_HEAD = ("", "kernel", "verdict", "left", "starts TDX", "known from", "entry")
WORDS = {
    State.WILL_INITIALIZE: "will initialize",
    State.AT_RISK: "at risk",
    State.WILL_FAIL: "will fail",
    State.CANNOT_TELL: "cannot tell",
    State.NOT_TDX: "no TDX",
}
STARTS = {
    Starts.BOOT: "at boot",
    Starts.KVM_LOAD: "with kvm_intel",
    Starts.NEVER: "never",
    Starts.NOT_BUILT: "not built",
    Starts.UNKNOWN: "unknown",
}
_ROLES = {Role.NEXT: "next", Role.ONE_SHOT: "once", Role.RUNNING: "running", Role.KEXEC: "kexec"}
_CHANGES = {
    Change.KERNEL: "another kernel",
    Change.IMAGE: "the same release, built anew",
    Change.COMMAND_LINE: "another command line",
    Change.INITRD: "another initial RAM disk",
}


def boots_text(assessment: Assessment, style: Style) -> str:
    """The table, what decides about the boot that comes next, and what to do."""
    boots = assessment.boots
    if not boots:
        return f"{_no_boots(assessment)}\n"
    lines = [*_table(boots, style), "", *_next(assessment, style), *_notes(assessment)]
    return "\n".join(lines) + "\n"


def next_boot_lines(assessment: Assessment, style: Style) -> Iterator[str]:
    """What boots next, and what becomes of TDX with it; nothing where nobody has looked."""
    if assessment.boots is not None:
        yield from _next(assessment, style)


def told_differences(changes: Sequence[Change] | None) -> str:
    """In what the next boot differs from the running one, in words."""
    if changes is None:
        return "how it differs from the running one cannot be told"
    return ", ".join(_CHANGES[change] for change in changes) or "the running one again"


def told_roles(roles: Sequence[Role]) -> str:
    """What a boot entry is to its host, in words; empty where it is only installed."""
    return ", ".join(word for role, word in _ROLES.items() if role in roles)


def _no_boots(assessment: Assessment) -> str:
    if assessment.boots is None:
        return "There is nothing to boot in this input."
    return f"Which boots next cannot be told: {printable(why_none_comes(assessment.facts))}"


def _table(boots: Sequence[Boot], style: Style) -> list[str]:
    rows = [_row(boot) for boot in boots[:MAX_ROWS]]
    widths = [max(len(row[i]) for row in [_HEAD, *rows]) for i in range(len(_HEAD) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(_HEAD, widths, strict=False)), _HEAD[-1]])]
    for boot, row in zip(boots, rows, strict=False):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        cells[2] = style.paint(cells[2], boot.state)
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    if len(boots) > MAX_ROWS:
        lines.append(f"... and {len(boots) - MAX_ROWS} more; --format json has them all")
    return lines


def _row(boot: Boot) -> tuple[str, ...]:
    entry = boot.entry
    left = None if boot.plan is None else boot.plan.headroom
    known = boot.start.known_from
    return (
        _mark(entry.roles),
        one_line(entry.release or "unknown", 48),
        WORDS.get(boot.state, str(boot.state)),
        "" if left is None else str(left),
        STARTS[boot.start.starts],
        "" if known is None else str(known),
        one_line(entry.title or entry.entry or entry.known_from, 64),
    )


def _mark(roles: Sequence[Role]) -> str:
    return ("> " if Role.NEXT in roles else "  ") + told_roles(roles)


def _next(assessment: Assessment, style: Style) -> Iterator[str]:
    coming = assessment.coming
    if coming is None:
        yield from wrapped(f"Next boot: cannot tell, because {why_none_comes(assessment.facts)}")
        return
    entry = coming.entry
    word = WORDS.get(coming.state, str(coming.state)).upper()
    release = "an unknown kernel" if entry.release is None else f"kernel {entry.release}"
    once = ", once" if Role.ONE_SHOT in entry.roles else ""
    differs = told_differences(entry.differs)
    known = f"{differs}; known from {printable(entry.known_from)}"
    head, *rest = wrapped(f"Next boot: {word} under {release}{once} ({known})")
    yield head.replace(word, style.paint(word, coming.state), 1)
    yield from rest
    yield from wrapped(coming.why, "  ")
    remedies = () if coming.verdict is None or coming.state is State.NOT_TDX else coming.verdict.remedies
    for remedy in remedies:
        yield from wrapped(remedy, "  - ")


def _notes(assessment: Assessment) -> Iterator[str]:
    boots = assessment.facts.boots
    unread = [
        f"kernel {entry.release}: {'; '.join(entry.traits.unread)}"
        for entry in (boot.entry for boot in assessment.boots or ())
        if entry.traits is not None and entry.traits.unread
    ]
    notes = [*dict.fromkeys(unread), *(boots.notes if boots is not None else ())]
    if notes:
        yield ""
        yield "Not read"
        for note in notes:
            yield from wrapped(note, "  - ")


def wrapped(text: str, first: str = "") -> list[str]:
    """A text in lines for a terminal, the first behind a mark, the others indented as far."""
    indent = " " * max(len(first), 2)
    # Paths and arguments stay in one piece.
    return wrap(
        printable(text),
        width=WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
