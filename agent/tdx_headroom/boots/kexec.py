# SPDX-License-Identifier: Apache-2.0
"""Whether a kernel waits in memory to be started without the firmware (kernel/ksysfs.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
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
