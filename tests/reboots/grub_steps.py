# SPDX-License-Identifier: Apache-2.0
"""The steps of the guest with GRUB."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tests.reboots.disk import LINE
from tests.reboots.places import ESP
from tests.reboots.steps import ANY, FIT, Step, holes, install, nothing, remove, sh

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.reboots.steps import Context

DEFAULTS = "/etc/default/grub"
SYSTEM = "Debian GNU/Linux"
CUSTOM = """\
menuentry 'Lab' --id lab {{
	search --no-floppy --set=root --file /boot/vmlinuz-{release}
	linux /boot/vmlinuz-{release} root=/dev/vda2 rw {line}
}}
set default=lab
"""
BOOT_OTHER = f"""\
mkdir -p {ESP}/EFI/other && cp {ESP}/EFI/debian/grubx64.efi {ESP}/EFI/other/
efibootmgr --quiet --create-only --disk /dev/vda --part 1 --label other --loader '\\EFI\\other\\grubx64.efi'
efibootmgr --bootnext "$(efibootmgr | sed -n 's/^Boot\\([0-9A-F]*\\).* other.*/\\1/p' | head -n 1)"
"""


def title(series: str) -> str:
    """The path of an entry by titles."""
    return f"Advanced options for {SYSTEM}>{SYSTEM}, with Linux {{{series}}}"


def entry_id(series: str) -> str:
    """A shell expression for the path of an entry by ids."""
    menu = "$(sed -n \"s/^submenu .*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg)"
    entry = (
        f"$(sed -n \"s/.*menuentry_id_option '\\(gnulinux-{{{series}}}-advanced[^']*\\)'.*/\\1/p\""
        " /boot/grub/grub.cfg)"
    )
    return f'"{menu}>{entry}"'


def by_number(series: str) -> Callable[[Context], str]:
    """grub-reboot by numbers: the submenu is the second entry, and in it recovery entries count."""

    def act(context: Context) -> str:
        config = context.guest.run("cat /boot/grub/grub.cfg")
        inside = config[config.index("submenu '") :]
        titles = [line for line in inside.splitlines() if line.startswith("\tmenuentry ")]
        number = next(i for i, line in enumerate(titles) if f"Linux {context.release(series)}'" in line)
        return context.guest.run(f"grub-reboot '1>{number}'")

    return act


def setting(name: str, value: str) -> str:
    """A shell command that changes /etc/default/grub."""
    line = shlex.quote(f"{name}={shlex.quote(value)}")
    return f"sed -i '/^{name}=/d' {DEFAULTS} && printf '%s\\n' {line} >>{DEFAULTS}"


def line(*arguments: str, base: str = LINE) -> str:
    """A shell command that sets the command line; ``$`` is written so that GRUB leaves it alone."""
    return setting("GRUB_CMDLINE_LINUX", " ".join([base, *arguments]).replace("$", "\\$"))


def edit(command: str) -> Callable[[Context], str]:
    """Change /etc/default/grub, and run update-grub."""
    return sh(f"{command} && update-grub 2>&1")


def custom(context: Context) -> str:
    """An entry in custom.cfg that makes itself the default."""
    text = CUSTOM.format(release=context.release("7.3"), line=f"{LINE} memmap=64K#0x20000000")
    context.guest.machine.write("/boot/grub/custom.cfg", text.encode())
    return ""


def kexec(context: Context) -> str:
    """Load a kernel that kexec can start."""
    release = context.release("7.3")
    return context.guest.run(f"kexec -l /boot/vmlinuz-{release} --reuse-cmdline --kexec-file-syscall")


STEPS = (
    Step("dpkg -i an older kernel, 6.12", install("6.12"), "7.3", up=True, hook=True, quick=True),
    Step("grub-reboot by titles: 6.12", sh(f"grub-reboot '{title('6.12')}'"), "6.12", up=False, quick=True),
    Step("nothing: grub-reboot was for once", nothing, "7.3", up=True, quick=True),
    Step("dpkg -i Debian's own kernel", install("debian"), "7.3", up=True, hook=True),
    Step("grub-reboot by numbers: Debian's", by_number("debian"), "debian", up=False),
    Step("nothing, on a kernel without TDX", nothing, "7.3", up=True, verdicts=ANY),
    Step(
        "13 holes by memmap= in /etc/default/grub, update-grub",
        edit(line(*holes(FIT))),
        "7.3",
        up=True,
    ),
    Step("20 holes, update-grub", edit(line(*holes(20))), "7.3", up=False, quick=True),
    Step("the holes taken out, without update-grub", sh(line()), "7.3", up=False, quick=True),
    Step("update-grub", sh("update-grub 2>&1"), "7.3", up=True, quick=True),
    Step("nohibernate taken out, update-grub", edit(line(base="console=ttyS0")), "7.3", up=False),
    Step("nohibernate and mem=2G, update-grub", edit(line("mem=2G")), "7.3", up=True),
    Step("kvm_intel.tdx=0 instead, update-grub", edit(line("kvm_intel.tdx=0")), "7.3", up=True),
    Step("numa=off instead, update-grub", edit(line("numa=off")), "7.3", up=True),
    Step(
        "GRUB_DEFAULT=saved, grub-set-default by ids: 6.12",
        sh(f"{setting('GRUB_DEFAULT', 'saved')} && update-grub 2>&1 && grub-set-default {entry_id('6.12')}"),
        "6.12",
        up=False,
    ),
    Step(
        "grub-reboot by ids over a saved default: 7.3", sh(f"grub-reboot {entry_id('7.3')}"), "7.3", up=True
    ),
    Step("nothing: the saved default", nothing, "6.12", up=False),
    Step("grub-set-default by titles: 7.3", sh(f"grub-set-default '{title('7.3')}'"), "7.3", up=True),
    Step("custom.cfg with an entry and set default", custom, "7.3", up=True),
    Step("custom.cfg removed", sh("rm /boot/grub/custom.cfg"), "7.3", up=True),
    Step("efibootmgr --bootnext: a copy of GRUB", sh(BOOT_OTHER), "7.3", up=True),
    Step("dpkg -r 7.3, the saved default", remove("7.3"), "6.12", up=False, hook=True),
    Step("dpkg -i a newer kernel, 7.3", install("7.3"), "7.3", up=True, hook=True),
    Step("dpkg -P 6.12", remove("6.12", purge=True), "7.3", up=True, hook=True),
    Step("kexec -l", kexec, "7.3", up=True, verdicts=("cannot-tell",), reboots=False),
)
