# SPDX-License-Identifier: Apache-2.0
"""Where a kernel's own files are, and why one could not be read, as a clause."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line

if TYPE_CHECKING:
    from tdx_headroom.errors import SourceError
    from tdx_headroom.hostfs.files import HostFiles

MODULES = ("usr/lib/modules/{}", "lib/modules/{}")
"""Where a kernel's modules are: the second is a link to the first on most systems of today."""

_RELEASE = re.compile(r"(?!\.\.?$)[!-.0-~]{1,200}", re.ASCII)


def is_release(text: str) -> bool:
    """Whether this can be a kernel's release, and part of a file's name: neither a path nor ``..``."""
    return _RELEASE.fullmatch(text) is not None


def clause(files: HostFiles, path: str, error: SourceError) -> str:
    """Why a file could not be read: its path relative to the host's root, and the reason."""
    reason, place, shown = one_line(error.reason), one_line(files.locate(path)), one_line(path)
    return shown + reason.removeprefix(place) if reason.startswith(place) else f"{shown}: {reason}"
