# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.hostfs.files import MAX_FILE
from tdx_headroom.hostfs.root import Root, host_root


def fails(root: Root, relative: str, **options: int) -> str:
    with pytest.raises(SourceError) as caught:
        root.read("test", relative, **options)
    assert caught.value.source == "test"
    return caught.value.reason


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_file_of_a_tree(tmp_path: Path) -> None:
    """A path is looked up below the root."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/iomem").write_text("hello\n")
    assert Root(tmp_path).read("test", "proc/iomem") == "hello\n"
    assert Root(str(tmp_path)).locate("proc/iomem") == f"{tmp_path}/proc/iomem"


def test_live_or_captured(tmp_path: Path) -> None:
    """Only / is the running host, by whatever name."""
    assert Root().live
    assert Root("/proc/..").live
    assert not Root(tmp_path).live


@pytest.mark.root("can mount")
def test_mounts_of_another_process(tmp_path: Path) -> None:
    """/proc/PID/root of a process with another / is refused, since by its name it would be this machine."""
    assert host_root("/proc/self/root").live
    folder = tmp_path / "node"
    folder.mkdir()
    script = (
        'mount -t tmpfs node "$1" && cd "$1" && mkdir old && pivot_root . old && echo ready && read -r end'
    )
    words = ["unshare", "--mount", "sh", "-c", script, "sh", str(folder)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        if other.stdout.readline() != b"ready\n":
            pytest.skip("no mounts in this container")
        with pytest.raises(AgentError, match=f"^/proc/{other.pid}/root leads to other mounts"):
            host_root(f"/proc/{other.pid}/root")
        other.communicate()


def test_file_that_claims_to_be_empty() -> None:
    """Files of /proc have size 0 and are read all the same."""
    assert Path("/proc/version").stat().st_size == 0
    assert Root("/").read("test", "proc/version").startswith("Linux version ")


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    """Broken bytes come escaped, NUL bytes as they are."""
    (tmp_path / "file").write_bytes(b"a\xff\xc3\xa9\x00b\r\n")
    assert Root(tmp_path).read("test", "file") == "a\\xffé\x00b\r\n"


def test_existence(tmp_path: Path) -> None:
    """Files, folders and inherited descriptors exist."""
    (tmp_path / "file").write_text("")
    root = Root(tmp_path, {"proc/iomem": 0})
    assert root.exists("file")
    assert root.exists("proc/iomem")
    assert not root.exists("proc")
    assert root.descriptor("proc/iomem") == 0
    assert root.descriptor("file") is None


def test_descriptor_comes_before_the_file(tmp_path: Path) -> None:
    """An inherited descriptor is read in place of the file, from its start, and stays open."""
    (tmp_path / "file").write_text("the file")
    (tmp_path / "other").write_text("the descriptor")
    fd = os.open(tmp_path / "other", os.O_RDONLY)
    try:
        root = Root(tmp_path, {"file": fd})
        assert [root.read("test", "file") for _ in range(2)] == ["the descriptor"] * 2
        os.fstat(fd)
    finally:
        os.close(fd)


def test_descriptors_are_not_leaked(tmp_path: Path) -> None:
    """Reading leaves nothing open, whether it succeeds or not."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    root = Root(tmp_path)
    before = open_descriptors()
    root.read("test", "file")
    fails(root, "folder")
    fails(root, "file", limit=0)
    assert open_descriptors() == before


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    """A program that the agent might run does not get the host's files."""
    (tmp_path / "file").write_text("x")
    fd = Root(tmp_path).open("test", "file")
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("size", "good"), [(0, True), (4095, True), (4096, True), (4097, False), (1 << 20, False)]
)
def test_limit(tmp_path: Path, size: int, good: bool) -> None:  # noqa: FBT001
    """A file up to the limit is read whole, a larger one is refused, not cut."""
    (tmp_path / "file").write_bytes(b"x" * size)
    if good:
        assert len(Root(tmp_path).read("test", "file", limit=4096)) == size
    else:
        assert "is larger than" in fails(Root(tmp_path), "file", limit=4096)


