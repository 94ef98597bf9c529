# SPDX-License-Identifier: Apache-2.0
"""Releases in the names that distributions give to images of kernels."""

from __future__ import annotations

import re

_IMAGE = re.compile(
    # NixOS puts a hash in front, and ``-bzImage`` behind.
    r"(?:[0-9a-z]{32}-)?(?:vmlinuz|vmlinux|linux|kernel|bzImage)-"
    r"(?P<release>[0-9]+\.[0-9]+[0-9A-Za-z._+~-]*?)(?:-bzImage)?(?:\.efi)?(?:\.signed)?",
    re.ASCII,
)
_KEPT = (".old", ".bak")
"""How the image of an earlier installation ends; its release need not be the one in the name."""


def release_in_name(name: str) -> str | None:
    """The release in an image's name, without its folder; None: only the image itself knows it."""
    match = _IMAGE.fullmatch(name)
    return None if match is None or match["release"].endswith(_KEPT) else match["release"]
