# SPDX-License-Identifier: Apache-2.0
"""What the next boot depends on: when one of these changes, its inventory has to be taken anew."""

from __future__ import annotations

import hashlib
import posixpath
from itertools import chain
from typing import TYPE_CHECKING

from tdx_headroom.boots.deployments import OSTREE, SNAPSHOTS
from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.hostfs.files import HostFiles

_ESP = ("boot/efi", "efi")
_EL8 = ("almalinux", "centos", "fedora", "ol", "redhat", "rocky")
"""Vendors whose grub.cfg and grubenv are, or were, on the ESP."""

MODULES = ("lib/modules", "usr/lib/modules")
EFI_VARIABLES = "sys/firmware/efi/efivars"
WATCHED = (
    *("boot", "boot/grub", "boot/grub2", "boot/loader", "boot/loader/entries", "boot/EFI/Linux"),
    *(f"{esp}/{folder}" for esp in _ESP for folder in ("loader", "loader/entries", "EFI/Linux", "grub")),
    *(f"boot/efi/EFI/{vendor}" for vendor in _EL8),
    *MODULES,
    *("etc/modprobe.d", "usr/local/lib/modprobe.d", "usr/lib/modprobe.d", EFI_VARIABLES, OSTREE, SNAPSHOTS),
)
"""Directories, as ``tdx-headroom-boots.path`` watches them."""

MAX_NAMES = 1024
"""Names in one of them that are looked at."""


def state_of_files(files: HostFiles) -> dict[str, str]:
    """A mark of each watched directory that may be looked at, by its path; another content is another mark.

    It says when names came and went, and files were written; what is in a file it does not say.

    Args:
        files: of the host.
    """
    return {path: mark for path in WATCHED if (mark := _mark(files, path)) is not None}


def changed_since(files: HostFiles, state: Mapping[str, str]) -> str | None:
    """The first watched directory that is another one than it was; None: none that may be looked at is.

    Args:
        files: of the host.
        state: as :func:`state_of_files` gave it, to somebody who may look at more.
    """
    now = state_of_files(files)
    changed = (path for path, mark in now.items() if state.get(path) != mark)
    gone = (path for path in state if path not in now and _is_gone(files, path))
    return next(chain(changed, gone), None)


def _mark(files: HostFiles, path: str) -> str | None:
    try:
        names = files.entries(SOURCE, path)
    except SourceError:
        return None
    found = hashlib.blake2b(digest_size=12)
    for name in names[:MAX_NAMES]:
        try:
            # Of a link itself: not everybody may look where it leads. SUSE's go to kernels in
            # /usr/lib/modules, which the agent's sandbox hides, and one of EL 8 to grubenv on an ESP.
            status = files.status(SOURCE, f"{path}/{name}", follow=False)
            # A directory's own time and size are others when something is mounted over it.
            told = (name,) if status.directory else (name, status.size, status.mtime_ns)
        except SourceError as error:
            if not error.absent:
                return None
            told = (name,)  # it went just now
        found.update(repr(told).encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _is_gone(files: HostFiles, path: str) -> bool:
    """Whether it was removed; a container may lack the mount of all that is around it."""
    parent = posixpath.dirname(path)
    try:
        if parent:
            files.status(SOURCE, parent)
    except SourceError:
        return False
    try:
        files.status(SOURCE, path)
    except SourceError as error:
        return error.absent
    return False
