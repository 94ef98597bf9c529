# SPDX-License-Identifier: Apache-2.0
"""Whether a boot entry is for recovery: by its title, or by what its command line asks init for."""

from __future__ import annotations

import re

_TITLE = re.compile(r"\b(?:recovery|rescue|emergency|single[- ]user)\b", re.IGNORECASE)
_ARGUMENTS = frozenset(
    {
        # systemd's proc-cmdline of src/core/main.c, and Ubuntu's friendly-recovery
        "single",
        "s",
        "S",
        "1",
        "rescue",
        "emergency",
        "recovery",
        "-b",
        "systemd.unit=rescue",
        "systemd.unit=rescue.target",
        "systemd.unit=emergency",
        "systemd.unit=emergency.target",
    }
)


def is_recovery(title: str, line: str | None) -> bool:
    """Whether it boots to a single user, a rescue system, or says so."""
    return bool(_TITLE.search(title)) or not _ARGUMENTS.isdisjoint((line or "").split())
