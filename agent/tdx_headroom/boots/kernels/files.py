# SPDX-License-Identifier: Apache-2.0
"""Where a kernel's own files are."""

from __future__ import annotations

import re

MODULES = ("usr/lib/modules/{}", "lib/modules/{}")
"""Where a kernel's modules are: the second is a link to the first on most systems of today."""

_RELEASE = re.compile(r"(?!\.\.?$)[!-.0-~]{1,200}", re.ASCII)


def is_release(text: str) -> bool:
    """Whether this can be a kernel's release, and part of a file's name: neither a path nor ``..``."""
    return _RELEASE.fullmatch(text) is not None
