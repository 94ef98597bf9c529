# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.memory import load_tree
from tdx_headroom.hostfs.root import Root

HOSTS = sorted(path for path in (Path(__file__).parents[2] / "hosts").iterdir() if path.is_dir())


@pytest.mark.parametrize("host", HOSTS, ids=lambda path: path.name)
def test_the_same_facts(host: Path) -> None:
    """A tree in memory gives the facts that the tree gives."""
    assert read_facts(load_tree(host)) == read_facts(Root(host))


def test_nothing_is_needed_afterwards(tmp_path: Path) -> None:
    """When the tree has gone it is read all the same."""
    shutil.copytree(HOSTS[0], tmp_path / "host")
    root = load_tree(tmp_path / "host")
    before = read_facts(root)
    shutil.rmtree(tmp_path / "host")
    assert read_facts(root) == before


def test_what_is_not_there(tmp_path: Path) -> None:
    """Missing files and folders are missing as in any root."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    root = load_tree(tmp_path)
    for call in (root.read, root.open, root.entries):
        with pytest.raises(SourceError, match=f"{tmp_path}/nothing: No such file or directory"):
            call("test", "nothing")
    assert [root.exists(path) for path in ("a", "a/", "a/b", "b")] == [True, True, True, False]
    with pytest.raises(SourceError, match="larger than"):
        root.read("test", "a/b", limit=0)
    fd = root.open("test", "a/b")
    assert os.read(fd, 10) == b"x"
    os.close(fd)


def test_no_link_leads_out(tmp_path: Path) -> None:
    """A link out of the tree is refused."""
    (tmp_path / "host").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "host" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match="leads out of"):
        load_tree(tmp_path / "host")


def test_a_link_to_its_parent(tmp_path: Path) -> None:
    """A tree without end is refused."""
    (tmp_path / "again").symlink_to(tmp_path)
    with pytest.raises(SourceError, match="too deep"):
        load_tree(tmp_path)


def test_no_file_of_the_running_host(tmp_path: Path) -> None:
    """Descriptors of the running host's files do not get into it; into a plain root they do."""
    assert load_tree(tmp_path).holding({"dev/kmsg": 0}).descriptor("dev/kmsg") is None
    both = Root(tmp_path, {"proc/iomem": 3}).holding({"dev/kmsg": 0})
    assert (both.descriptor("dev/kmsg"), both.descriptor("proc/iomem")) == (0, 3)
