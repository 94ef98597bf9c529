# SPDX-License-Identifier: Apache-2.0
"""Which configuration file GRUB reads on a host, and whose GRUB reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.grub.default import Dialect
from tdx_headroom.boots.grub.elsewhere import check_sdbootutil, led_elsewhere, proxmox_config
from tdx_headroom.boots.grub.paths import SOURCE
from tdx_headroom.errors import SourceError
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from tdx_headroom.boots.grub.paths import Disk

_OWN = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
_ESP = ("boot/efi", "efi", "boot")
_FALLBACK = "boot"
"""The directory of the loader that is started when no boot variable names one."""

_MENU = re.compile(r"^\s*(?:menuentry|submenu|blscfg|bls_import)\b", re.MULTILINE)
_LEADS_ON = re.compile(r"^\s*(?:configfile|normal|source|\.)\s", re.MULTILINE)
_BLSCFG = re.compile(r"^\s*(?:blscfg|bls_import)\b", re.MULTILINE)
_SUSE = re.compile(r"\bsuse|btrfs_relative_path", re.IGNORECASE)
_FEDORA = re.compile(r"^\s*(?:set (?:tuned_params|menu_hide_ok|kernelopts)=|increment boot_)", re.MULTILINE)
_RED_HAT_IDS = frozenset(
    {"fedora", "rhel", "centos", "rocky", "almalinux", "ol", "amzn", "anolis", "openeuler"}
)
_VENDORS = {"rhel": "redhat", "ol": "redhat", "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse"}


class Config(NamedTuple):
    """What is known of the GRUB that starts.

    Args:
        path: of its configuration file.
        dialect: whose it is.
        platform: ``efi`` or ``pc``; None: not known.
        doubt: why GRUB may read another one, a clause.
    """

    path: str
    dialect: Dialect
    platform: str | None
    doubt: str | None = None


def find_config(disk: Disk, vendor: str | None = None) -> Config | None:
    """The configuration that counts; None: there is none.

    Args:
        disk: the host's files.
        vendor: the directory in ``EFI`` whose loader starts, where that is known.

    Raises:
        SourceError: a configuration, or the directory that would have it, cannot be looked at; or there are
            several, and nothing tells which of them counts.
    """
    platform = _platform(disk)
    if (on_partition := proxmox_config(disk)) is not None:
        return Config(on_partition, Dialect.UPSTREAM, platform)
    if platform != "pc":
        check_sdbootutil(disk, vendor)
    own = [path for path in _OWN if disk.status(path) is not None]
    on_esp = _on_esp(disk, vendor, alone=not own) if platform != "pc" or not own else {}
    menus = [path for path, text in on_esp.items() if _MENU.search(text)]
    stubs = [path for path, text in on_esp.items() if path not in menus and _LEADS_ON.search(text)]
    ids = [vendor.lower()] if vendor is not None else _system_ids(disk)
    chosen = _of_system(menus, ids)
    if chosen is None:
        # Another system's menu may be on the ESP; a stub leads to one of this host's own.
        others = own if own and (stubs or ids or not menus) else menus
        if len(others) > 1:
            stub = _of_system(stubs, ids) or next(iter(stubs), None)
            others = others if stub is None else [stub]
        others = others or stubs
        if len(others) > 1:
            raise SourceError(SOURCE, f"{others[0]} and {others[1]}: it is not known which of them counts")
        if not others:
            return None
        chosen = others[0]
    if platform is None and chosen not in own:
        platform = "efi"
    stub = _of_system(stubs, ids) if chosen in own else None
    doubt = None if stub is None else led_elsewhere(disk, stub, chosen)
    return Config(chosen, _dialect(disk, chosen, own), platform, doubt)


def _platform(disk: Disk) -> str | None:
    """How this host's firmware starts a loader."""
    if disk.status("sys/firmware/efi") is not None:
        return "efi"
    return "pc" if disk.status("sys/firmware") is not None else None


def _on_esp(disk: Disk, vendor: str | None, *, alone: bool) -> dict[str, str]:
    """The configuration files beside loaders on an ESP that can be read, with their texts.

    Args:
        disk: the host's files.
        vendor: as in :func:`find_config`.
        alone: whether there is none in /boot.

    Raises:
        SourceError: one cannot be read, or there may be one where nobody may look, and nowhere else.
    """
    found: dict[str, str] = {}
    refused: SourceError | None = None
    for esp in _ESP:
        try:
            names = [n for n in disk.names(f"{esp}/EFI") if vendor is None or n.lower() == vendor.lower()]
            paths = [path for n in names if disk.status(path := f"{esp}/EFI/{n}/grub.cfg") is not None]
        except SourceError as error:
            # Where it is mounted for root alone, what is in /boot counts.
            refused = refused or (None if error.absent else error)
            continue
        for path in paths:
            found.setdefault(path, disk.text(path))
    if refused is not None and alone and not found:
        raise refused
    others = {path: text for path, text in found.items() if _directory(path).lower() != _FALLBACK}
    return others or found


def _directory(path: str) -> str:
    return path.split("/")[-2]


def _of_system(paths: list[str], ids: list[str]) -> str | None:
    """The one whose directory is named after the system of this host; None: there is none."""
    wanted = [_VENDORS.get(name, name) for name in ids]
    return next((path for name in wanted for path in paths if _directory(path).lower() == name), None)


def _system_ids(disk: Disk) -> list[str]:
    """``ID`` and ``ID_LIKE`` of os-release; none when it cannot be read."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        try:
            text = disk.text(path, 64 << 10)
        except SourceError:
            continue
        values = dict(line.split("=", 1) for line in lines_of(text) if "=" in line)
        both = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}"
        return both.replace('"', "").replace("'", "").split()
    return []


def _dialect(disk: Disk, chosen: str, own: list[str]) -> Dialect:
    """Whose GRUB reads the files, by what they hold and by the system's name."""
    text = "\n".join(disk.text(path) for path in dict.fromkeys([chosen, *own]))
    if _BLSCFG.search(text):
        return Dialect.RED_HAT
    if _SUSE.search(text):
        return Dialect.UPSTREAM
    if _FEDORA.search(text) or _RED_HAT_IDS.intersection(_system_ids(disk)):
        return Dialect.RED_HAT
    return Dialect.UPSTREAM
