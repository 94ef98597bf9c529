# SPDX-License-Identifier: Apache-2.0
"""Whether a kernel waits in memory to be started without the firmware (kernel/ksysfs.c)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import BootEntry, Loader, Role

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.hostfs.files import HostFiles

PATHS = ("sys/kernel/kexec/loaded", "sys/kernel/kexec_loaded")
"""The newer place, then the older one. ``kexec_crash_loaded`` is no next boot: it is for a crash only."""


def loaded_by_kexec(files: HostFiles) -> str | None:
    """The file that tells that ``systemctl reboot`` or ``kexec -e`` starts a loaded kernel; None: none does.

    Which kernel it is, and its command line, the running kernel does not show.
    """
    for path in PATHS:
        try:
            text = files.read(SOURCE, path, limit=64).strip()
        except SourceError:
            continue
        if text in {"0", "1"}:
            return path if text == "1" else None
    return None


def with_kexec(inventory: BootInventory, files: HostFiles) -> BootInventory:
    """The inventory of what is on disk, with the kernel before it that kexec has loaded, if it has.

    Args:
        inventory: of what firmware and boot loader would start.
        files: of the host.
    """
    told_by = loaded_by_kexec(files)
    if told_by is None:
        return inventory
    staged = (Role.NEXT, Role.ONE_SHOT)
    others = [replace(e, roles=tuple(r for r in e.roles if r not in staged)) for e in inventory.entries]
    loaded = BootEntry(
        loader=Loader.KEXEC,
        roles=(Role.KEXEC,),
        known_from=told_by,
        unknown="nothing shows which kernel kexec has loaded",
    )
    return replace(
        inventory,
        entries=(*others, loaded),
        unknown="a kernel is loaded by kexec",
        kexec_loaded=True,
        takes_once=False,
        takes_default=False,
    )
