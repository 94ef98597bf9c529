# SPDX-License-Identifier: Apache-2.0
"""npm packages that .ci/run, or a test that is not part of it, installs in a cache outside the checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest


class NpmPackages(NamedTuple):
    """Packages in a folder of their own.

    Args:
        folder_name: of that folder, with the version of the first.
        packages: with their versions, as npm takes them.
    """

    folder_name: str
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where ``npm install --prefix`` puts them."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "tdx-headroom" / self.folder_name

    @property
    def modules(self) -> Path:
        """Where node looks for them."""
        return self.folder / "node_modules"

    def need(self, file: str) -> Path:
        """A file of theirs; the test is skipped, with the command that brings it, where it is not there."""
        path = self.modules / file
        if not path.exists():
            names = " ".join(self.packages)
            pytest.skip(f"not installed: npm install --prefix {self.folder} --ignore-scripts {names}")
        return path
