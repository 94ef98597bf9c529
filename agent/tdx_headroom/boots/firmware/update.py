# SPDX-License-Identifier: Apache-2.0
"""Whether new firmware is staged: it installs at the next boot, and its memory map may be another one.

After fwupd's plugins/uefi-capsule, and UEFI 8.5.5 (capsules as files). ``/sys/firmware/efi/esrt`` only lists
what can be updated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.boots.firmware import esp
from tdx_headroom.boots.firmware.efi_variables import FOLDER, parse_value, read_value
from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.hostfs.files import HostFiles

BOOT_TO_SETUP = 0x1
CAPSULE_FILES = 0x4
"""Bits of OsIndications."""

_VARIABLE = re.compile(
    r"fwup(?:d|date)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]+-0abba7dc(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.IGNORECASE,
)
_STATUS = slice(48, 52)
"""Of a fwupd variable: behind version, GUID, flags, instance and time."""
_ATTEMPTED = 2
_MAX_FOLDERS = 256
"""Of an ESP that are looked into."""


def is_updater(description: str, file: str) -> bool:
    """Whether a boot option starts fwupd's updater: ``Linux Firmware Updater``, ``fwupdx64.efi``."""
    name = file.rsplit("\\", 1)[-1].lower()
    return name.startswith(("fwupd", "fwupx64", "fwupia32", "fwupaa64")) or description.lower() in {
        "linux firmware updater",
        "linux-firmware-updater",
        "fwupd",
    }


def read_firmware_update(files: HostFiles) -> str | None:
    """What is staged, in words that name what was seen; None: nothing is seen."""
    done, seen = False, []
    for name in _variables(files):
        if _was_attempted(files, name):
            done = True
        else:
            seen.append(f"the EFI variable {name}")
    # fwupd leaves its files until the service runs again: after an attempt they tell nothing.
    if seen or not done:
        seen += _capsules(files)
    if _os_indications(files) & CAPSULE_FILES:
        seen.append("OsIndications asks the firmware to take capsules from the ESP")
    if not seen:
        return None
    more = f" and {len(seen) - 3} more" if len(seen) > 3 else ""
    return f"{', '.join(seen[:3])}{more}"


def read_stops_in_setup(files: HostFiles) -> str | None:
    """A clause where the next boot stops in the firmware's setup."""
    asked = _os_indications(files) & BOOT_TO_SETUP
    return "OsIndications: the next boot stops in the firmware's setup" if asked else None


def _variables(files: HostFiles) -> list[str]:
    try:
        return [name for name in files.entries(SOURCE, FOLDER) if _VARIABLE.fullmatch(name)]
    except SourceError:
        return []


def _was_attempted(files: HostFiles, name: str) -> bool:
    try:
        value = parse_value(files.read_bytes(SOURCE, f"{FOLDER}/{name}", limit=1 << 16))
    except SourceError:
        return False
    return int.from_bytes(value[_STATUS], "little") == _ATTEMPTED


def _os_indications(files: HostFiles) -> int:
    try:
        value = read_value(files, "OsIndications")
    except SourceError:
        return 0
    return int.from_bytes((value or b"")[:8], "little")


def _capsules(files: HostFiles) -> list[str]:
    """Capsules on mounted partitions: in ``EFI/VENDOR/fw`` (fwupd), and in ``EFI/UpdateCapsule``."""
    seen = []
    for place in esp.mounted(files):
        root = esp.find(files, place, "EFI")
        for vendor in _names(files, root.path if root else "")[:_MAX_FOLDERS]:
            folder = f"{root.path if root else ''}/{vendor}"
            if vendor.lower() == "updatecapsule":
                seen += [f"{folder}/{name}" for name in _names(files, folder)]
            else:
                seen += [
                    f"{folder}/fw/{name}"
                    for name in _names(files, f"{folder}/fw")
                    if re.fullmatch(r"fwup(d|date)-.*\.cap", name, re.IGNORECASE)
                ]
    return list(dict.fromkeys(seen))


def _names(files: HostFiles, folder: str) -> list[str]:
    if not folder:
        return []
    try:
        return list(_plain(files.entries(SOURCE, folder)))
    except SourceError:
        return []


def _plain(names: list[str]) -> Iterator[str]:
    return (name for name in names if name.isprintable() and not name.startswith("."))
