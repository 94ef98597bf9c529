# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.kernel_log.reader import read_kernel_log, read_log_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tdx_headroom.sources.kernel_log.records import KernelLog
    from tdx_headroom.sources.reading import Reading

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

KMSG = "6,1,0,-;from kmsg\n6,5,1,-;later\n12,6,2,-;user\n"


def texts(reading: Reading[KernelLog]) -> list[str]:
    assert reading.value is not None, reading.error
    return [record.text for record in reading.value.records]


def test_captured_device(host_tree: HostTree) -> None:
    """A captured tree's dev/kmsg is a file of records, verified, with its losses."""
    root = host_tree({"dev/kmsg": KMSG, "dmesg": "[    0.0] from dmesg\n"})
    reading = read_kernel_log(root)
    assert texts(reading) == ["from kmsg", "later"]
    assert reading.value is not None
    assert reading.value.verified
    assert reading.value.lost == 3
    assert reading.origin == f"{root.path}/dev/kmsg"


@pytest.mark.parametrize(
    "path", ["dmesg", "sos_commands/kernel/dmesg", "sos_commands/kernel/dmesg_-T", "var/log/dmesg"]
)
def test_text_in_a_tree(host_tree: HostTree, path: str) -> None:
    """A tree without dev/kmsg has its log as text, in one of the usual places; it is unverified."""
    root = host_tree({path: "[Wed Jul 10 20:50:19 2024] from text\n"})
    reading = read_kernel_log(root)
    assert texts(reading) == ["from text"]
    assert reading.value is not None
    assert not reading.value.verified
    assert reading.origin == f"{root.path}/{path}"


def test_order_of_texts(host_tree: HostTree) -> None:
    """The tree's own dmesg comes before what an archive tool has collected."""
    files = {"var/log/dmesg": "c\n", "sos_commands/kernel/dmesg": "b\n", "dmesg": "a\n"}
    assert texts(read_kernel_log(host_tree(files))) == ["a"]


def test_no_log(host_tree: HostTree) -> None:
    """A tree without any log says that dev/kmsg is missing."""
    root = host_tree({})
    reading = read_kernel_log(root)
    assert reading.source == "kernel-log"
    assert str(reading.error) == f"kernel-log: {root.path}/dev/kmsg: No such file or directory"


def test_malformed_capture(host_tree: HostTree) -> None:
    """A record that is none is named by its line."""
    reading = read_kernel_log(host_tree({"dev/kmsg": KMSG + "garbage\n"}))
    assert reading.value is None
    assert str(reading.error) == "kmsg line 4: not a record `prio,seq,time,flags;text`: 'garbage'"


def test_inherited_device(host_tree: HostTree, kernel_log: int) -> None:
    """An inherited descriptor is read from the oldest record, again each time, and stays open."""
    root = Root(host_tree({}).path, {"dev/kmsg": kernel_log})
    first, second = texts(read_kernel_log(root)), texts(read_kernel_log(root))
    os.fstat(kernel_log)
    assert first
    assert len(second) >= len(first) // 2
    assert set(first) & set(second)


def test_inherited_descriptor_that_is_no_kmsg(host_tree: HostTree) -> None:
    """A descriptor that cannot be rewound is an error of this source, never a crash."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        root = Root(host_tree({}).path, {"dev/kmsg": theirs.fileno()})
        reading = read_kernel_log(root)
    assert reading.value is None
    assert reading.error is not None


def test_fifo_in_place_of_the_log(host_tree: HostTree) -> None:
    """A FIFO that nobody writes to cannot hang the agent."""
    root = host_tree({"dev/x": ""})
    os.mkfifo(root.locate("dev/kmsg"))
    assert str(read_kernel_log(root).error) == f"kernel-log: {root.path}/dev/kmsg is not a regular file"


def test_live_host() -> None:
    """On the running host the log is /dev/kmsg and nothing else."""
    reading = read_kernel_log(Root("/"))
    assert reading.origin == "/dev/kmsg"
    assert (reading.value is None) is (reading.error is not None)


def test_log_that_a_user_names(tmp_path: Path) -> None:
    """A named file gives its records, or an error when there is none in it."""
    path = str(tmp_path / "dmesg.txt")
    assert texts(read_log_file(path, "[    0.0] hello\n")) == ["hello"]
    for text in ("", "\n\n", "Jul 10 20:50:19 host systemd[1]: started\n"):
        reading = read_log_file(path, text)
        assert str(reading.error) == f"kernel-log: no kernel message in {path}; give what dmesg prints"
        assert reading.origin == path