@pytest.mark.parametrize(("limit", "shown"), [(4096, "4 KiB"), (MAX_FILE, "16 MiB")])
def test_limit_is_shown_as_it_is(tmp_path: Path, limit: int, shown: str) -> None:
    """The message names the limit that was exceeded."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(limit + 1)
    assert fails(Root(tmp_path), "file", limit=limit) == f"{tmp_path}/file is larger than {shown}"


def test_names_in_a_folder(tmp_path: Path) -> None:
    """Names come sorted, hidden ones too."""
    for name in ("b", "a", "10", "2", ".x"):
        (tmp_path / name).write_text("")
    assert Root(tmp_path).entries("test", "") == [".x", "10", "2", "a", "b"]


def test_folder_that_is_none(tmp_path: Path) -> None:
    """A missing folder and a file in its place are named as what they are."""
    (tmp_path / "file").write_text("")
    for relative, reason in (("nothing", "No such file or directory"), ("file", "Not a directory")):
        with pytest.raises(SourceError) as caught:
            Root(tmp_path).entries("test", relative)
        assert caught.value.reason == f"{tmp_path}/{relative}: {reason}"


def test_folder_with_too_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of absurd size is refused."""
    monkeypatch.setattr("tdx_headroom.hostfs.root.MAX_ENTRIES", 3)
    for name in "abc":
        (tmp_path / name).write_text("")
    assert len(Root(tmp_path).entries("test", "")) == 3
    (tmp_path / "d").write_text("")
    with pytest.raises(SourceError, match="has 4 entries, more than 3"):
        Root(tmp_path).entries("test", "")


def test_a_link_does_not_lead_out_of_a_captured_tree(tmp_path: Path) -> None:
    """A capture from somebody else must not make the agent read this host's files."""
    (tmp_path / "tree" / "proc").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "tree" / "proc" / "iomem").symlink_to(tmp_path / "secret")
    (tmp_path / "tree" / "sys").symlink_to(tmp_path)
    root = Root(tmp_path / "tree")
    for relative in ("proc/iomem", "sys/secret", "../secret"):
        assert "leads out of" in fails(root, relative)
        assert not root.exists(relative)


@pytest.mark.parametrize("without_proc", [False, True], ids=["with /proc", "without /proc"])
def test_links_in_a_captured_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, without_proc: bool
) -> None:
    """Within the tree links are followed, also one that a folder is replaced by between two files."""
    if without_proc:
        monkeypatch.setattr("os.readlink", not_in_proc)
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for folder in (tree / "proc", tree / "kept", outside):
        folder.mkdir(parents=True)
    for path in (tree / "proc/iomem", tree / "kept/iomem", outside / "iomem"):
        path.write_text(path.parent.name)
    (tree / "link").symlink_to("kept/iomem")
    (tree / "gone").symlink_to("/nowhere")
    root = Root(tree)
    assert root.read("test", "link") == "kept"
    assert root.read("test", "proc/iomem") == "proc"
    assert "leads out of" in fails(root, "gone")
    for target, says in ((outside, None), ("kept", "kept")):
        (tree / "proc").rename(tree / f"proc-{says}")
        (tree / "proc").symlink_to(target)
        if says is None:
            assert "leads out of" in fails(root, "proc/iomem")
        else:
            assert root.read("test", "proc/iomem") == says


READLINK = os.readlink


def not_in_proc(path: str) -> str:
    if path.startswith("/proc/"):
        raise PermissionError(13, "Permission denied", path)
    return READLINK(path)


@pytest.mark.skipif(not Path("/sys/kernel/uevent_seqnum").exists(), reason="no sysfs")
def test_a_file_of_sysfs_is_as_long_as_what_is_in_it() -> None:
    """sysfs gives a page as the size of every file: what there is to read is within the limit."""
    path = Path("/sys/kernel/uevent_seqnum")
    assert path.stat().st_size > 64
    assert Root("/").read("sysfs", "sys/kernel/uevent_seqnum", limit=64).strip().isdigit()
