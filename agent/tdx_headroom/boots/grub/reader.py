# SPDX-License-Identifier: Apache-2.0
"""Reads GRUB's configuration as GRUB does, and tells which entry boots next.

A run of the script with what the environment block says gives the next boot; where that has used up a
``next_entry`` or the like, a run with the block as it is then gives the standing default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.grub.blocks import Blocks
from tdx_headroom.boots.grub.config import Config, find_config
from tdx_headroom.boots.grub.menu import Outcome, outcome
from tdx_headroom.boots.grub.paths import Disk, shown_line
from tdx_headroom.boots.grub.run import Machine
from tdx_headroom.boots.grub.state import Settings
from tdx_headroom.boots.grub.taken import taken
from tdx_headroom.boots.grub.words import GrubError
from tdx_headroom.boots.menu import Menu, MenuEntry
from tdx_headroom.boots.reasons import bounded
from tdx_headroom.boots.running import words_of
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import Loader

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles


class _Next(NamedTuple):
    """What the next boot is, and how to tell two guesses apart."""

    menu: Menu
    asked: str | None
    blocks: Blocks

    @property
    def boots(self) -> tuple[MenuEntry | None, MenuEntry | None, str | None]:
        """What matters of it."""
        once, default = self.menu.once, self.menu.default
        return (self._at(once), self._at(default), self.menu.unknown)

    def _at(self, index: int | None) -> MenuEntry | None:
        """An entry without what GRUB adds to its line by itself, such as Ubuntu's ``vt.handoff=7``."""
        if index is None:
            return None
        entry = self.menu.entries[index]
        return entry._replace(line=None if entry.line is None else " ".join(words_of(entry.line)))


def read_grub(files: HostFiles, *, vendor: str | None = None) -> Menu | None:
    """GRUB's menu; None: there is no GRUB configuration here.

    Args:
        files: the host's.
        vendor: the directory in ``EFI`` of the boot loader that the firmware starts, where that is known; it
            tells which of several configurations counts.
    """
    disk = Disk(files)
    try:
        config = find_config(disk, vendor)
    except SourceError as error:
        return Menu(Loader.GRUB, unknown=shown_line(error.reason))
    if config is None:
        return None
    try:
        found = _guessed(disk, config, guess=False)
        if found.asked is not None:
            other = _guessed(disk, config, guess=True)
            if other.boots != found.boots:
                unknown = shown_line(found.menu.unknown or found.asked)
                found = found._replace(menu=found.menu._replace(unknown=unknown))
    except GrubError as error:
        reason = shown_line(f"{error.where or config.path}: {error.reason}")
        return Menu(Loader.GRUB, known_from=disk.known_from, unknown=reason)
    except SourceError as error:
        return Menu(Loader.GRUB, known_from=disk.known_from, unknown=error.reason)
    menu = found.menu
    if config.doubt is not None:
        menu = menu._replace(unknown=menu.unknown or shown_line(config.doubt))
    if menu.next is not None:
        counts = taken(disk, config, found.blocks, menu.entries, menu.next)
        menu = menu._replace(takes_once=counts.once, takes_default=counts.default)
    entries = tuple(e if e.file else e._replace(file=config.path) for e in menu.entries)
    return menu._replace(entries=entries, known_from=disk.known_from)


def _guessed(disk: Disk, config: Config, *, guess: bool) -> _Next:
    """The menu, with one answer to all that cannot be known."""
    settings = Settings(config.dialect, config.platform, guess)
    blocks = Blocks(disk)
    machine = Machine(disk, blocks, settings)
    first = outcome(machine, config.path)
    asked = machine.asked
    once, default, doubts = None, first.chosen, list(first.doubts)
    if (used_up := blocks.used_up) or blocks.saved_entry_changed:
        later = Machine(disk, Blocks(disk, blocks.afterwards()), settings)
        second = outcome(later, config.path)
        asked = asked or later.asked
        default = _same(first, second)
        doubts += second.doubts
        if first.value in used_up.values() or default != first.chosen:
            once = first.chosen
    return _Next(
        Menu(
            Loader.GRUB,
            first.entries,
            default,
            once,
            unknown=shown_line(doubts[0]) if doubts else None,
            notes=bounded([shown_line(note) for note in (*doubts[1:], *first.notes)]),
        ),
        asked,
        blocks,
    )


def _same(first: Outcome, second: Outcome) -> int | None:
    """The index in the first menu of what boots in the second."""
    if second.chosen is None:
        return None
    wanted = second.entries[second.chosen].id
    if second.chosen < len(first.entries) and first.entries[second.chosen].id == wanted:
        return second.chosen
    return next((i for i, entry in enumerate(first.entries) if entry.id == wanted), None)
