# SPDX-License-Identifier: Apache-2.0
"""Hosts on which GRUB reads another menu than the one in the host's /boot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.boots.grub.paths import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from tdx_headroom.boots.grub.paths import Disk

PROXMOX = "etc/kernel/proxmox-boot-uuids"
"""The UUIDs of the partitions that proxmox-boot-tool keeps, one a line."""
_PARTITIONS = ("boot/efi", "efi")
_MARK = "installed_by_sdbootutil"
_LOADERS = ("grub.efi", "grubx64.efi")
_SYSTEMD_BOOT = "systemd"
"""The directory in which sdbootutil installs systemd-boot, as grub.efi behind shim."""
_UUID = re.compile(r"[0-9A-Fa-f][0-9A-Fa-f-]{3,40}")


def proxmox_config(disk: Disk) -> str | None:
    """The grub.cfg of a host that proxmox-boot-tool boots; None: this is no such host.

    Its hooks mount each partition over /boot, run update-grub, and unmount it again (zz-proxmox-boot of
    proxmox-kernel-helper): GRUB reads ``grub/grub.cfg`` and ``grub/grubenv`` there, and none of the host's.

    Args:
        disk: the host's files.

    Raises:
        SourceError: no such partition is mounted.
    """
    if not (disk.peek(PROXMOX) or "").strip():
        return None
    for partition in _PARTITIONS:
        path = f"{partition}/grub/grub.cfg"
        if disk.status(path) is not None:
            return path
    what = "GRUB's menu is on a partition of proxmox-boot-tool's, and none is mounted; mount one at /boot/efi"
    raise SourceError(SOURCE, f"{PROXMOX}: {what}")


def check_sdbootutil(disk: Disk, vendor: str | None) -> None:
    """See to it that GRUB is none that openSUSE's sdbootutil has installed.

    That GRUB has its configuration built in: it shows the entries on the ESP, and takes the default from a
    grubenv there or from EFI variables. What update-bootloader left in /boot counts for nothing.

    Args:
        disk: the host's files.
        vendor: the directory in ``EFI`` whose loader starts, where that is known.

    Raises:
        SourceError: it is one.
    """
    if vendor is None and not _is_suse(disk):
        # It may be another system's beside this one.
        return
    for partition in (*_PARTITIONS, "boot"):
        try:
            names = disk.names(f"{partition}/EFI")
        except SourceError:
            continue
        for name in names:
            folder = f"{partition}/EFI/{name}"
            if name.lower() == _SYSTEMD_BOOT or (vendor is not None and name.lower() != vendor.lower()):
                continue
            if not disk.there(f"{folder}/{_MARK}") or not any(disk.there(f"{folder}/{n}") for n in _LOADERS):
                continue
            what = "this GRUB has entries of sdbootutil's, and its default in files that are not read here"
            raise SourceError(SOURCE, f"{folder}/{_MARK}: {what}; `sdbootutil list-entries` shows them")


def led_elsewhere(disk: Disk, stub: str, own: str) -> str | None:
    """Why a stub on the ESP may lead to another installation's menu, a clause; None: nothing shows that.

    Two installations of one system share a directory in ``EFI``: the one that was installed last has written
    which file system is searched for the menu.

    Args:
        disk: the host's files.
        stub: the path of the stub.
        own: that of the menu in the host's /boot.
    """
    wanted = _searched(disk.peek(stub) or "")
    text = disk.peek(own) or ""
    mounts = _fstab(disk.peek("etc/fstab") or "")
    # Where /boot is mounted by a label or a device, the root's UUID says nothing about it.
    holder = mounts.get("/boot" if "/boot" in mounts else "/")
    ours = {*_searched(text), *([holder] if holder else [])}
    known = {*ours, *mounts.values()}
    if not wanted or not ours or any(uuid in known or uuid in text.lower() for uuid in wanted):
        return None
    return f"{stub}: it leads to the file system {wanted[0]}, and neither {own} nor etc/fstab knows that one"


def _is_suse(disk: Disk) -> bool:
    texts = (disk.peek(path) or "" for path in ("etc/os-release", "usr/lib/os-release"))
    return any(re.search(r"^ID(?:_LIKE)?=.*suse", text, re.MULTILINE) for text in texts)


def _searched(text: str) -> list[str]:
    """The UUIDs of the file systems that a configuration searches for, in lower case."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["search.fs_uuid"] or (
            words[:1] == ["search"] and not {"--fs-uuid", "-u"}.isdisjoint(words)
        ):
            plain = (word.strip("'\"") for word in words[1:])
            found += [word.lower() for word in plain if _UUID.fullmatch(word)][:1]
    return found


def _fstab(text: str) -> dict[str, str | None]:
    """The UUIDs of file systems by where they are mounted; None: mounted by something else."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 1 and not fields[0].startswith("#"):
            by_uuid = fields[0].upper().startswith("UUID=")
            found[fields[1]] = fields[0][5:].strip("'\"").lower() if by_uuid else None
    return found
