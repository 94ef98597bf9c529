# SPDX-License-Identifier: Apache-2.0
"""Marks of this very machine, by which a state that came along with a disk image is told from its own."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from tdx_headroom.sources.reading import attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "machine"
_PARTS = (
    ("sys/class/nvme", "serial"),
    ("sys/block", "device/wwid"),
    ("sys/class/net", "address"),
)
"""Folders, and the file in each of their entries that no other machine has the like of."""

_UUID = "sys/class/dmi/id/product_uuid"
_MAX_ENTRIES = 64
_LENGTH = 16
_NOTHING = frozenset("0:.- fF")
"""Characters of which an identifier that was never set consists."""


def machine_marks(files: HostFiles) -> tuple[str, ...]:
    """Digests of serial numbers and addresses; nothing that could be told from them leaves them.

    Several, since each part of a machine may be replaced; none where nothing may be read, or where a virtual
    machine has nothing of its own.
    """
    found = {hashlib.sha256(text.encode()).hexdigest()[:_LENGTH] for text in _identifiers(files)}
    return tuple(sorted(found))


def _identifiers(files: HostFiles) -> Iterator[str]:
    paths = [_UUID]
    for folder, name in _PARTS:
        entries = attempt(SOURCE, folder, partial(files.entries, SOURCE, folder)).value or []
        paths += [f"{folder}/{entry}/{name}" for entry in entries[:_MAX_ENTRIES]]
    for path in paths:
        text = attempt(SOURCE, path, partial(files.read, SOURCE, path)).value
        if text is not None and not set(text.strip()) <= _NOTHING:
            yield f"{path.rpartition('/')[2]} {text.strip()}"
