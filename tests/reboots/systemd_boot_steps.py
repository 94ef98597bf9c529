# SPDX-License-Identifier: Apache-2.0
"""The steps of the guest with systemd-boot."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tests.reboots.disk import KERNEL_LINE
from tests.reboots.grub_steps import kexec
from tests.reboots.places import ESP
from tests.reboots.steps import ANY, FIT, Step, holes, install, nothing, remove, sh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.reboots.steps import Context

CONF = f"{ESP}/loader/loader.conf"
ENTRIES = f"{ESP}/loader/entries"
BOOT_OTHER = f"""\
mkdir -p {ESP}/EFI/other && cp {ESP}/EFI/systemd/systemd-bootx64.efi {ESP}/EFI/other/
efibootmgr --quiet --create-only --disk /dev/vda --part 1 --label other \\
    --loader '\\EFI\\other\\systemd-bootx64.efi'
efibootmgr --bootnext "$(efibootmgr | sed -n 's/^Boot\\([0-9A-F]*\\).* other.*/\\1/p' | head -n 1)"
"""


def entry_file(series: str) -> str:
    """A shell expression for the file of an entry."""
    return f'"$(echo {ENTRIES}/*-{{{series}}}*.conf)"'


def entry_id(series: str) -> str:
    """A shell expression for the id of an entry."""
    return f'"$(basename {entry_file(series)})"'


def options(*arguments: str) -> Callable[[Context], str]:
    """Edit the line of the entry of 7.3."""
    text = "options " + " ".join([KERNEL_LINE.strip(), *arguments])
    put = f"printf '%s\\n' {shlex.quote(text)}"
    return sh(f'f={entry_file("7.3")}; sed -i \'/^options/d\' "$f" && {put} >>"$f"')


def command_line(*arguments: str, base: str = KERNEL_LINE) -> str:
    """A shell command that writes /etc/kernel/cmdline."""
    text = " ".join([base.strip(), *arguments])
    return f"printf '%s\\n' {shlex.quote(text)} >/etc/kernel/cmdline"


ADD = "kernel-install add {7.3} /boot/vmlinuz-{7.3} 2>&1"
RENAME = f"mv {entry_file('7.3')} {ENTRIES}/lab-{{7.3}}"

STEPS = (
    Step("dpkg -i an older kernel, 6.12", install("6.12"), "7.3", up=True, hook=True, quick=True),
    Step(
        "bootctl set-oneshot: 6.12",
        sh(f"bootctl set-oneshot {entry_id('6.12')}"),
        "6.12",
        up=False,
        quick=True,
    ),
    Step("nothing: set-oneshot was for once", nothing, "7.3", up=True, quick=True),
    Step("dpkg -i Debian's own kernel", install("debian"), "7.3", up=True, hook=True),
    Step(
        "bootctl set-default: Debian's", sh(f"bootctl set-default {entry_id('debian')}"), "debian", up=False
    ),
    Step(
        "bootctl set-oneshot over a default: 7.3",
        sh(f"bootctl set-oneshot {entry_id('7.3')}"),
        "7.3",
        up=True,
        verdicts=ANY,
    ),
    Step("nothing: the default", nothing, "debian", up=False),
    Step(
        "bootctl set-default '': the first of the order",
        sh("bootctl set-default ''"),
        "7.3",
        up=True,
        verdicts=ANY,
    ),
    Step("loader.conf: default by a glob", sh(f"echo 'default *-6.12.*-tdx*' >>{CONF}"), "6.12", up=False),
    Step("loader.conf: no default", sh(f"sed -i /^default/d {CONF}"), "7.3", up=True),
    Step("options of the entry edited: 13 holes", options(*holes(FIT)), "7.3", up=True),
    Step("options of the entry edited: 20 holes", options(*holes(20)), "7.3", up=False, quick=True),
    Step("/etc/kernel/cmdline without them, no kernel-install", sh(command_line()), "7.3", up=False),
    Step("kernel-install add", sh(ADD), "7.3", up=True, quick=True),
    Step(
        "/etc/kernel/cmdline without nohibernate, kernel-install add",
        sh(f"{command_line(base=KERNEL_LINE.replace(' nohibernate', ''))} && {ADD}"),
        "7.3",
        up=False,
    ),
    Step(
        "/etc/kernel/cmdline with mem=2G, kernel-install add",
        sh(f"{command_line('mem=2G')} && {ADD}"),
        "7.3",
        up=True,
    ),
    Step(
        "a second options line: memmap=",
        sh(f"{command_line()} && {ADD} && echo 'options memmap=64K#0x20000000' >>{entry_file('7.3')}"),
        "7.3",
        up=True,
    ),
    Step("boot counting: three tries left", sh(f"{RENAME}+3.conf"), "7.3", up=True),
    Step("boot counting: no tries left", sh(f"{RENAME}+0-3.conf"), "debian", up=False),
    Step("boot counting: no counter", sh(f"{RENAME}.conf"), "7.3", up=True, verdicts=ANY),
    Step("efibootmgr --bootnext: a copy of systemd-boot", sh(BOOT_OTHER), "7.3", up=True),
    Step("bootctl set-default: 6.12", sh(f"bootctl set-default {entry_id('6.12')}"), "6.12", up=False),
    Step(
        "dpkg -r 7.3, and its default gone",
        lambda c: sh(f"rm {entry_file('7.3')}; bootctl set-default ''")(c) + c.remove("7.3"),
        "debian",
        up=False,
        hook=True,
    ),
    Step("dpkg -i a newer kernel, 7.3", install("7.3"), "7.3", up=True, hook=True, verdicts=ANY),
    Step("dpkg -P 6.12", remove("6.12", purge=True), "7.3", up=True, hook=True),
    Step("kexec -l", kexec, "7.3", up=True, verdicts=("cannot-tell",), reboots=False),
)
