# SPDX-License-Identifier: Apache-2.0
"""GRUB on systems with ways of their own: EL 8 on EFI, openSUSE, Xen, tboot, and old commands."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.test_blscfg import CONFIG, conf
from tests.unit.boots.test_grub import block, booted, entry, host, menu

from tdx_headroom.boots.grub.env import parse_block
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from pathlib import Path

SUSE = """
set btrfs_relative_path="y"
export btrfs_relative_path
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${env_block}" ] ; then
  set env_block="(${root})${env_block}"
  export env_block
  load_env -f "${env_block}"
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   if [ "${env_block}" ] ; then
     save_env -f "${env_block}" next_entry
   fi
   set boot_once=true
else
   set default="${saved_entry}"
fi
menuentry 'openSUSE Leap 15.6'  --class opensuse ${menuentry_id_option} 'gnulinux-simple-1-2' {
  linux /boot/vmlinuz-6.4.0-150600.23.25-default root=UUID=1-2 ${extra_cmdline} splash=silent
  initrd /boot/initrd-6.4.0-150600.23.25-default
}
submenu 'Advanced options for openSUSE Leap 15.6' --hotkey=1 $menuentry_id_option 'gnulinux-advanced-1-2' {
  menuentry 'openSUSE Leap 15.6, with Linux 6.4.0-150600.21-default' --hotkey=2 --id old {
    linux /boot/vmlinuz-6.4.0-150600.21-default root=UUID=1-2 ${extra_cmdline} kvm_intel.tdx=1
  }
}
if [ -f  "/.snapshots/grub-snapshot.cfg" ]; then
  source "/.snapshots/grub-snapshot.cfg"
fi
"""
SNAPSHOTS = """
submenu "Start bootloader from a read-only snapshot" {
  menuentry "*openSUSE (6.4.0, 2025-01-01, pre)" "snapshot" {
    configfile /.snapshots/7/snapshot/boot/grub2/grub.cfg
  }
}
"""
ONCE = "Advanced options for openSUSE Leap 15.6>openSUSE Leap 15.6, with Linux 6.4.0-150600.21-default"


def suse(env: str) -> MemoryRoot:
    files = {
        "boot/grub2/grub.cfg": SUSE,
        "boot/grub2/grubenv": env,
        ".snapshots/grub-snapshot.cfg": SNAPSHOTS,
        "boot/vmlinuz-6.4.0-150600.23.25-default": "kernel",
        "boot/vmlinuz-6.4.0-150600.21-default": "kernel",
    }
    return MemoryRoot("host", files)


def test_suse_saved_and_once() -> None:
    """grub2-once names a path of titles, and the saved title stays the default; snapshots are entries."""
    found = menu(suse(block(saved_entry="openSUSE Leap 15.6", next_entry=ONCE)))
    assert found.unknown is None
    assert (found.once, found.default) == (1, 0)
    assert found.entries[1].release == "6.4.0-150600.21-default"
    assert found.entries[1].line == "root=UUID=1-2 kvm_intel.tdx=1"
    assert found.entries[2].unknown == "it shows the menu of /.snapshots/7/snapshot/boot/grub2/grub.cfg"


def test_suse_environment_outside_of_files() -> None:
    """On btrfs the one-shot stands between the file system's blocks: what boots next cannot be told."""
    found = menu(suse(block(saved_entry="openSUSE Leap 15.6", env_block="512+1")))
    assert found.unknown == "boot/grub2/grub.cfg: the environment block (disk)512+1 is in no file"


def test_suse_numbers() -> None:
    """SUSE's GRUB takes a path of numbers, which Red Hat's does not."""
    assert booted(suse(block(saved_entry="1>0"))).id.endswith(">old")


def test_el8_on_efi() -> None:
    """grub.cfg and grubenv are on the ESP, the entries in /boot."""
    release = "4.18.0-553.el8_10.x86_64"
    files = {
        "boot/efi/EFI/redhat/grub.cfg": CONFIG,
        "boot/efi/EFI/redhat/grubenv": block(
            kernelopts="root=E ro", saved_entry="m-4.18.0-553.el8_10.x86_64"
        ),
        f"boot/loader/entries/m-{release}.conf": conf(release, "$kernelopts $tuned_params"),
        "boot/loader/entries/m-4.18.0-600.el8.conf": conf("4.18.0-600.el8", "$kernelopts"),
        f"boot/vmlinuz-{release}": "kernel",
    }
    found = booted(MemoryRoot("host", files))
    assert (found.release, found.line) == (release, "root=E ro isolcpus=1")


def test_bls_of_suse() -> None:
    """Entries on the ESP, whose version has the number of a snapshot in front."""
    text = "title openSUSE\nversion 3@6.15.8-1-default\nlinux /opensuse/linux-3c3c\noptions root=A\n"
    files = {"boot/efi/EFI/opensuse/grub.cfg": "blscfg\n", "boot/efi/loader/entries/a-3.conf": text}
    found = booted(MemoryRoot("host", {**files, "boot/efi/opensuse/linux-3c3c": "kernel"}))
    assert (found.release, found.image) == ("6.15.8-1-default", "boot/efi/opensuse/linux-3c3c")


