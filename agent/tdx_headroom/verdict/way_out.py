# SPDX-License-Identifier: Apache-2.0
"""The entry to boot instead of one with which TDX does not come up, and the commands that choose it."""

from __future__ import annotations

import re
from collections import Counter
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boots import Loader, Role
from tdx_headroom.verdict import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot

_PATTERN = re.compile(r"[*?\[\\]")
"""In an id of systemd-boot's, which takes what its variables hold for a pattern of the shell's."""
_COUNTED = re.compile(r"\+[0-9]+(?:-[0-9]+)?\.(?:conf|efi)\Z", re.ASCII | re.IGNORECASE)
"""The end of an id with a boot counter, which is another one after each boot: that names nothing for good."""
_MASKED = "…"
"""In an id, where a capture has left out what names a machine."""


class WayOut(NamedTuple):
    """A boot that is better than the next one.

    Args:
        boot: that one.
        once: the command that chooses it for one boot; None where none is known to count.
        for_good: the command that makes it the default; None where none is known to count, or where the next
            boot is one for once.
    """

    boot: Boot
    once: str | None
    for_good: str | None

    @property
    def commands(self) -> tuple[tuple[str, str], ...]:
        """Those that there are, with what each is for."""
        both = ((self.once, "for one boot"), (self.for_good, "for good"))
        return tuple((command, what) for command, what in both if command is not None)


def way_out(assessment: Assessment) -> WayOut | None:
    """The entry to boot instead: the running one first, then its kernel's others, and a risk at last.

    None where the next boot is fine or cannot be told, or where no entry is known to be better.

    Args:
        assessment: of any host.
    """
    coming = assessment.coming
    if coming is None or coming.state not in (State.WILL_FAIL, State.AT_RISK):
        return None
    boots = assessment.boots or ()
    running = running_release(boots)
    ids = Counter(boot.entry.entry for boot in boots)
    found: list[tuple[int, Boot]] = []
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
        found.append((rank + (Role.RUNNING not in entry.roles), boot))
    if not found:
        return None
    best = min(found, key=lambda one: one[0])[1]
    # What is for one boot comes before the default.
    return _chosen(assessment.facts.boots, best, good=Role.ONE_SHOT not in coming.entry.roles)


def in_words(way: WayOut, coming: Boot) -> str:
    """What to boot instead, and what TDX does then, in a sentence without commands.

    Args:
        way: out.
        coming: the next boot.
    """
    entry = way.boot.entry
    what = f"kernel {one_line(entry.release or '', 60)}"
    if entry.release == coming.entry.release:
        what = f"the entry {one_line(entry.entry or '', 100)}"
    does = "is at risk" if way.boot.state is State.AT_RISK else "comes up"
    left = None if way.boot.plan is None else way.boot.plan.headroom
    areas = "" if left is None else f" ({left} reserved area{'' if left == 1 else 's'} left)"
    return f"Boot {what} instead, with which TDX {does}{areas}"


def running_release(boots: Sequence[Boot]) -> str | None:
    """The release of the running kernel."""
    return next((boot.entry.release for boot in boots if Role.RUNNING in boot.entry.roles), None)


def _chosen(inventory: BootInventory | None, boot: Boot, *, good: bool) -> WayOut:
    """An entry with the commands that choose it, as far as they are known to count."""
    entry = boot.entry
    if inventory is None or not _is_argument(entry.entry):
        return WayOut(boot, None, None)
    if entry.loader is Loader.SYSTEMD_BOOT:
        if _PATTERN.search(entry.entry):
            return WayOut(boot, None, None)
        good = good and not _COUNTED.search(entry.entry)
        once, default = "bootctl set-oneshot", "bootctl set-default"
    elif entry.loader is Loader.GRUB:
        # Where boot/grub2 is, or a configuration on the ESP alone, the commands are grub2-.
        grub = "grub" if "boot/grub/" in entry.known_from else "grub2"
        once, default = f"{grub}-reboot", f"{grub}-set-default"
    else:
        return WayOut(boot, None, None)
    name = quote(entry.entry)
    return WayOut(
        boot,
        f"{once} {name}" if inventory.takes_once else None,
        f"{default} {name}" if good and inventory.takes_default else None,
    )


def _is_argument(name: str | None) -> TypeGuard[str]:
    """Whether an id can be given to a command as it is: an empty one would take back what is chosen."""
    if not name or name.startswith("-"):
        return False
    return name.isprintable() and _MASKED not in name
