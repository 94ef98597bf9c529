# SPDX-License-Identifier: Apache-2.0
"""The menu that GRUB shows after it has run its configuration, and what it boots when nobody chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.grub.default import Named, entry_number, path_step, rest_of_path
from tdx_headroom.boots.grub.entry import menu_entry, run_item
from tdx_headroom.boots.grub.run import MAX_ITEMS
from tdx_headroom.boots.grub.signals import Left, Return, Shown, Started
from tdx_headroom.boots.grub.words import GrubError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.grub.run import Machine
    from tdx_headroom.boots.grub.state import Item
    from tdx_headroom.boots.menu import MenuEntry


class Outcome(NamedTuple):
    """What one run gives.

    Args:
        entries: of the menu, those of submenus in their place.
        chosen: index of the entry that boots; None: none can.
        value: of ``default``; None: it is not set.
        doubts: why that is not known, a clause each.
        notes: what else is to be told.
    """

    entries: tuple[MenuEntry, ...]
    chosen: int | None
    value: str | None
    doubts: tuple[str, ...]
    notes: tuple[str, ...]


def outcome(machine: Machine, relative: str) -> Outcome:
    """Run a configuration file, and look at what it offers.

    Raises:
        GrubError: it cannot be followed.
        SourceError: it cannot be read.
    """
    machine.set("prefix", f"(host)/{relative.rpartition('/')[0]}")
    try:
        machine.run_file(relative)
    except Shown:
        pass
    except Started:
        machine.doubt(f"{relative} boots without a menu")
        return Outcome((), None, None, tuple(machine.doubts), tuple(machine.notes))
    except (Return, Left) as left:
        command = left.command if isinstance(left, Left) else "return"
        machine.doubt(f"{relative} ends with {command}")
    walk = _Walk(machine)
    items = machine.context.menu
    chosen = walk.level(items, "")
    if not items:
        machine.doubt(f"{relative} makes no menu entries")
    elif chosen is None:
        machine.doubt(f"{relative}: the submenu that boots is empty")
    return Outcome(
        tuple(walk.entries),
        chosen,
        machine.context.variables.get("default"),
        tuple(machine.doubts),
        tuple(machine.notes),
    )


class _Walk:
    """Goes through the menu and its submenus, and runs every entry."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.entries: list[MenuEntry] = []

    def level(self, items: Sequence[Item], path: str) -> int | None:
        """Add the entries of one level; the index of the one that boots there."""
        machine = self._machine
        value = machine.context.variables.get("default")
        names = [Named(item.id, item.title) for item in items]
        number = entry_number(names, value, machine.settings.dialect)
        chosen = None
        for index, item in enumerate(items):
            own = path + path_step(item.id)
            if len(self.entries) >= MAX_ITEMS:
                raise GrubError(f"it has more than {MAX_ITEMS} menu entries")
            if item.submenu:
                found = self._submenu(item, own, value)
            else:
                found = len(self.entries)
                self.entries.append(self._entry(item, own))
            if index == number:
                chosen = found
        return chosen

    def _entry(self, item: Item, path: str) -> MenuEntry:
        with self._machine.aside():
            self._machine.set("chosen", path)
            return menu_entry(self._machine, item, path)

    def _submenu(self, item: Item, path: str, value: str | None) -> int | None:
        machine = self._machine
        with machine.aside():
            machine.context = machine.context.inner()
            machine.set("chosen", path)
            rest = rest_of_path(value) if value is not None else None
            if rest is not None:
                machine.set("default", rest)
            try:
                run_item(machine, item)
            except GrubError as error:
                machine.doubt(f"the submenu {item.title}: {error.reason}")
            found = self.level(machine.context.menu, f"{path}>")
            # Those of the submenus in it are among them.
            doubts = tuple(machine.doubts)
        for doubt in doubts:
            machine.doubt(doubt)
        return found
