# SPDX-License-Identifier: Apache-2.0
"""GRUB's commands for variables, loops and menus, and what becomes of all that is no known command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.blscfg import blscfg
from tdx_headroom.boots.grub.files import FILES
from tdx_headroom.boots.grub.load import LOADERS
from tdx_headroom.boots.grub.number import leading_number, signed_number
from tdx_headroom.boots.grub.regexp import regexp
from tdx_headroom.boots.grub.script import parse
from tdx_headroom.boots.grub.signals import Break, Left, Return
from tdx_headroom.boots.grub.state import Item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.grub.run import Builtin, Machine
    from tdx_headroom.boots.grub.script import Block

_HARMLESS = frozenset(
    """acpi appleldr at_keyboard authenticate background_color background_image backtrace badram cat clear
    cmosclean cmosset connectefi cryptomount cutmem devicetree distrust drivemap dump echo efitextmode
    fakebios gettext gptsync hdparm help hexdump insmod keymap legacy_password list_env list_trusted
    loadbios loadfont ls lsacpi lsapm lscoreboot lsefi lsefimmap lsefisystab lsfonts lsmmap lsmod lspci
    mactelbless macppcbless nativedisk normal_exit outb outl outw parttool password password_pbkdf2 play
    pxe_unload rmmod search_hint sendkey serial setpci sleep suspend terminal terminal_input terminal_output
    terminfo tpm trust tr unset_theme usb videoinfo vbeinfo videotest write_byte write_dword write_word wrmsr
    zfsinfo zfskey""".split()  # noqa: SIM905
)
_MEMORY = ("badram", "cutmem")
_OTHER_MENUS = re.compile(r"(?:extract_)?(?:legacy|syslinux)_\w+|extract_\w+|uki")
_BAD_ARGUMENT = 18
"""The status of ``GRUB_ERR_BAD_ARGUMENT``; a test that is false has 1."""
_ASSIGNED = re.compile(r"(?:--set=|-s)(?P<own>[^-].*)|(?P<next>--set|-s)")


def call_unlisted(machine: Machine, name: str, arguments: list[str]) -> int:
    """A command that is none of those below: an assignment, harmless, or of unknown outcome."""
    if "=" in name:
        variable, _, value = name.partition("=")
        machine.set(variable, value)
        return 0
    if name in _MEMORY:
        machine.note(f"{machine.place}: {name} keeps memory from the kernel")
    if name in _HARMLESS or name.startswith("net_"):
        return 0
    if _OTHER_MENUS.fullmatch(name):
        machine.doubt(f"{machine.place}: what {name} adds is not known")
        return 0
    answer = machine.unsure(name)
    _assign_unknown(machine, arguments, answer=answer)
    return 0 if answer else 1


def _assign_unknown(machine: Machine, arguments: Sequence[str], *, answer: bool) -> None:
    """Set the variable that a command would set, to something that is not mistaken for a value."""
    for index, argument in enumerate(arguments):
        match = _ASSIGNED.fullmatch(argument)
        name = match and (match["own"] or next(iter(arguments[index + 1 :]), None))
        if name:
            machine.set(name.rpartition(":")[2], f"unknown{int(answer)}")


def _set(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    if not arguments:
        return 0
    name, equals, value = arguments[0].partition("=")
    if not equals:
        return _BAD_ARGUMENT
    machine.set(name, value)
    return 0


def _unset(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    for name in arguments[:1]:
        machine.unset(name)
    return 0 if arguments else _BAD_ARGUMENT


def _export(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    for name in arguments:
        machine.context.variables.setdefault(name, "")
        machine.context.exported.add(name)
    return 0 if arguments else _BAD_ARGUMENT


def _true(_machine: Machine, _arguments: list[str], _block: Block | None) -> int:
    return 0


def _false(_machine: Machine, _arguments: list[str], _block: Block | None) -> int:
    return 1


def _leave_loop(machine: Machine, arguments: list[str], *, again: bool) -> int:
    number = leading_number(arguments[0]) if arguments else None
    levels = min(1 if number is None else number.value, machine.loops)
    if levels > 0:
        raise Break(levels, again=again)
    return 0


def _break(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    return _leave_loop(machine, arguments, again=False)


def _continue(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    return _leave_loop(machine, arguments, again=True)


def _return(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    text = arguments[0] if arguments else machine.value("?") or "0"
    number = leading_number(text)
    status = 1 if number is None else number.value
    if machine.calls or machine.in_entry:
        raise Return(status)
    return 1


def _shift(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    number = leading_number(arguments[0]) if arguments else None
    count = 1 if number is None else number.value
    if not 0 <= count <= len(machine.parameters):
        return 1
    machine.parameters = machine.parameters[count:]
    return 0


def _setparams(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    machine.parameters = tuple(arguments)
    return 0


def _leave(command: str) -> Builtin:
    def leave(_machine: Machine, _arguments: list[str], _block: Block | None) -> int:
        raise Left(command)

    return leave


def _eval(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    return machine.run(parse(" ".join(arguments)))


def _count(step: int) -> Builtin:
    def count(machine: Machine, arguments: list[str], _block: Block | None) -> int:
        text = machine.context.variables.get(arguments[0]) if len(arguments) == 1 else None
        value = signed_number(text) if text is not None else None
        if value is None:
            return 1
        machine.set(arguments[0], str(value + step))
        return 0

    return count


def _regexp(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    names: list[str] = []
    plain: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument == "--":
            plain.extend(rest)
            break
        if not argument.startswith("-") or argument == "-":
            plain.append(argument)
        elif name not in ("-s", "--set") or not (equals or rest):
            return 1
        else:
            names.append(value if equals else rest.pop(0))
    if len(plain) != 2:
        return 1
    found = regexp(*plain, groups=bool(names))
    if found is None:
        return 0 if machine.unsure("regexp") else 1
    machine.spend(found.cost)
    match = found.match()
    for name in names if match is not None else ():
        group, colon, variable = name.rpartition(":")
        index = int(group) if colon and group.isascii() and group.isdigit() else 1
        part = match[index] if match is not None and index <= match.re.groups else None
        if part is None:
            machine.unset(variable)
        else:
            machine.set(variable, part)
    return 0 if match is not None else 1


def _menu_entry(*, submenu: bool) -> Builtin:
    def menu_entry(machine: Machine, arguments: list[str], block: Block | None) -> int:
        return add_entry(machine, arguments, block, submenu=submenu)

    return menu_entry


_VALUED = ("class", "users", "hotkey", "source", "id")


def add_entry(machine: Machine, arguments: Sequence[str], block: Block | None, *, submenu: bool) -> int:
    """``menuentry`` and ``submenu``: title and options in any order, then the commands.

    Raises:
        GrubError: there are absurdly many.
    """
    options: dict[str, str] = {}
    plain: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("-") or argument == "-":
            plain.append(argument)
        elif argument == "--":
            plain.extend(rest)
            break
        elif not argument.startswith("--") or name not in (*_VALUED, "unrestricted"):
            return 1
        elif name in _VALUED:
            if not equals and (not rest or rest[0].startswith("-")):
                return 1
            options[name] = value if equals else rest.pop(0)
    source = options.get("source")
    if not plain or (source is None) is (block is None):
        return 1
    body = block.body if block is not None else ()
    machine.add(Item(options.get("id", plain[0]), plain[0], tuple(plain), body, submenu, source))
    return 0


def _bls(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    return blscfg(machine, arguments)


COMMANDS: dict[str, Builtin] = {
    **LOADERS,
    **FILES,
    "set": _set,
    "unset": _unset,
    "export": _export,
    "true": _true,
    "false": _false,
    "keystatus": _false,
    "break": _break,
    "continue": _continue,
    "return": _return,
    "shift": _shift,
    "setparams": _setparams,
    "exit": _leave("exit"),
    "halt": _leave("halt"),
    "reboot": _leave("reboot"),
    "eval": _eval,
    "increment": _count(1),
    "decrement": _count(-1),
    "regexp": _regexp,
    "menuentry": _menu_entry(submenu=False),
    "submenu": _menu_entry(submenu=True),
    "blscfg": _bls,
    "bls_import": _bls,
}
