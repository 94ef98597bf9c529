# SPDX-License-Identifier: Apache-2.0
"""Whether GRUB's configuration follows ``grub-reboot`` and ``grub-set-default``: it is run with them.

``grub-mkconfig`` writes a script that always reads ``next_entry``, and reads ``saved_entry`` only with
``GRUB_DEFAULT=saved``; other scripts read neither.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.grub.blocks import NEXT, SAVED, Blocks
from tdx_headroom.boots.grub.menu import outcome
from tdx_headroom.boots.grub.run import Machine
from tdx_headroom.boots.grub.state import Settings
from tdx_headroom.boots.grub.words import GrubError
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tdx_headroom.boots.grub.blocks import Variables
    from tdx_headroom.boots.grub.config import Config
    from tdx_headroom.boots.grub.paths import Disk
    from tdx_headroom.boots.menu import MenuEntry


MAX_NUMBERS = 6
"""Ids that are tried each; with more of them nothing is claimed."""


class Taken(NamedTuple):
    """Which commands are known to count.

    Args:
        once: ``grub-reboot``.
        default: ``grub-set-default``.
    """

    once: bool = False
    default: bool = False


def taken(disk: Disk, config: Config, blocks: Blocks, entries: Sequence[MenuEntry], boots: int) -> Taken:
    """Try both with an entry that does not come next anyway.

    What begins like a number may be taken for one, so that ids that do are tried each. What two entries are
    called names one of them only, and says nothing.

    Args:
        disk: the host's files.
        config: the configuration.
        blocks: that have run with it.
        entries: of its menu.
        boots: index of the one that comes next.
    """
    often = Counter(entry.id for entry in entries)
    ids = [e.id for i, e in enumerate(entries) if i != boots and e.line is not None and often[e.id] == 1]
    numbers = [name for name in ids if any(step[:1].isdigit() for step in name.split(">"))]
    if not ids or len(numbers) > MAX_NUMBERS:
        return Taken()
    # One of a submenu, where there is one: its path has to be followed through.
    sample = next((name for name in ids if ">" in name), ids[0])

    def follows(variable: str, *names: str) -> bool:
        return all(_follows(disk, config, blocks.naming(variable, name), name) for name in names)

    once = follows(NEXT, sample, *numbers)
    return Taken(once, follows(SAVED, sample, *(() if once else numbers)))


def _follows(disk: Disk, config: Config, changed: Mapping[str, Variables] | None, wanted: str) -> bool:
    if changed is None:
        return False
    for guess in (False, True):
        settings = Settings(config.dialect, config.platform, guess)
        machine = Machine(disk, Blocks(disk, changed), settings)
        try:
            found = outcome(machine, config.path)
        except (GrubError, SourceError):
            return False
        if found.doubts or found.chosen is None or found.entries[found.chosen].id != wanted:
            return False
        if machine.asked is None:
            break
    return True
