# SPDX-License-Identifier: Apache-2.0
"""A captured tree of which only what has changed is read again."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs import kept as module
from tdx_headroom.hostfs.kept import KeptRoot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every read of a file's bytes that reaches the system."""
    seen: list[int] = []
    real: Callable[[int, int, int], bytes] = os.pread

    def pread(fd: int, size: int, offset: int) -> bytes:
        seen.append(fd)
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    return seen


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every file was written long ago."""
    monkeypatch.setattr(time, "time_ns", lambda: 1 << 62)


def read(root: KeptRoot, name: str = "a", **more: int) -> str:
    return root.read("test", name, **more)


@pytest.mark.usefixtures("settled")
def test_what_has_not_changed_is_not_read_again(tmp_path: Path, reads: list[int]) -> None:
    """The second time nothing is read; a file that is written to or replaced is."""
    (tmp_path / "a").write_text("one")
    root = KeptRoot(tmp_path)
    assert read(root) == read(root) == "one"
    first = len(reads)
    assert read(root) == "one"
    assert len(reads) == first
    (tmp_path / "a").write_text("other")
    assert read(root) == "other"
    (tmp_path / "b").write_text("third")
    (tmp_path / "b").rename(tmp_path / "a")
    assert read(root) == "third"
    (tmp_path / "a").unlink()
    with pytest.raises(SourceError, match="No such file"):
        read(root)


def test_a_file_that_is_new_is_read_again(tmp_path: Path, reads: list[int]) -> None:
    """Its times may not tell of a second change within the same tick."""
    (tmp_path / "a").write_text("one")
    root = KeptRoot(tmp_path)
    read(root)
    first = len(reads)
    read(root)
    assert len(reads) == 2 * first


@pytest.mark.usefixtures("settled")
def test_other_file_systems_are_read_again(tmp_path: Path, reads: list[int]) -> None:
    """Files of /proc change without their inodes; a host's is mounted in the tree in a container."""
    (tmp_path / "proc").mkdir()
    root = KeptRoot("/")
    for _ in range(2):
        before = len(reads)
        assert read(root, "proc/uptime")
        assert len(reads) > before


@pytest.mark.usefixtures("settled")
def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[int]) -> None:
    """What is kept is bounded, and what is too large for a reader is refused all the same."""
    root = KeptRoot(tmp_path)
    monkeypatch.setattr(module, "MAX_KEPT", 100)
    for number in range(9):
        (tmp_path / f"f{number}").write_text("x" * 40)
        assert len(read(root, f"f{number}")) == 40
    first = len(reads)
    read(root, "f8")
    assert len(reads) == first
    read(root, "f0")
    assert len(reads) > first
    with pytest.raises(SourceError, match="larger"):
        read(root, "f8", limit=10)


@pytest.mark.usefixtures("settled")
def test_links_still_must_not_lead_out(tmp_path: Path) -> None:
    """A link that leads out of the tree is refused each time."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "tree/a").symlink_to("../secret")
    for _ in range(2):
        with pytest.raises(SourceError, match="leads out"):
            read(KeptRoot(tmp_path / "tree"))


@pytest.mark.usefixtures("settled")
def test_descriptors_are_read_each_time(tmp_path: Path) -> None:
    """What was handed in is no file of the tree."""
    (tmp_path / "given").write_text("one")
    with (tmp_path / "given").open() as given:
        root = KeptRoot(tmp_path).holding({"a": given.fileno()})
        assert read(root) == "one"
        (tmp_path / "given").write_text("two")
        assert read(root) == "two"
