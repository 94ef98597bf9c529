# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom import log
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_failure_was_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees its own errors, though a place is logged once a minute only."""
    monkeypatch.setattr(log, "_failures", log.Failures())


@pytest.fixture
def host_tree(tmp_path: Path) -> Callable[[Mapping[str, str | bytes]], Root]:
    """Writes files by their paths on a host, and gives the root that holds them."""

    def make(files: Mapping[str, str | bytes]) -> Root:
        folder = tmp_path / "host"
        folder.mkdir(exist_ok=True)
        for relative, content in files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Root(folder)

    return make
