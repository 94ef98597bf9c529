# SPDX-License-Identifier: Apache-2.0
"""The next boot in a paragraph at most: what hooks print at the end of an upgrade, and at a login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line, printable
from tdx_headroom.facts.boots import Change, Role
from tdx_headroom.output.boot_commands import commands_for
from tdx_headroom.output.terminal import wrapped
from tdx_headroom.verdict import State
from tdx_headroom.verdict.boots import why_none_comes
from tdx_headroom.verdict.signs import is_meant_for_tdx, shows_no_tdx
from tdx_headroom.verdict.way_out import running_release, way_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot
    from tdx_headroom.verdict.way_out import WayOut

WIDTH = 79
"""What a mail or a console shows."""
_NAME = "tdx-headroom"
_NOTHING_KNOWN = "No boot entry is known to bring TDX up: see `tdx-headroom remedy`."
_BAD = (State.WILL_FAIL, State.AT_RISK)


def brief(
    assessment: Assessment, *, installed: str | None = None, removed: str | None = None, width: int = WIDTH
) -> str:
    """What there is to say about the next boot, in lines; nothing about a host without TDX.

    Args:
        assessment: of the host.
        installed: release of a kernel that was installed just now.
        removed: release of one that was removed just now.
        width: of a line of several, in characters.
    """
    facts = assessment.facts
    if assessment.boots is None or assessment.verdict.state is State.NOT_TDX:
        return ""
    if shows_no_tdx(facts) and not is_meant_for_tdx(facts):
        return ""
    coming = assessment.coming
    paragraphs = [_unknown_next(assessment) if coming is None else _next(assessment, coming, removed, width)]
    if installed is not None and (coming is None or coming.entry.release != installed):
        paragraphs.append([*_installed(assessment.boots, installed, width)])
    return "".join(f"{line}\n" for paragraph in paragraphs for line in paragraph)


def _unknown_next(assessment: Assessment) -> list[str]:
    boots = assessment.facts.boots
    tail = "; `kexec -u` unloads it" if boots is not None and boots.kexec_loaded else ""
    why = one_line(why_none_comes(assessment.facts))
    return [f"{_NAME}: Whether TDX will come up at the next boot cannot be told: {why}{tail}."]


def _next(assessment: Assessment, coming: Boot, removed: str | None, width: int) -> list[str]:
    where = _under(coming, removed)
    if coming.state is State.WILL_INITIALIZE:
        known = printable(coming.entry.known_from)
        return [f"{_NAME}: TDX will come up under {where} ({known}){_left(coming)}."]
    if coming.state not in _BAD:
        place = "at the next boot" if coming.entry.release is None else f"under {where},"
        return [f"{_NAME}: Whether TDX will come up {place} cannot be told: {_why(coming)}"]
    way = way_out(assessment)
    commands = [] if way is None else commands_for(way, assessment.facts.boots).listed()
    word = "will NOT" if coming.state is State.WILL_FAIL else "may not"
    told = _told_way(assessment, coming, way, commands)
    said = f"{_NAME}: TDX {word} come up under {where}: {_why(coming)} {told}"
    return [
        *wrapped(said, width, "", ""),
        *(f"  {command}  # {what}" for command, what in commands),
    ]


def _under(coming: Boot, removed: str | None) -> str:
    """The boot that comes next, and what is special about it."""
    entry = coming.entry
    release = "a kernel that is not known" if entry.release is None else printable(entry.release)
    changes = entry.differs or ()
    was_removed = removed is not None and entry.release == removed
    gone = ", which was removed just now and" if was_removed else ", which"
    once = ", only this once" if Role.ONE_SHOT in entry.roles else ""
    if Change.KERNEL not in changes:
        staged = [
            word
            for change, word in (
                (Change.IMAGE, "as it was built anew"),
                (Change.COMMAND_LINE, "with the command line that is staged"),
                (Change.HYPERVISOR, f"{'without a' if entry.hypervisor is None else 'above a'} hypervisor"),
            )
            if change in changes
        ]
        release = " ".join([release, *staged])
    return f"{release}{gone} boots next{once}"


def _left(coming: Boot) -> str:
    left = None if coming.plan is None else coming.plan.headroom
    if left is None:
        return ""
    return f": {left} reserved area{' is' if left == 1 else 's are'} left"


def _why(boot: Boot) -> str:
    # Without a verdict it is the entry that says why.
    what = "kernel" if boot.entry.release is None else "command line"
    return _sentence(boot.why if boot.verdict else boot.entry.unknown or f"its {what} is not known")


def _sentence(text: str) -> str:
    shown = one_line(text, 600)
    return shown if shown.endswith((".", "…")) else f"{shown}."


def _running_one(boots: Sequence[Boot]) -> str:
    """That what runs now is fine, where no entry boots it again."""
    for boot in boots:
        entry = boot.entry
        if Role.RUNNING in entry.roles and entry.entry is None and boot.state is State.WILL_INITIALIZE:
            return f"It would under {printable(entry.release or '')} as it runs now, which no entry boots. "
    return ""


def _told_way(
    assessment: Assessment, coming: Boot, way: WayOut | None, commands: Sequence[tuple[str, str]]
) -> str:
    if way is None and coming.state is State.AT_RISK:
        return "More: `tdx-headroom boots`."
    if way is None:
        return f"{_running_one(assessment.boots or ())}{_NOTHING_KNOWN}"
    entry = way.boot.entry
    release = printable(entry.release or "")
    if entry.release == coming.entry.release:
        told = f"Boot '{one_line(entry.title or entry.entry or '', 100)}' instead"
    elif entry.release == running_release(assessment.boots or ()):
        told = f"Stay on {release}"
    else:
        told = f"Boot {release} instead"
    if way.boot.state is State.AT_RISK:
        told += f", which is at risk ({_why(way.boot).rstrip('.')})"
    if commands:
        return f"{told}:"
    name = "it" if entry.title is None else f"'{one_line(entry.title, 100)}'"
    return f"{told}: choose {name} in the boot loader's menu, for no command is known to do so."


def _installed(boots: Sequence[Boot], release: str, width: int) -> Iterator[str]:
    """A kernel that was installed and does not come next, where TDX is not fine with it."""
    own = [boot for boot in boots if boot.entry.release == release and not boot.entry.recovery]
    if not own or any(boot.state is State.WILL_INITIALIZE for boot in own):
        return
    boot = next((boot for boot in own if boot.state in _BAD), own[0])
    name = f"{printable(release)}, which was installed and does not boot next"
    if boot.state is State.WILL_FAIL:
        said = f"TDX would not come up under {name}: {_why(boot)}"
    elif boot.state is State.AT_RISK:
        said = f"TDX might not come up under {name}: {_why(boot)}"
    else:
        said = f"Whether TDX would come up under {name} cannot be told: {_why(boot)}"
    yield from wrapped(f"{_NAME}: {said}", width, "", "")
