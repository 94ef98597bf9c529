# SPDX-License-Identifier: Apache-2.0
"""Systems that boot another copy of themselves next, which the boot loader's files here do not tell yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import SOURCE, clause
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import Loader

if TYPE_CHECKING:
    from tdx_headroom.boots.menu import Menu
    from tdx_headroom.hostfs.files import HostFiles

OSTREE = "run/ostree"
SNAPSHOTS = ".snapshots"
_STAGED = f"{OSTREE}/staged-deployment"
_LOCKED = f"{OSTREE}/staged-deployment-locked"
_OWN = frozenset({"boot/grub/grub.cfg", "boot/grub2/grub.cfg"})
_MOUNTS = "proc/self/mountinfo"
_MAX_SNAPSHOTS = 4096
_MAX_INFO = 64 << 10
_RUNNING = re.compile(r"(?:/|\A)\.snapshots/([0-9]{1,9})/snapshot")
_MADE = re.compile(r"<(type|cleanup|description)>([^<]*)</")
_TO_BOOT = ("Snapshot Update of #", "writable copy of #")
"""What transactional-update and `snapper rollback` call a snapshot that they make the default one."""


def deployment_pending(files: HostFiles, menu: Menu) -> str | None:
    """Why what boots next is not in the boot loader's files here, a clause; None: nothing shows that.

    Args:
        files: of the host.
        menu: of the boot loader that starts.
    """
    found = _of_ostree(files)
    if found is None and menu.loader is Loader.GRUB and _OWN.intersection(menu.known_from):
        found = _of_snapper(files)
    return found


def _of_ostree(files: HostFiles) -> str | None:
    """A staged deployment of ostree's, also of bootc's.

    ostree-finalize-staged.service writes its entry when the host shuts down, unless that is locked
    (``_ostree_sysroot_finalize_staged()`` of src/libostree/ostree-sysroot-deploy.c).
    """
    if not files.exists(_STAGED) or files.exists(_LOCKED):
        return None
    what = "a deployment is staged, whose boot entry is written only at the shutdown"
    return clause(_STAGED, f"{what}; `ostree admin status` names it")


def _of_snapper(files: HostFiles) -> str | None:
    """A snapshot of SUSE's that is younger than the running one, and may be the default subvolume by now.

    With ``btrfs_relative_path`` GRUB's paths begin at the default subvolume: it reads /boot/grub2 there. Only
    an ioctl tells which one that is. Snapshots that zypper or a timer makes are never made the default.
    """
    running = _running_snapshot(files)
    if running is None:
        return None
    try:
        names = files.entries(SOURCE, SNAPSHOTS)
    except SourceError:
        return None
    numbers = sorted(int(name) for name in names[:_MAX_SNAPSHOTS] if name.isascii() and name.isdigit())
    for number in reversed([number for number in numbers if number > running]):
        folder = f"{SNAPSHOTS}/{number}"
        held = any(files.exists(f"{folder}/snapshot/{path}") for path in sorted(_OWN))
        if held and _may_boot(files, f"{folder}/info.xml"):
            what = (
                f"it is younger than the running snapshot {running}, and may be what GRUB reads its menu from"
            )
            return clause(f"{folder}/snapshot", f"{what}; `btrfs subvolume get-default /` tells")
    return None


def _running_snapshot(files: HostFiles) -> int | None:
    """The number of the snapshot that is mounted at /, and holds /boot; None: there is none."""
    try:
        text = files.read(SOURCE, _MOUNTS)
    except SourceError:
        return None
    # id, parent, device, root, mount point
    roots = {fields[4]: fields[3] for fields in map(str.split, text.splitlines()) if len(fields) > 9}
    match = None if "/boot" in roots else _RUNNING.search(roots.get("/", ""))
    return None if match is None or match.end() != len(match.string) else int(match[1])


def _may_boot(files: HostFiles, info: str) -> bool:
    """Whether a snapshot was made to be booted, by snapper's account of it."""
    try:
        made: dict[str, str] = dict(_MADE.findall(files.read(SOURCE, info, limit=_MAX_INFO)))
    except SourceError:
        return True
    if description := made.get("description"):
        return description.startswith(_TO_BOOT)
    return made.get("type", "single") == "single" and not made.get("cleanup")
