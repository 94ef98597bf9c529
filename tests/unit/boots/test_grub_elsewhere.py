# SPDX-License-Identifier: Apache-2.0
"""Hosts whose GRUB reads another menu than that of the host's /boot."""

from __future__ import annotations

import pytest
from tests.unit.boots.test_grub import block, booted, entry, menu

from tdx_headroom.boots.grub.reader import read_grub
from tdx_headroom.hostfs.memory import MemoryRoot

UUIDS = "etc/kernel/proxmox-boot-uuids"
HOSTS = entry("6.1.0") + entry("6.2.0")
KERNELS = {f"boot/vmlinuz-{release}": "kernel" for release in ("6.1.0", "6.2.0")}
OURS = "0a1b2c3d-0000-4000-8000-00000000000b"
OTHERS = "0a1b2c3d-0000-4000-8000-00000000000a"


@pytest.mark.parametrize("esp", ["boot/efi", "efi"])
def test_proxmox_with_its_partition(esp: str) -> None:
    """Menu and environment block are those on the partition."""
    config = f"load_env\nset default=$saved_entry\n{HOSTS}"
    files = {
        UUIDS: "5A2B-C3D4\n",
        "boot/grub/grub.cfg": entry("6.1.0"),
        "boot/grub/grubenv": block(saved_entry="k6.1.0"),
        f"{esp}/grub/grub.cfg": config,
        f"{esp}/grub/grubenv": block(saved_entry="k6.2.0"),
    }
    found = menu(MemoryRoot("host", files | KERNELS))
    assert found.unknown is None
    assert found.next is not None
    assert found.entries[found.next].release == "6.2.0"
    assert found.known_from == (f"{esp}/grub/grub.cfg", f"{esp}/grub/grubenv")


@pytest.mark.parametrize(("uuids", "known"), [("5A2B-C3D4\n5A2C-0001\n", False), ("", True), (None, True)])
def test_proxmox_without_it(uuids: str | None, known: bool) -> None:  # noqa: FBT001
    """The host's own grub.cfg is what no boot reads; without proxmox-boot-tool it is what boots."""
    files = {"boot/grub/grub.cfg": HOSTS} | KERNELS | ({} if uuids is None else {UUIDS: uuids})
    found = menu(MemoryRoot("host", files))
    assert (found.unknown is None) is known
    assert (found.next is None) is not known
    assert known or str(found.unknown).startswith(f"{UUIDS}: ")


@pytest.mark.parametrize(
    ("vendor", "folder", "system", "known"),
    [
        ("opensuse", "opensuse", "opensuse-leap", False),
        ("OpenSUSE", "opensuse", "opensuse-leap", False),
        (None, "opensuse", "opensuse-tumbleweed", False),
        # Another system's, beside this one.
        (None, "opensuse", "debian", True),
        ("debian", "opensuse", "debian", True),
        # There it is systemd-boot.
        ("systemd", "systemd", "opensuse-tumbleweed", True),
    ],
)
def test_grub_of_sdbootutil(vendor: str | None, folder: str, system: str, known: bool) -> None:  # noqa: FBT001
    """A grub.cfg that an earlier GRUB has left in /boot is none that it reads."""
    files = {
        "boot/grub2/grub.cfg": HOSTS,
        f"boot/efi/EFI/{folder}/grub.efi": "x",
        f"boot/efi/EFI/{folder}/installed_by_sdbootutil": "opensuse\n",
        "etc/os-release": f"ID={system}\n",
    }
    found = read_grub(MemoryRoot("host", files | KERNELS), vendor=vendor)
    assert found is not None
    assert (found.unknown is None) is known
    assert known or "sdbootutil" in str(found.unknown)


def stubbed(stub: str, *, config: str = "", fstab: str | None = None) -> MemoryRoot:
    files = {
        "boot/grub/grub.cfg": config + HOSTS,
        "boot/efi/EFI/ubuntu/grub.cfg": stub
        + "set prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n",
        "etc/os-release": "ID=ubuntu\n",
    }
    return MemoryRoot("host", files | KERNELS | ({} if fstab is None else {"etc/fstab": fstab}))


SEARCH = f"search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 {OURS}\n"
FSTAB = (
    f"# /boot/efi\nUUID=AB12-CD34 /boot/efi vfat umask=0077 0 1\nUUID={OURS.upper()} / ext4 defaults 0 1\n"
)


@pytest.mark.parametrize(
    "stub",
    [
        f"search.fs_uuid {OTHERS} root hd1,gpt2 \n",
        f"search --no-floppy --fs-uuid --set=root {OTHERS}\n",
        f"search -u '{OTHERS}' --set root\n",
    ],
)
@pytest.mark.parametrize(("config", "fstab"), [(SEARCH, None), ("", FSTAB), (SEARCH, FSTAB)])
def test_a_stub_of_another_installation(stub: str, config: str, fstab: str | None) -> None:
    """What it searches for is no file system of this host: another installation's menu is shown."""
    found = menu(stubbed(stub, config=config, fstab=fstab))
    assert found.next is None
    assert str(found.unknown).startswith(
        f"boot/efi/EFI/ubuntu/grub.cfg: it leads to the file system {OTHERS}"
    )
    assert len(found.entries) == 2


@pytest.mark.parametrize(
    ("stub", "config", "fstab"),
    [
        (f"search.fs_uuid {OURS} root\n", SEARCH, None),
        (f"search.fs_uuid {OURS} root\n", "", FSTAB),
        # /boot is a partition of its own, which only fstab or only the menu knows.
        (f"search.fs_uuid {OTHERS} root\n", SEARCH, FSTAB + f"UUID={OTHERS} /boot ext4 defaults\n"),
        (f"search.fs_uuid {OTHERS} root\n", f"search --fs-uuid --set=root {OTHERS}\n", FSTAB),
        # Nothing is known of UUIDs.
        (f"search.fs_uuid {OTHERS} root\n", "", None),
        (
            f"search.fs_uuid {OTHERS} root\n",
            "",
            "LABEL=root / ext4 defaults\n/dev/vda1 /boot ext4 defaults\n",
        ),
        (f"search.fs_uuid {OTHERS} root\n", "", FSTAB + "LABEL=boot /boot ext4 defaults\n"),
        ("search --label boot --set=root\n", SEARCH, FSTAB),
        ('search --fs-uuid "${BOOT_UUID}" --set=root\n', SEARCH, FSTAB),
    ],
)
def test_a_stub_of_this_installation(stub: str, config: str, fstab: str | None) -> None:
    """What is known of this host does not speak against it."""
    assert booted(stubbed(stub, config=config, fstab=fstab)).release == "6.1.0"
