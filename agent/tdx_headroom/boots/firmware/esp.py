# SPDX-License-Identifier: Apache-2.0
"""The partitions that EFI programs read: where they are mounted, and files on them in any case of letters."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.hostfs.files import HostFiles

PLACES = ("efi", "boot/efi", "boot")
"""Where an ESP or XBOOTLDR partition is mounted (systemd-gpt-auto-generator, distributions' installers)."""

MOUNTS = "proc/self/mountinfo"
_FAT = frozenset({"vfat", "msdos", "autofs"})


class Found(NamedTuple):
    """A file that an EFI program would find.

    Args:
        path: relative to the host's root.
        unknown: why it cannot be said whether it is there; None: it is.
    """

    path: str
    unknown: SourceError | None = None


def mounted(files: HostFiles) -> tuple[str, ...]:
    """Of :data:`PLACES` those that EFI programs may see: all, but a directory of another file system."""
    kinds = _mounts(files)
    return tuple(
        place for place in PLACES if files.exists(place) and (kinds is None or _FAT & kinds.get(place, set()))
    )


def _mounts(files: HostFiles) -> dict[str, set[str]] | None:
    """The kinds of file system by mount point; None where it is not known what is mounted."""
    try:
        text = files.read(SOURCE, MOUNTS)
    except SourceError:
        return None
    kinds: dict[str, set[str]] = {}
    for line in text.split("\n"):
        # id, parent, device, root, mount point, options, optional fields, "-", kind, source, options
        fields = line.split(" ")
        if len(fields) > 9 and "-" in fields[6:-1]:
            kinds.setdefault(fields[4].strip("/"), set()).add(fields[fields.index("-", 6) + 1])
    return kinds


def find(files: HostFiles, place: str, path: str) -> Found | None:
    r"""A file by its path on a partition, with slashes or backslashes, in any case: FAT has no other names.

    Args:
        files: the host's.
        place: where the partition is mounted.
        path: on it, such as ``\EFI\Linux\a.efi``.

    Returns:
        None where it is not there; that it cannot be looked at is in ``unknown``.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in {"", "."}]
    if ".." in parts or not parts or any("\0" in part for part in parts):
        return None
    whole = "/".join((place, *parts))
    try:
        files.status(SOURCE, whole)
    except SourceError as error:
        return _find_in_any_case(files, place, parts) if _is_absent(error) else Found(whole, error)
    except (OSError, ValueError) as error:
        return Found(whole, SourceError(SOURCE, f"{whole}: {error}"))
    return Found(whole)


def is_there(files: HostFiles, place: str, path: str) -> bool:
    """Whether a file is there for sure; the arguments are those of :func:`find`."""
    found = find(files, place, path)
    return found is not None and found.unknown is None


def _find_in_any_case(files: HostFiles, place: str, parts: Sequence[str]) -> Found | None:
    at = place
    for part in parts:
        try:
            names = files.entries(SOURCE, at)
        except SourceError as error:
            return None if _is_absent(error) else Found(f"{at}/{part}", error)
        name = part if part in names else next((n for n in names if n.lower() == part.lower()), None)
        if name is None:
            return None
        at = f"{at}/{name}"
    try:
        files.status(SOURCE, at)
    except SourceError as error:
        return None if _is_absent(error) else Found(at, error)
    return Found(at)


def _is_absent(error: SourceError) -> bool:
    # A file where a folder should be is as good as nothing.
    return error.absent or error.reason.endswith(os.strerror(errno.ENOTDIR))
