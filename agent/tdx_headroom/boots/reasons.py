# SPDX-License-Identifier: Apache-2.0
"""Why something of a boot configuration is not known, as one clause that names the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError, one_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "boots"
"""The source's name in errors of this package."""

MAX_NOTES = 20
"""No reader gives more notes: a hostile tree must not fill the page."""


def reason_of(files: HostFiles, path: str, error: SourceError) -> str:
    """A clause such as ``boot/grub/grub.cfg: Permission denied``; paths are relative to the root."""
    reason = error.reason
    located = files.locate(path)
    if reason.startswith(located):
        reason = path + reason[len(located) :]
    # A tree in memory follows no links, and its label may be any word.
    if files.path.startswith("/") and not files.live:
        reason = reason.replace(f"{files.path}/", "").replace(files.path, "the tree")
    # Where a link was followed the error names its target; the clause names what was asked for.
    if path not in reason:
        reason = f"{path}: {reason.lstrip('/')}"
    return one_line(reason)


def clause(path: str, what: str) -> str:
    """A clause about a file."""
    return one_line(f"{path}: {printable(what)}")


def bounded(notes: Sequence[str]) -> tuple[str, ...]:
    """Notes without repeats, and not too many of them."""
    unique = list(dict.fromkeys(notes))
    if len(unique) <= MAX_NOTES:
        return tuple(unique)
    left = len(unique) - MAX_NOTES + 1
    return (*unique[: MAX_NOTES - 1], f"{left} more notes of this kind are left out")
