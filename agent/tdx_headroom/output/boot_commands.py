# SPDX-License-Identifier: Apache-2.0
"""The boot loader's commands that choose an entry."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from tdx_headroom.facts.boots import Loader

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.verdict.way_out import WayOut

_PATTERN = re.compile(r"[*?\[\\]")
"""In an id of systemd-boot's, which takes what its variables hold for a pattern of the shell's."""
_COUNTED = re.compile(r"\+[0-9]+(?:-[0-9]+)?\.(?:conf|efi)\Z", re.ASCII | re.IGNORECASE)
"""The end of an id with a boot counter, which is another one after each boot: that names nothing for good."""
_MASKED = "…"
"""In an id, where a capture has left out what names a machine."""


class Commands(NamedTuple):
    """Lines for root's shell.

    Args:
        once: chooses the entry for one boot; None where nothing is known to.
        for_good: makes it the default; None where nothing is known to, or it is not to be.
    """

    once: str | None = None
    for_good: str | None = None

    def listed(self) -> list[tuple[str, str]]:
        """Those that there are, with what each is for."""
        both = ((self.once, "for one boot"), (self.for_good, "for good"))
        return [(command, what) for command, what in both if command is not None]


_NONE = Commands()


def commands_for(way: WayOut, inventory: BootInventory | None) -> Commands:
    """The commands that choose a boot entry, as far as they are known to count.

    Args:
        way: out, with that entry.
        inventory: of the host's boot entries.
    """
    entry, good = way.boot.entry, way.for_good
    if inventory is None or not _is_argument(entry.entry):
        return _NONE
    if entry.loader is Loader.SYSTEMD_BOOT:
        if _PATTERN.search(entry.entry):
            return _NONE
        good = good and not _COUNTED.search(entry.entry)
        once, default = "bootctl set-oneshot", "bootctl set-default"
    elif entry.loader is Loader.GRUB:
        # Where boot/grub2 is, or a configuration on the ESP alone, the commands are grub2-.
        grub = "grub" if "boot/grub/" in entry.known_from else "grub2"
        once, default = f"{grub}-reboot", f"{grub}-set-default"
    else:
        return _NONE
    name = quote(entry.entry)
    return Commands(
        f"{once} {name}" if inventory.takes_once else None,
        f"{default} {name}" if good and inventory.takes_default else None,
    )


def _is_argument(name: str | None) -> TypeGuard[str]:
    """Whether an id can be given to a command as it is: an empty one would take back what is chosen."""
    if not name or name.startswith("-"):
        return False
    return name.isprintable() and _MASKED not in name
