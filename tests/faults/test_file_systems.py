# SPDX-License-Identifier: Apache-2.0
"""Faults of files and folders, not of what is in them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.files import MAX_FILE
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.iomem import read_iomem

IOMEM = "00001000-0009ffff : System RAM\n00100000-5d168fff : System RAM\n"
PATHS = [
    "proc/iomem",
    "sys/kernel/debug/memblock/memory",
    "dev/kmsg",
    "proc/cpuinfo",
    "proc/zoneinfo",
    "sys/firmware/memmap/0/start",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host's tree whose folders are there."""
    for path in PATHS:
        (tmp_path / "host" / path).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path / "host"


def reason(root: Path, relative: str) -> str:
    """Why the file cannot be read; reading must not take long to say so."""
    before = time.monotonic()
    with pytest.raises(SourceError) as caught:
        Root(root).read("test", relative)
    assert time.monotonic() - before < 5
    assert caught.value.source == "test"
    assert caught.value.line is None
    return caught.value.reason.replace(str(root), "<root>")


def test_missing(tree: Path) -> None:
    """A missing file, and one below a missing folder, are named with their path."""
    assert reason(tree, "proc/iomem") == "<root>/proc/iomem: No such file or directory"
    assert reason(tree, "gone/iomem") == "<root>/gone/iomem: No such file or directory"


def test_file_in_place_of_a_folder(tree: Path) -> None:
    """A path that goes through a file is no path."""
    (tree / "proc/iomem").write_text(IOMEM)
    assert reason(tree, "proc/iomem/x") == "<root>/proc/iomem/x: Not a directory"


@pytest.mark.parametrize("relative", PATHS)
def test_fifo(tree: Path, relative: str) -> None:
    """A FIFO that nobody writes to is refused at once, for every source."""
    os.mkfifo(tree / relative)
    assert reason(tree, relative) == f"<root>/{relative} is not a regular file"
    before = time.monotonic()
    facts = read_facts(Root(tree))
    assert time.monotonic() - before < 5
    assert any(source.error and "is not a regular file" in source.error for source in facts.sources)


@pytest.mark.parametrize("relative", PATHS)
def test_folder(tree: Path, relative: str) -> None:
    """A folder in place of a file is refused."""
    (tree / relative).mkdir()
    assert reason(tree, relative) == f"<root>/{relative} is not a regular file"
    assert any("is not a regular file" in (source.error or "") for source in read_facts(Root(tree)).sources)


def test_socket(tree: Path) -> None:
    """A socket cannot be opened as a file."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "proc/iomem"))
        assert reason(tree, "proc/iomem") == "<root>/proc/iomem: No such device or address"


@pytest.mark.root("can make device files")
def test_device(tree: Path) -> None:
    """A device in a captured tree is refused: /dev/zero has no end."""
    try:
        os.mknod(tree / "proc/iomem", 0o020666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this sandbox has no mknod")
    assert reason(tree, "proc/iomem") == "<root>/proc/iomem is not a regular file"


def test_link_inside(tree: Path) -> None:
    """A link that stays inside the tree is followed."""
    (tree / "proc/real").write_text(IOMEM)
    (tree / "proc/iomem").symlink_to("real")
    assert Root(tree).read("test", "proc/iomem") == IOMEM


def test_link_to_itself(tree: Path) -> None:
    """A loop of links ends in an error."""
    (tree / "proc/iomem").symlink_to("iomem")
    assert reason(tree, "proc/iomem") == "<root>/proc/iomem: Too many levels of symbolic links"
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    assert reason(tree, "a/iomem").endswith(": Too many levels of symbolic links")


def test_link_to_nothing(tree: Path) -> None:
    """A link whose target is gone is a missing file."""
    (tree / "proc/iomem").symlink_to("gone")
    assert reason(tree, "proc/iomem") == "<root>/proc/gone: No such file or directory"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../secret", "../../host-2/file", "/"])
def test_link_out_of_the_tree(tree: Path, target: str) -> None:
    """A link in a captured tree cannot make the agent read this machine's files."""
    (tree.parent / "secret").write_text("secret")
    (tree.parent / "host-2").mkdir()
    (tree.parent / "host-2/file").write_text("secret")
    (tree / "proc/iomem").symlink_to(target)
    assert reason(tree, "proc/iomem") == "<root>/proc/iomem is a link that leads out of <root>"


def test_linked_folder_out_of_the_tree(tree: Path) -> None:
    """Nor can a linked folder on the way to a file."""
    outside = tree.parent / "outside"
    outside.mkdir()
    (outside / "iomem").write_text(IOMEM)
    (tree / "linked").symlink_to(outside)
    assert reason(tree, "linked/iomem") == "<root>/linked/iomem is a link that leads out of <root>"


def test_listing_a_linked_folder_out_of_the_tree(tree: Path) -> None:
    """Nor can the names in a folder outside be listed: one node there would be this host's only node."""
    outside = tree.parent / "outside"
    (outside / "node0").mkdir(parents=True)
    (tree / "sys/devices/system").mkdir(parents=True)
    (tree / "sys/devices/system/node").symlink_to(outside)
    root = Root(tree)
    with pytest.raises(SourceError, match="is a link that leads out of"):
        root.entries("test", "sys/devices/system/node")
    (nodes,) = (source for source in read_facts(root).sources if source.source == "nodes")
    assert not nodes.ok


