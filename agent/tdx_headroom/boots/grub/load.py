# SPDX-License-Identifier: Apache-2.0
"""GRUB's commands that load what is started: Linux, its initial RAM disks, Xen, and others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.paths import split_path
from tdx_headroom.boots.grub.signals import Started
from tdx_headroom.boots.grub.state import Loaded, Module

if TYPE_CHECKING:
    from tdx_headroom.boots.grub.run import Builtin, Machine
    from tdx_headroom.boots.grub.script import Block


def _absolute(machine: Machine, path: str) -> str:
    """The path with the device that is the root of the moment, if it names none."""
    device, plain = split_path(path)
    return f"({machine.value('root') or ''}){plain}" if device is None else path


def _linux(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    if not arguments:
        return 1
    machine.loaded = Loaded(kernel=_absolute(machine, arguments[0]), arguments=tuple(arguments[1:]))
    return 0


def _initrd(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    if machine.loaded.kernel is None or not arguments:
        return 1
    # ``newc:NAME:PATH`` puts a file into an archive of its own.
    paths = (a.split(":", 2)[-1] if a.startswith("newc:") else a for a in arguments)
    machine.load(initrds=tuple(_absolute(machine, path) for path in paths))
    return 0


def _multiboot(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    plain = [a for a in arguments if not a.startswith("--")] if arguments[:1] else []
    if not plain:
        return 1
    machine.loaded = Loaded(multiboot=_absolute(machine, plain[0]))
    return 0


def _module(machine: Machine, arguments: list[str], _block: Block | None) -> int:
    plain = arguments[1:] if arguments[:1] == ["--nounzip"] else arguments
    if machine.loaded.multiboot is None or not plain:
        return 1
    module = Module(_absolute(machine, plain[0]), tuple(plain[1:]))
    machine.load(modules=(*machine.loaded.modules, module))
    return 0


def _other(name: str) -> Builtin:
    def load(machine: Machine, arguments: list[str], _block: Block | None) -> int:
        plain = [a for a in arguments if not a.startswith("-")]
        machine.loaded = Loaded(other=" ".join(["starts", *plain[:1]]) if plain else f"runs {name}")
        return 0

    return load


def _boot(_machine: Machine, _arguments: list[str], _block: Block | None) -> int:
    raise Started


LOADERS: dict[str, Builtin] = {
    **dict.fromkeys(("linux", "linux16", "linuxefi"), _linux),
    **dict.fromkeys(("initrd", "initrd16", "initrdefi"), _initrd),
    **dict.fromkeys(("multiboot", "multiboot2", "xen_hypervisor"), _multiboot),
    **dict.fromkeys(("module", "module2", "xen_module"), _module),
    **{
        name: _other(name)
        for name in (
            *("chainloader", "ntldr", "freedos", "plan9", "truecrypt", "appleloader"),
            *("kfreebsd", "knetbsd", "kopenbsd", "xnu_kernel", "xnu_kernel64", "xnu_resume"),
        )
    },
    "boot": _boot,
}
