# SPDX-License-Identifier: Apache-2.0
"""Boot entries for a person at a terminal: a row each, the next one marked; and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line, printable
from tdx_headroom.facts.boots import RUNNING_KERNEL, Change, Role, Starts
from tdx_headroom.output.table import Column, Row, table
from tdx_headroom.verdict import State, way_out
from tdx_headroom.verdict.boots import why_none_comes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.boots import BootEntry
    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot

MAX_ROWS = 60
TAKEN = "taken to be the running one again, as no boot configuration is known"
"""What is said of a next boot that nothing tells of."""
_COLUMNS = (
    Column(""),
    Column("kernel"),
    Column("verdict", painted=True),
    Column("left"),
    Column("starts TDX", spared=1),
    Column("known from", spared=2),
    Column("entry", wraps=True),
)
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
    Change.HYPERVISOR: "a hypervisor added or gone",
}


def boots_text(assessment: Assessment, style: Style) -> str:
    """The table, what decides about the boot that comes next, and what to do."""
    boots = assessment.boots
    if not boots:
        return f"{_no_boots(assessment)}\n"
    lines = [*_entries(boots, style), "", *next_boot_lines(assessment, style), *_notes(assessment, style)]
    return "\n".join(lines) + "\n"


def next_boot_lines(assessment: Assessment, style: Style, told: Sequence[str] = ()) -> Iterator[str]:
    """What boots next, what becomes of TDX with it, and what to do.

    Args:
        assessment: of a host whose boots are known.
        style: of the terminal.
        told: remedies that need not be told again.
    """
    coming = assessment.coming
    if coming is None:
        why = why_none_comes(assessment.facts)
        yield from style.wrapped(f"Next boot: cannot tell, because {why}")
        return
    entry = coming.entry
    word = WORDS.get(coming.state, str(coming.state)).upper()
    release = "an unknown kernel" if entry.release is None else f"kernel {entry.release}"
    once = ", once" if Role.ONE_SHOT in entry.roles else ""
    known = TAKEN if is_taken(entry) else f"{told_differences(entry.differs)}; known from {entry.known_from}"
    text = f"Next boot: {word} under {release}{once} ({known})"
    yield from style.wrapped_verdict(text, word, coming.state)
    yield from style.wrapped(coming.why, "  ")
    new = new_remedies(assessment, told)
    if not new and new_remedies(assessment, ()):
        yield "  What to do: as above."
    if new:
        yield "  What to do"
    for remedy in new:
        yield from style.wrapped(remedy, "  - ")


def new_remedies(assessment: Assessment, told: Sequence[str]) -> list[str]:
    """What to do about the boot that comes next.

    Args:
        assessment: of any host.
        told: remedies that need not be told again.
    """
    coming = assessment.coming
    if coming is None or coming.verdict is None or coming.state is State.NOT_TDX:
        return []
    return [*way_out.told(assessment), *(remedy for remedy in coming.verdict.remedies if remedy not in told)]


def is_taken(entry: BootEntry) -> bool:
    """Whether the next boot is only taken to be the running one again, since nothing tells what it is."""
    return entry.known_from == RUNNING_KERNEL


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


def _entries(boots: Sequence[Boot], style: Style) -> Iterator[str]:
    yield from table(style, _COLUMNS, [_row(boot) for boot in boots[:MAX_ROWS]])
    if len(boots) > MAX_ROWS:
        yield f"... and {len(boots) - MAX_ROWS} more; --format json has them all"


def _row(boot: Boot) -> Row:
    entry = boot.entry
    left = None if boot.plan is None else boot.plan.headroom
    known = boot.start.known_from
    cells = (
        _mark(entry.roles),
        one_line(entry.release or "unknown", 48),
        WORDS.get(boot.state, str(boot.state)),
        "" if left is None else str(left),
        STARTS[boot.start.starts],
        "" if known is None else str(known),
        one_line(entry.title or entry.entry or entry.known_from, 64),
    )
    return Row(cells, boot.state)


def _mark(roles: Sequence[Role]) -> str:
    return ("> " if Role.NEXT in roles else "  ") + told_roles(roles)


def _notes(assessment: Assessment, style: Style) -> Iterator[str]:
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
            yield from style.wrapped(note, "  - ")