def test_link_out_of_the_tree_does_not_exist(tree: Path) -> None:
    """What lies outside the tree is not there, so that another place is looked at."""
    (tree.parent / "outside").write_text("x")
    (tree / "dev/kmsg").symlink_to(tree.parent / "outside")
    assert not Root(tree).exists("dev/kmsg")


def test_root_that_is_a_link(tree: Path) -> None:
    """The tree itself may be named by a link."""
    (tree / "proc/iomem").write_text(IOMEM)
    (tree.parent / "link").symlink_to(tree)
    assert Root(tree.parent / "link").read("test", "proc/iomem") == IOMEM


def test_file_of_20_mb(tree: Path) -> None:
    """A file of absurd size is refused, not cut and not read for ever."""
    with (tree / "proc/iomem").open("wb") as file:
        file.truncate(20_000_000)
    assert reason(tree, "proc/iomem") == "<root>/proc/iomem is larger than 16 MiB"


def test_file_of_the_largest_size(tree: Path) -> None:
    """A file of just the limit is read whole."""
    with (tree / "proc/iomem").open("wb") as file:
        file.truncate(MAX_FILE)
    assert len(Root(tree).read("test", "proc/iomem")) == MAX_FILE


def test_closed_descriptor(tree: Path) -> None:
    """An inherited descriptor that is gone is an error of its source."""
    fd = os.open(tree, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(SourceError) as caught:
        Root(tree, {"proc/iomem": fd}).read("test", "proc/iomem")
    assert caught.value.reason.endswith("proc/iomem: Bad file descriptor")


@pytest.mark.parametrize("relative", ["proc/iomem", "dev/kmsg"])
def test_host_with_a_closed_descriptor(tree: Path, relative: str) -> None:
    """A descriptor that is gone spoils its source and no other."""
    fd = os.open(tree, os.O_RDONLY)
    os.close(fd)
    facts = read_facts(Root(tree, {relative: fd}))
    assert any("Bad file descriptor" in (source.error or "") for source in facts.sources)


def test_pipe_as_descriptor(tree: Path) -> None:
    """A pipe is no file that can be read again and again."""
    ours, theirs = os.pipe()
    try:
        with pytest.raises(SourceError) as caught:
            Root(tree, {"proc/iomem": ours}).read("test", "proc/iomem")
    finally:
        os.close(ours)
        os.close(theirs)
    assert caught.value.reason.endswith("proc/iomem: Illegal seek")


# Everything is imported before the privileges go: Python itself may lie where nobody may look.
READER = """
import json, os, sys
import psutil
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
descriptors = {"proc/iomem": int(sys.argv[2])} if len(sys.argv) > 2 else {}
facts = read_facts(Root(sys.argv[1], descriptors))
json.dump({source.source: source.error for source in facts.sources}, sys.stdout)
"""

needs_root = pytest.mark.root("can become nobody")


def errors_seen_by_nobody(root: str, *descriptors: int) -> dict[str, str | None]:
    """Each source's error when a process without privileges reads the host."""
    run = subprocess.run(
        [sys.executable, "-c", READER, root, *map(str, descriptors)],
        capture_output=True,
        text=True,
        check=False,
        pass_fds=descriptors,
    )
    assert run.returncode == 0, run.stderr
    errors: dict[str, str | None] = json.loads(run.stdout)
    return errors


def test_permission_denied() -> None:
    """A process without privileges says which files it may not read, and what to do about it."""
    with tempfile.TemporaryDirectory() as name:
        host = Path(name)
        host.chmod(0o755)
        for path in PATHS:
            (host / path).parent.mkdir(parents=True, exist_ok=True)
            (host / path).write_text(IOMEM)
        closed = [host / "proc/iomem", host / "sys/kernel/debug", host / "sys/firmware/memmap"]
        for folder in closed:
            folder.chmod(0)
        try:
            errors = errors_seen_by_nobody(name)
        finally:
            for folder in closed:
                folder.chmod(0o755)
    hint = "run as root, or let systemd open the file for the agent"
    for source, denied in (
        ("iomem", "proc/iomem"),
        ("memblock", "sys/kernel/debug/memblock/memory"),
        ("firmware-memmap", "sys/firmware/memmap"),
    ):
        assert errors[source] == f"{source}: {name}/{denied}: Permission denied; {hint}"
    assert errors["platform"] is None


@needs_root
def test_masked_iomem_of_this_kernel() -> None:
    """Opened without privileges this kernel's own /proc/iomem shows zeros, and that is what is said."""
    error = errors_seen_by_nobody("/")["iomem"]
    assert error is not None
    assert error.startswith("iomem: not privileged: every address is zero; ")


@needs_root
def test_descriptor_of_root_in_the_hands_of_nobody() -> None:
    """A descriptor that root opened shows the real addresses to a process that has lost all privileges."""
    if read_iomem(Root("/")).error is not None:
        pytest.skip("root sees no addresses in /proc/iomem here")
    fd = os.open("/proc/iomem", os.O_RDONLY)
    try:
        assert errors_seen_by_nobody("/", fd)["iomem"] is None
    finally:
        os.close(fd)
