# SPDX-License-Identifier: Apache-2.0
"""What a running GRUB holds: variables, the menu so far, and what is loaded; values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tdx_headroom.boots.grub.default import Dialect
    from tdx_headroom.boots.grub.script import Script


class Settings(NamedTuple):
    """What is known of the GRUB that reads the script.

    Args:
        dialect: whose it is.
        platform: ``efi`` or ``pc``; None: not known.
        guess: the answer to what cannot be known here.
    """

    dialect: Dialect
    platform: str | None
    guess: bool


class Item(NamedTuple):
    """One line of a menu.

    Args:
        id: its own, without those of the submenus that it is in.
        title: that is shown.
        parameters: of its commands, ``$1`` being the title.
        commands: that it runs.
        submenu: whether they make a menu.
        source: commands as text, read only when it runs; an entry of the boot loader specification's.
        version: as such an entry tells it.
        trouble: why that entry could not be read, a clause.
        origin: its file, relative to the host's root.
    """

    id: str
    title: str
    parameters: tuple[str, ...] = ()
    commands: Script = ()
    submenu: bool = False
    source: str | None = None
    version: str | None = None
    trouble: str | None = None
    origin: str | None = None


class Module(NamedTuple):
    """A file that a multiboot kernel is given, and its arguments."""

    path: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is loaded and would be started.

    Args:
        kernel: the path of a Linux kernel.
        arguments: of that kernel.
        initrds: paths of its initial RAM disks.
        multiboot: the path of a multiboot kernel, such as Xen.
        modules: what that is given.
        other: what else is started, a clause.
        hypervisor: the path of what runs below a Linux kernel for good.
    """

    kernel: str | None = None
    arguments: tuple[str, ...] = ()
    initrds: tuple[str, ...] = ()
    multiboot: str | None = None
    modules: tuple[Module, ...] = ()
    other: str | None = None
    hypervisor: str | None = None


@dataclass(slots=True)
class Context:
    """Variables, and the menu that is being made; a submenu begins with the exported variables only."""

    variables: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    menu: list[Item] = field(default_factory=list)

    def inner(self) -> Context:
        """The context of a submenu or of another configuration file."""
        kept = {name: value for name, value in self.variables.items() if name in self.exported}
        return Context(kept, set(self.exported))

    def copy(self) -> Context:
        """The same, to be changed on its own."""
        return Context(dict(self.variables), set(self.exported), list(self.menu))
