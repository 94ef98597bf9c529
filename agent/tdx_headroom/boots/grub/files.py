# SPDX-License-Identifier: Apache-2.0
"""GRUB's commands that look at files: tests, environment blocks, other configuration files, searches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.paths import split_path
from tdx_headroom.boots.grub.signals import Shown
from tdx_headroom.boots.grub.test import holds
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.grub.run import Builtin, Machine
    from tdx_headroom.boots.grub.script import Block


def _test(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    return 0 if holds(arguments, _Looks(machine)) else 1


class _Looks:
    """Looks at files for a test."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def test_file(self, path: str, letter: str) -> bool:
        """Whether a path is there and of the kind."""
        disk = self._machine.disk
        try:
            found = disk.find(path)
            status = None if found is None else disk.status(found)
        except SourceError as error:
            return self._machine.unanswered(error.reason)
        if status is None:
            return False
        if letter == "s":
            return not status.directory and status.size > 0
        return letter == "e" or status.directory is (letter == "d")

    def unsure(self, what: str) -> bool:
        """The answer to what cannot be answered."""
        return self._machine.unsure(what)


def _block_and_names(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The file of ``-f FILE``, empty without one, and what else the commands for blocks are given."""
    file = ""
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)
        if option == "--":
            break
        name, equals, value = option.partition("=")
        if name in ("-f", "--file"):
            file = value if equals else rest.pop(0) if rest else ""
        elif option.startswith("-f"):
            file = option[2:]
    return file, rest


def _block_path(machine: Machine, file: str) -> str | None:
    """Where an environment block is on the host, the usual one without a name; None: nowhere.

    Raises:
        SourceError: that cannot be told.
    """
    path = file or f"{machine.value('prefix') or ''}/grubenv"
    if not split_path(path).path.startswith("/"):
        # Blocks of the disk, as where the file system is btrfs.
        machine.doubt(f"{machine.place}: the environment block {path} is in no file")
        return None
    return machine.disk.find(path)


def _load_env(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    file, names = _block_and_names(arguments)
    try:
        relative = _block_path(machine, file)
        found = None if relative is None else machine.blocks.load(relative)
    except SourceError as error:
        machine.doubt(error.reason)
        return 1
    for name, value in (found or {}).items():
        if not names or name in names:
            machine.set(name, value)
    return 1 if found is None else 0


def _save_env(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    file, names = _block_and_names(arguments)
    if machine.in_entry:
        return 0
    try:
        relative = _block_path(machine, file)
        for name in names if relative is not None else ():
            machine.blocks.save(relative or "", name, machine.context.variables.get(name))
    except SourceError as error:
        machine.doubt(error.reason)
        return 1
    return 0


def _source(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    if len(arguments) != 1:
        return 1
    try:
        relative = machine.disk.find(arguments[0])
        if relative is not None:
            machine.run_file(relative)
    except SourceError as error:
        machine.doubt(error.reason)
    return 0


def _configfile(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    """Another file's menu is shown instead, if it has any entry."""
    path = arguments[0] if arguments else f"{machine.value('prefix') or ''}/grub.cfg"
    if machine.in_entry:
        machine.load(other=f"shows the menu of {path}")
        raise Shown
    outer = machine.context
    machine.context = outer.inner()
    try:
        relative = machine.disk.find(path)
        if relative is None:
            machine.doubt(f"{machine.place}: {path} is not found")
        else:
            machine.run_file(relative)
    except SourceError as error:
        machine.doubt(error.reason)
    if machine.context.menu:
        raise Shown
    machine.context = outer
    return 0


def _search(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    """Find a file system: which one it is cannot be told here, and that it is there is taken for granted."""
    variable, wanted, by_file = "root", "", False
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--set" and len(rest) > 1 and not rest[0].startswith("-"):
            variable = rest.pop(0)
        elif argument.startswith("--set="):
            variable = argument.removeprefix("--set=")
        elif argument in ("-s", "--hint") and rest:
            variable = rest.pop(0) if argument == "-s" else variable
        elif argument in ("-f", "--file"):
            by_file = True
        elif not argument.startswith("-"):
            wanted = wanted or argument
    return _found(machine, variable, wanted, by_file=by_file)


def _search_for(*, by_file: bool) -> Builtin:
    def search(machine: Machine, arguments: list[str], _block: Block | None) -> int:
        wanted = arguments[0] if arguments else ""
        variable = arguments[1] if len(arguments) > 1 else "root"
        return _found(machine, variable, wanted, by_file=by_file)

    return search


def _found(machine: Machine, variable: str, wanted: str, *, by_file: bool) -> int:
    if by_file:
        try:
            if machine.disk.find(wanted) is None:
                return 1
        except SourceError as error:
            if not machine.unanswered(error.reason):
                return 1
    machine.set(variable, re.sub(r"[()]", "", wanted) or "disk")
    return 0


def _loopback(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    machine.loopbacks.update(a for a in arguments[:1] if not a.startswith("-"))
    return 0


FILES: dict[str, Builtin] = {
    "test": _test,
    "[": _test,
    "load_env": _load_env,
    "save_env": _save_env,
    "source": _source,
    ".": _source,
    "configfile": _configfile,
    "normal": _configfile,
    "search": _search,
    "search.file": _search_for(by_file=True),
    "search.fs_uuid": _search_for(by_file=False),
    "search.fs_label": _search_for(by_file=False),
    "loopback": _loopback,
}
