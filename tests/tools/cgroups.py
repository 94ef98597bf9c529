# SPDX-License-Identifier: Apache-2.0
"""A cgroup for what a test runs in containers, of which nothing is left at the end."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools.steps import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOP = Path("/sys/fs/cgroup")


@contextmanager
def cgroup(name: str) -> Iterator[None]:
    """One of this name in every hierarchy, while the block lasts; what ran there must have ended then."""
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
    try:
        yield
    finally:
        wait_for("end of the cgroups", lambda: _without(name))


def _hierarchies() -> list[Path]:
    """The folders of each hierarchy of cgroups (v1), or the one (v2)."""
    if (_TOP / "cgroup.procs").exists():
        return [_TOP]
    return [path for path in _TOP.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _without(name: str) -> bool:
    """Whether no hierarchy has this cgroup any more, after an attempt to remove it."""
    for hierarchy in _hierarchies():
        for path, _, _ in os.walk(hierarchy / name, topdown=False):
            with suppress(OSError):
                os.rmdir(path)  # noqa: PTH106  a cgroup's files are the kernel's and go with it
    return not any((hierarchy / name).exists() for hierarchy in _hierarchies())
