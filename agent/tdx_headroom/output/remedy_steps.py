# SPDX-License-Identifier: Apache-2.0
"""How to change a kernel's command line on this host, by its boot loader, and how to take that back."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.boot_inventory import MASK
from tdx_headroom.facts.boots import Loader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.boots import BootEntry

NAME = "99-tdx-headroom.cfg"
"""Its own file in /etc/default/grub.d: grub-mkconfig of Debian and Ubuntu reads them all, by name."""


TAKE_BACK = "Take the same words out again where they were put, and make the boot menu anew as before."


class Steps(NamedTuple):
    """Commands for root's shell.

    Args:
        where: what they change, for people.
        apply: the change.
        undo: the way back.
        note: what has to be known about them; None: nothing.
    """

    where: str
    apply: tuple[str, ...]
    undo: tuple[str, ...]
    note: str | None = None


def lines_for(arguments: Sequence[str]) -> dict[str, str]:
    """What to write where, by the kind of file; nothing in it needs other quotes than these.

    Args:
        arguments: without blanks or quotes, and without a ``$``.
    """
    added = " ".join(arguments)
    return {
        "grub-default": f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {added}"',
        "grub-cfg": added,
        "bls": added,
        "systemd-boot": f"options {added}",
        "cmdline-file": added,
    }


def steps_for(entry: BootEntry, arguments: Sequence[str]) -> Steps | None:
    """The commands that put arguments at the end of the command line of an entry.

    None where they cannot be told: the entry has no file, a capture hides its name, or its loader is unknown.

    Args:
        entry: of the boot menu.
        arguments: without blanks or quotes.
    """
    file = entry.file
    if file is None or MASK in file:
        return None
    added = " ".join(arguments)
    if file.lower().endswith(".efi"):
        return _unified(file, added, entry.release)
    if entry.loader is Loader.SYSTEMD_BOOT and file.endswith(".conf"):
        return _loader_entry(file, added)
    if entry.loader is not Loader.GRUB:
        return None
    if file.endswith(".conf"):
        return _grubby(arguments)
    return _grub2(file, added) if "/grub2/" in file or "/EFI/" in file.upper() else _grub(added)


def _grub(added: str) -> Steps:
    line = lines_for([added])["grub-default"]
    path = f"/etc/default/grub.d/{NAME}"
    return Steps(
        "a file of its own beside /etc/default/grub",
        (
            "mkdir -p /etc/default/grub.d",
            f"printf '%s\\n' {shlex.quote(line)} >{path}",
            "update-grub",
        ),
        (f"rm {path}", "update-grub"),
        "Recovery entries do not get it.",
    )


def _grub2(config: str, added: str) -> Steps:
    line = f"{lines_for([added])['grub-default']} # tdx-headroom"
    make = f"grub2-mkconfig -o {shlex.quote('/' + config)}"
    return Steps(
        "the last line of /etc/default/grub",
        (f"printf '%s\\n' {shlex.quote(line)} >>/etc/default/grub", make),
        ("sed -i '/# tdx-headroom$/d' /etc/default/grub", make),
        "Recovery entries do not get it.",
    )


def _grubby(arguments: Sequence[str]) -> Steps:
    quoted = shlex.quote(" ".join(arguments))
    return Steps(
        "all boot entries, and those of kernels to come",
        (f"grubby --update-kernel=ALL --args={quoted}",),
        (f"grubby --update-kernel=ALL --remove-args={quoted}",),
    )


def _loader_entry(file: str, added: str) -> Steps:
    path = shlex.quote(f"/{file}")
    line = f"options {added}"
    kept = "/etc/kernel/cmdline"
    return Steps(
        f"the boot entry /{file}",
        (f"printf '\\n%s\\n' {shlex.quote(line)} >>{path}",),
        (f"sed -i {shlex.quote(f'/^options {_pattern(added)}$/d')} {path}",),
        f"kernel-install makes entries anew from {kept}: have the same words at the end of it for kernels to"
        " come, and for this one when it is installed again.",
    )


def _unified(file: str, added: str, release: str | None) -> Steps:
    line = "/etc/kernel/cmdline"
    build = "kernel-install add-all"
    if release is not None:
        # Debian keeps images in /boot, where add-all does not look.
        kernel = shlex.quote(release)
        places = f"/usr/lib/modules/{kernel}/vmlinuz /boot/vmlinuz-{kernel}"
        build = f'kernel-install add {kernel} "$(ls {places} 2>/dev/null | head -n 1)"'
    return Steps(
        f"the line built into the image /{file}",
        (f"sed -i {shlex.quote(f'$s|$| {added}|')} {line}", build),
        (f"sed -i {shlex.quote(f's| {_pattern(added)}||')} {line}", build),
        "Only an image that this host builds itself can be changed so. One that is signed elsewhere takes no"
        " other command line under Secure Boot: its vendor has to build it anew.",
    )


def _pattern(text: str) -> str:
    """A text for sed to find as it stands."""
    return "".join(f"\\{c}" if c in r".*[]^$/|\\" else c for c in text)
