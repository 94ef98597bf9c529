# SPDX-License-Identifier: Apache-2.0
"""Unpacks an archive."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Extract all; without filter=, which Debian 12's Python does not know yet."""
    tar.extraction_filter = getattr(tarfile, "data_filter", None)
    tar.extractall(folder)
