# SPDX-License-Identifier: Apache-2.0
"""What a menu entry of GRUB's boots: it is run up to the point where GRUB would start what it has loaded."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.default import Dialect
from tdx_headroom.boots.grub.paths import shown, shown_line, split_path
from tdx_headroom.boots.grub.script import parse
from tdx_headroom.boots.grub.signals import Left, Return, Shown, Started
from tdx_headroom.boots.grub.state import Loaded
from tdx_headroom.boots.grub.words import GrubError
from tdx_headroom.boots.image_names import release_in_name
from tdx_headroom.boots.menu import MenuEntry
from tdx_headroom.boots.recovery import is_recovery
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.grub.run import Machine
    from tdx_headroom.boots.grub.state import Item

_OTHER_SYSTEM = "osprober-"
"""How os-prober's entries begin their ids; their files are on another system's disk."""

_RELEASE = re.compile(r"[0-9]+\.[0-9]+\S*")
_RESCUE = re.compile(r"0-rescue\b")
_HEX_ESCAPE = re.compile(r"(\\x[0-9a-fA-F]{2})|([\\'\"])")


def run_item(machine: Machine, item: Item) -> None:
    """Run the commands of a menu entry or a submenu, and stop where GRUB would leave it.

    Raises:
        GrubError: they cannot be followed.
    """
    machine.parameters = item.parameters
    try:
        commands = parse(item.source) if item.source is not None else item.commands
        machine.run(commands)
    except (Return, Started, Shown):
        pass
    except Left as left:
        machine.load(kernel=None, multiboot=None, other=f"ends with {left.command}")


def menu_entry(machine: Machine, item: Item, path: str) -> MenuEntry:
    """A menu entry as it would boot now.

    Args:
        machine: that has made the menu; it is left as it was.
        item: the entry.
        path: its id, with those of its submenus.
    """
    trouble = item.trouble
    with machine.aside():
        try:
            run_item(machine, item)
        except GrubError as error:
            where = item.origin or machine.place
            trouble = trouble or f"{where}: {error.reason}"
        trouble = trouble or next(iter(machine.doubts), None)
        entry = _described(machine, item, MenuEntry(shown(path), shown(item.title), file=item.origin))
    if trouble is not None:
        return entry._replace(line=None, unknown=shown_line(trouble))
    return entry


def _described(machine: Machine, item: Item, entry: MenuEntry) -> MenuEntry:
    """An entry with what is loaded."""
    loaded = _linux(machine.loaded)
    if loaded.kernel is None:
        what = loaded.other or ("starts no Linux kernel" if loaded.multiboot else None)
        return entry._replace(unknown=shown_line(f"it {what}") if what else None)
    line = command_line(loaded.arguments, machine.settings.dialect)
    image, missing = _on_host(machine, item, loaded.kernel)
    initrds = {path: _on_host(machine, item, path)[0] for path in loaded.initrds}
    lost = next((path for path in loaded.initrds if _is_missing(machine, path)), None)
    return entry._replace(
        image=None if image is None else shown(image),
        initrds=tuple(shown(initrd) for initrd in initrds.values() if initrd is not None),
        line=shown(line),
        release=_release(posixpath.basename(loaded.kernel), item.version),
        recovery=is_recovery(item.title, line) or bool(_RESCUE.search(item.version or "")),
        unknown=missing,
        hypervisor=None if loaded.hypervisor is None else shown_line(posixpath.basename(loaded.hypervisor)),
        lost_initrd=None if lost is None or image is None else shown_line(split_path(lost).path),
    )


def _linux(loaded: Loaded) -> Loaded:
    """The Linux kernel that is started; below Xen or tboot it is the first module that is no hypervisor."""
    if loaded.multiboot is None or posixpath.basename(loaded.multiboot).startswith("gnumach"):
        return loaded
    own = [loaded.multiboot, *(m.path for m in loaded.modules if _is_xen(m.path))]
    modules = [m for m in loaded.modules if not _is_xen(m.path)]
    if not modules:
        return loaded
    return Loaded(
        kernel=modules[0].path,
        arguments=modules[0].arguments,
        initrds=tuple(module.path for module in modules[1:]),
        # tboot measures what it starts, and then is gone.
        hypervisor=next((path for path in own if not posixpath.basename(path).startswith("tboot")), None),
    )


def _is_xen(path: str) -> bool:
    return posixpath.basename(path).startswith("xen")


def _on_host(machine: Machine, item: Item, path: str) -> tuple[str | None, str | None]:
    """Where an image is on the host, and why that is not known."""
    device, plain = split_path(path)
    if item.id.startswith(_OTHER_SYSTEM):
        return None, f"{shown_line(plain)} is another system's"
    if device in machine.loopbacks:
        return None, f"{shown_line(plain)} is inside of another file"
    try:
        found = machine.disk.find(path)
    except SourceError as error:
        return None, error.reason
    if found is None and not machine.disk.without_images:
        return None, f"{shown_line(plain)} is missing"
    return found, None


def _is_missing(machine: Machine, path: str) -> bool:
    """Whether a file is not there for sure."""
    if split_path(path).device in machine.loopbacks or machine.disk.without_images:
        return False
    try:
        return machine.disk.find(path) is None
    except SourceError:
        return False


def _release(name: str, version: str | None) -> str | None:
    """The release that an image's name tells, else a ``version``; None: only the image knows it."""
    if (release := release_in_name(name)) is not None:
        return release
    # SUSE puts the number of a snapshot in front.
    kernel = (version or "").rpartition("@")[2]
    return shown(kernel) if _RELEASE.fullmatch(kernel) else None


def command_line(arguments: Sequence[str], dialect: Dialect) -> str:
    r"""The line that Linux gets (``grub_create_loader_cmdline()``), without the ``BOOT_IMAGE=`` in front.

    An argument with a blank is put in quotes; quotes and backslashes get a backslash, which Red Hat's GRUB
    does not put in front of ``\xNN``.
    """

    def escaped(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1] if dialect is Dialect.RED_HAT else f"\\{match[1]}"
        return f"\\{match[2]}"

    words = (_HEX_ESCAPE.sub(escaped, argument) for argument in arguments)
    return " ".join(f'"{word}"' if " " in word else word for word in words)
