# SPDX-License-Identifier: Apache-2.0
"""A TDX host with two kernels in the menu that Debian's update-grub has made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.tools.images import put_image

TESTS = Path(__file__).resolve().parents[1]
RUNNING = "6.8.0-1007-intel"
LINE = "root=/dev/vda ro  quiet nohibernate"
"""Of the menu's entries."""
LAYOUT = TESTS / "boots/debian-two-saved"
_KERNELS = ("6.12.0-1-amd64", "6.1.0-28-amd64")


def menu(*releases: str, line: str = "kvm_intel.tdx=1 nohibernate") -> str:
    """The menu with other kernels, the newest first, and with another line."""
    text = (LAYOUT / "boot/grub/grub.cfg").read_text("utf-8")
    for old, new in zip(_KERNELS, releases, strict=True):
        text = text.replace(old, new)
    return text.replace(LINE, f"root=/dev/vda ro quiet {line}")


def entry_id(release: str, kind: str = "advanced") -> str:
    """The id of a kernel's entry, behind that of the submenu."""
    return f"gnulinux-advanced-/dev/vda>gnulinux-{release}-{kind}-/dev/vda"


def block(**variables: str) -> str:
    """An environment block."""
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in variables.items())
    return text.ljust(1024, "#")


def staged_host(
    folder: Path, newest: str, other: str = RUNNING, *, base: str = "good-2-node", saved: str | None = None
) -> Path:
    """A host that runs one of two kernels.

    Args:
        folder: to be made.
        newest: release of the kernel that the menu has first.
        other: of the second one.
        base: a host of tests/hosts.
        saved: the entry that is saved; by default there is none, and the newest kernel boots.
    """
    shutil.copytree(TESTS / "hosts" / base, folder, symlinks=True)
    (folder / "boot/grub").mkdir(parents=True)
    for release in (newest, other):
        put_image(folder, release)
        (folder / f"boot/initrd.img-{release}").touch()
        # Older than the boot that runs, which is the same again then.
        os.utime(folder / f"boot/initrd.img-{release}", (0, 0))
    (folder / "boot/grub/grub.cfg").write_text(menu(newest, other))
    (folder / "boot/grub/grubenv").write_text(block() if saved is None else block(saved_entry=saved))
    command_line = f"BOOT_IMAGE=/vmlinuz-{other} root=/dev/vda ro quiet kvm_intel.tdx=1 nohibernate"
    (folder / "proc/cmdline").write_text(f"{command_line}\n")
    return folder
