# SPDX-License-Identifier: Apache-2.0
"""The next boot in a paragraph at most: what hooks print at the end of an upgrade, and at a login."""

from __future__ import annotations

import re
from collections import Counter
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from tdx_headroom.errors import one_line, printable
from tdx_headroom.facts.boots import Change, Loader, Role
from tdx_headroom.output.terminal import wrapped
from tdx_headroom.verdict import State
from tdx_headroom.verdict.boots import why_none_comes
from tdx_headroom.verdict.signs import is_meant_for_tdx, shows_no_tdx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot

WIDTH = 79
"""What a mail or a console shows."""
_NAME = "tdx-headroom"
_NOTHING_KNOWN = "No boot entry is known to bring TDX up: see `tdx-headroom remedy`."
_BAD = (State.WILL_FAIL, State.AT_RISK)
_PATTERN = re.compile(r"[*?\[\\]")
"""In an id of systemd-boot's, which takes what its variables hold for a pattern of the shell's."""
_COUNTED = re.compile(r"\+[0-9]+(?:-[0-9]+)?\.(?:conf|efi)\Z", re.ASCII | re.IGNORECASE)
"""The end of an id with a boot counter, which is another one after each boot: that names nothing for good."""
_MASKED = "…"
"""In an id, where a capture has left out what names a machine."""


class _Way(NamedTuple):
    """A boot that is better than the next one.

    Args:
        boot: that one.
        commands: lines that choose it; none where no command is known to do so.
    """

    boot: Boot
    commands: tuple[str, ...]


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
    way = _way_out(assessment, coming)
    word = "will NOT" if coming.state is State.WILL_FAIL else "may not"
    said = f"{_NAME}: TDX {word} come up under {where}: {_why(coming)} {_told_way(assessment, coming, way)}"
    return [
        *wrapped(said, width, "", ""),
        *(f"  {command}" for command in (() if way is None else way.commands)),
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


def _way_out(assessment: Assessment, coming: Boot) -> _Way | None:
    """The entry to boot instead: the running one first, then its kernel's others, and a risk at last."""
    boots = assessment.boots or ()
    running = _running_release(boots)
    ids = Counter(boot.entry.entry for boot in boots)
    found: list[tuple[int, _Way]] = []
    for boot in boots:
        entry = boot.entry
        better = boot.state is State.WILL_INITIALIZE or (
            boot.state is State.AT_RISK and coming.state is State.WILL_FAIL
        )
        # An id that two have names only one of them.
        named = entry.entry is not None and ids[entry.entry] == 1
        if not named or not better or boot.is_next or entry.recovery or entry.unknown is not None:
            continue
        rank = 4 * (boot.state is State.AT_RISK) + 2 * (entry.release != running)
        rank += Role.RUNNING not in entry.roles
        # What is for one boot comes before the default.
        commands = _commands(assessment.facts.boots, boot, good=Role.ONE_SHOT not in coming.entry.roles)
        found.append((rank, _Way(boot, commands)))
    return min(found, key=lambda one: one[0])[1] if found else None


def _running_one(boots: Sequence[Boot]) -> str:
    """That what runs now is fine, where no entry boots it again."""
    for boot in boots:
        entry = boot.entry
        if Role.RUNNING in entry.roles and entry.entry is None and boot.state is State.WILL_INITIALIZE:
            return f"It would under {printable(entry.release or '')} as it runs now, which no entry boots. "
    return ""


def _running_release(boots: Sequence[Boot]) -> str | None:
    return next((boot.entry.release for boot in boots if Role.RUNNING in boot.entry.roles), None)


def _commands(inventory: BootInventory | None, boot: Boot, *, good: bool) -> tuple[str, ...]:
    """What chooses an entry, as far as it is known to count: for one boot, and for good."""
    entry = boot.entry
    if inventory is None or not _is_argument(entry.entry):
        return ()
    if entry.loader is Loader.SYSTEMD_BOOT:
        if _PATTERN.search(entry.entry):
            return ()
        good = good and not _COUNTED.search(entry.entry)
        once, default = "bootctl set-oneshot", "bootctl set-default"
    elif entry.loader is Loader.GRUB:
        # Where boot/grub2 is, or a configuration on the ESP alone, the commands are grub2-.
        grub = "grub" if "boot/grub/" in entry.known_from else "grub2"
        once, default = f"{grub}-reboot", f"{grub}-set-default"
    else:
        return ()
    name = quote(entry.entry)
    lines = [f"{once} {name}  # for one boot"] if inventory.takes_once else []
    return (*lines, *([f"{default} {name}  # for good"] if good and inventory.takes_default else ()))


def _is_argument(name: str | None) -> TypeGuard[str]:
    """Whether an id can be given to a command as it is: an empty one would take back what is chosen."""
    if not name or name.startswith("-"):
        return False
    return name.isprintable() and _MASKED not in name


def _told_way(assessment: Assessment, coming: Boot, way: _Way | None) -> str:
    if way is None and coming.state is State.AT_RISK:
        return "More: `tdx-headroom boots`."
    if way is None:
        return f"{_running_one(assessment.boots or ())}{_NOTHING_KNOWN}"
    entry = way.boot.entry
    release = printable(entry.release or "")
    if entry.release == coming.entry.release:
        told = f"Boot '{one_line(entry.title or entry.entry or '', 100)}' instead"
    elif entry.release == _running_release(assessment.boots or ()):
        told = f"Stay on {release}"
    else:
        told = f"Boot {release} instead"
    if way.boot.state is State.AT_RISK:
        told += f", which is at risk ({_why(way.boot).rstrip('.')})"
    if way.commands:
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