@pytest.mark.parametrize(
    ("commands", "line"),
    [
        ("linux16 /boot/vmlinuz-6.1.0 a\ninitrd16 /i", "a"),
        ("linuxefi /boot/vmlinuz-6.1.0 a\ninitrdefi /i", "a"),
        ("linux /boot/other x\nlinux /boot/vmlinuz-6.1.0 a", "a"),
        ("multiboot2 /boot/xen.gz m\nmodule2 /boot/vmlinuz-6.1.0 a\nmodule2 --nounzip /boot/initrd", "a"),
        ("multiboot2 /boot/tboot.gz m\nmodule2 /boot/xen.gz\nmodule2 /boot/vmlinuz-6.1.0 a", "a"),
        ("xen_hypervisor /boot/xen m\nxen_module /boot/vmlinuz-6.1.0 a", "a"),
        ("multiboot /boot/gnumach.gz\nmodule /boot/vmlinuz-6.1.0 a", None),
        ("multiboot /boot/memtest", None),
        ("linux /boot/vmlinuz-6.1.0 a\nboot\nlinux /boot/vmlinuz-6.1.0 b", "a"),
        ("linux /boot/vmlinuz-6.1.0 a\nreturn\nlinux /boot/vmlinuz-6.1.0 b", "a"),
        ("linux /boot/vmlinuz-6.1.0 a\nhalt", None),
        ("if search --file /boot/none; then\nlinux /x\nelse\nlinux /boot/vmlinuz-6.1.0 a\nfi", "a"),
        ("regexp --set=1:x '^(.)b' ab\nlinux /boot/vmlinuz-6.1.0 $x", "a"),
        ("set root=(hd0,gpt2)\nlinux ($root)/boot/vmlinuz-6.1.0 a", "a"),
    ],
)
def test_commands_that_load(commands: str, line: str | None) -> None:
    """The kernel that is started is the one that is loaded last, or the first module below a hypervisor."""
    found = booted(host(f"menuentry x {{\n{commands}\n}}\n", "6.1.0"))
    assert found.line == line
    assert line is None or found.release == "6.1.0"


def test_commands_that_take_memory() -> None:
    """badram keeps memory from the kernel: that is noted."""
    found = menu(host("badram 0x1000,0xfffff000\n" + entry("6.1.0"), "6.1.0"))
    assert found.unknown is None
    assert found.notes == ("boot/grub/grub.cfg: badram keeps memory from the kernel",)


@pytest.mark.parametrize(
    ("block_", "variables"),
    [
        (b"# GRUB Environment Block\na=1\nb=x=y\n####", {"a": "1", "b": "x=y"}),
        (b"# GRUB Environment Block\n# a comment\na=1\n", {"a": "1"}),
        (b"# GRUB Environment Block\na=one\\\ntwo\\\\\n###", {"a": "one\ntwo\\"}),
        (b"# GRUB Environment Block\na=1\na=2\n", {"a": "2"}),
        (b"# GRUB Environment Block\na=1\nb=2", {"a": "1"}),
        (b"# GRUB Environment Block\nname\nb=2\n", {"name\nb": "2"}),
        (b"# GRUB Environment Block\n", {}),
        (b"# GRUB Environment Block", None),
        (b"a=1\n", None),
        (b"", None),
    ],
)
def test_environment_blocks(block_: bytes, variables: dict[str, str] | None) -> None:
    """Variables of a block as GRUB reads them; what does not begin like a block is none."""
    assert parse_block(block_) == variables


@pytest.mark.program("grub-editenv")
def test_environment_blocks_of_grub_editenv(tmp_path: Path) -> None:
    """What grub-editenv writes is read back, whatever the values hold."""
    generator = random.Random(10)
    for _ in range(20):
        wanted = {
            f"name{n}": "".join(generator.choice("ab=\\#\n é>$") for _ in range(generator.randint(0, 9)))
            for n in range(generator.randint(1, 5))
        }
        pairs = [f"{name}={value}" for name, value in wanted.items()]
        path = tmp_path / "grubenv"
        path.unlink(missing_ok=True)
        for arguments in (["create"], ["set", *pairs], ["unset", "name0"]):
            subprocess.run(["grub-editenv", path, *arguments], check=True)
        del wanted["name0"]
        assert parse_block(path.read_bytes()) == wanted


def test_files_that_were_handed_in(tmp_path: Path) -> None:
    """A grub.cfg that somebody else opened is read, though no path leads to it."""
    (tmp_path / "elsewhere").write_text(entry("6.1.0"))
    (tmp_path / "root/boot").mkdir(parents=True)
    (tmp_path / "root/boot/vmlinuz-6.1.0").write_text("kernel")
    with (tmp_path / "elsewhere").open() as file:
        found = booted(Root(tmp_path / "root", {"boot/grub/grub.cfg": file.fileno()}))
    assert found.release == "6.1.0"
