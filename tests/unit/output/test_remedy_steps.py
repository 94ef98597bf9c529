# SPDX-License-Identifier: Apache-2.0
"""What is to be typed for a remedy does what it says, and is taken back by what it says."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.boots import BootEntry, Loader
from tdx_headroom.output.remedy_steps import Steps, lines_for, steps_for

if TYPE_CHECKING:
    from pathlib import Path

ARGUMENTS = ("memmap=4K%0x64158000-1+2", "memmap=8K%0x619e0000-1+2")
WORDS = " ".join(ARGUMENTS)
MAKERS = ("update-grub", "grub2-mkconfig", "kernel-install", "grubby")


def steps(file: str, loader: Loader | None) -> Steps:
    """For an entry of a file."""
    found = steps_for(BootEntry(release="7.3.0", loader=loader, file=file), ARGUMENTS)
    assert found is not None
    return found


def run(commands: tuple[str, ...], root: Path) -> None:
    """Type them, with the root's folders in place of the host's, and all that makes menus doing nothing."""
    script = "\n".join(commands)
    for folder in ("/etc", "/boot", "/efi"):
        script = script.replace(folder + "/", f"{root}{folder}/")
    nothing = "\n".join(f"{maker}() {{ echo {maker} >>{root}/made; }}" for maker in MAKERS)
    subprocess.run(["bash", "-euc", f"{nothing}\n{script}"], check=True)


@pytest.mark.parametrize(
    ("file", "loader", "changed", "before", "maker"),
    [
        ("boot/grub/grub.cfg", Loader.GRUB, "etc/default/grub.d/99-tdx-headroom.cfg", None, "update-grub"),
        (
            "boot/grub2/grub.cfg",
            Loader.GRUB,
            "etc/default/grub",
            'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n',
            "grub2-mkconfig",
        ),
        (
            "efi/loader/entries/a.conf",
            Loader.SYSTEMD_BOOT,
            "efi/loader/entries/a.conf",
            "title A\noptions root=/dev/sda1",
            None,
        ),
        (
            "efi/EFI/Linux/a.efi",
            Loader.SYSTEMD_BOOT,
            "etc/kernel/cmdline",
            "root=/dev/sda1 quiet\n",
            "kernel-install",
        ),
    ],
)
def test_there_and_back(
    tmp_path: Path, file: str, loader: Loader, changed: str, before: str | None, maker: str | None
) -> None:
    """The words are there once after the change, and gone after the way back, with all else as before."""
    path = tmp_path / changed
    (tmp_path / "etc/default").mkdir(parents=True)
    if before is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before)
    found = steps(file, loader)
    run(found.apply, tmp_path)
    assert path.read_text().count(WORDS) == 1
    assert before is None or path.read_text().startswith(before.rstrip("\n"))
    run(found.undo, tmp_path)
    assert (path.read_text().split() if path.exists() else None) == (before.split() if before else None)
    made = (tmp_path / "made").read_text().split() if maker else []
    assert made == ([maker] * 2 if maker else [])


def test_debians_own_file_is_read_as_shell(tmp_path: Path) -> None:
    """Sourced after /etc/default/grub, as grub-mkconfig does, the words stand at the end of the value."""
    (tmp_path / "etc/default").mkdir(parents=True)
    run(steps("boot/grub/grub.cfg", Loader.GRUB).apply, tmp_path)
    own = tmp_path / "etc/default/grub.d/99-tdx-headroom.cfg"
    script = f'GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"; . {own}; printf %s "$GRUB_CMDLINE_LINUX_DEFAULT"'
    said = subprocess.run(["sh", "-euc", script], check=True, capture_output=True, text=True).stdout
    assert said == f"quiet splash {WORDS}"


def test_boot_entries_of_grub() -> None:
    """Where GRUB reads entries, grubby changes all of them and those to come."""
    found = steps("boot/loader/entries/a.conf", Loader.GRUB)
    assert found.apply == (f"grubby --update-kernel=ALL --args='{WORDS}'",)
    assert found.undo == (f"grubby --update-kernel=ALL --remove-args='{WORDS}'",)


def test_a_signed_image_takes_no_line() -> None:
    """Of a unified image it is said that one from elsewhere cannot be changed."""
    assert "signed elsewhere takes no other command line" in (steps("efi/EFI/Linux/a.efi", None).note or "")


def test_nothing_is_typed_blindly() -> None:
    """Without a file, with a name that a capture hides, or under an unknown loader there are no commands."""
    for entry in (
        BootEntry(loader=Loader.GRUB),
        BootEntry(loader=Loader.SYSTEMD_BOOT, file="efi/loader/entries/…-7.3.conf"),
        BootEntry(loader=Loader.KEXEC, file="boot/grub/grub.cfg"),
    ):
        assert steps_for(entry, ARGUMENTS) is None


def test_no_line_needs_quoting() -> None:
    """No line has a character that a shell in double quotes, or GRUB, takes for its own."""
    lines = lines_for(ARGUMENTS)
    assert set(lines) == {"grub-default", "grub-cfg", "bls", "systemd-boot", "cmdline-file"}
    for line in lines.values():
        assert not set("`\\;&|<>(){}") & set(line)
        assert "$" not in line.replace("$GRUB_CMDLINE_LINUX_DEFAULT", "")
