# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tdx_headroom.errors import AgentError
from tdx_headroom.service.descriptor_store import store_files
from tdx_headroom.service.notify import Notifier
from tdx_headroom.sources.registry import PRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tdx_headroom.hostfs.root import Root

IOMEM = "00100000-3fffffff : System RAM\n"


def test_files_are_handed_over(host_tree: Callable[[Mapping[str, str]], Root], tmp_path: Path) -> None:
    """Old descriptors go, those files that are there come, and then everything is waited for."""
    root = host_tree({"proc/iomem": IOMEM, "sys/kernel/debug/memblock/memory": "x\n"})
    seen: list[str] = []
    contents: dict[str, str] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))

        def listen() -> None:
            while "BARRIER=1" not in seen:
                data, fds, _, _ = socket.recv_fds(manager, 4096, 4)
                message, *rest = data.decode().split("\n")
                seen.append(f"{message} {rest[0].removeprefix('FDNAME=')}" if rest else message)
                for fd in fds:
                    if rest:
                        contents[rest[0]] = os.pread(fd, 100, 0).decode()
                    os.close(fd)

        thread = Thread(target=listen)
        thread.start()
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with capture_logs() as logs:
            assert store_files(root, notifier) == ["iomem", "memblock-memory"]
        thread.join()
        notifier.close()
    expected = []
    for name in PRIVILEGED:
        expected.append(f"FDSTOREREMOVE=1 {name}")
        if name in ("iomem", "memblock-memory"):
            expected.append(f"FDSTORE=1 {name}")
    assert seen == [*expected, "BARRIER=1"]
    assert contents == {"FDNAME=iomem": IOMEM, "FDNAME=memblock-memory": "x\n"}
    assert len(logs) == 2


def test_without_systemd() -> None:
    """By hand the command is one line that says whose it is, and EX_USAGE."""
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    command = [sys.executable, "-m", "tdx_headroom", "open-files"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == os.EX_USAGE
    assert run.stderr.startswith(
        "tdx-headroom: there is no systemd to hand the files to; this is for ExecStartPre=+"
    )
    assert len(run.stderr.splitlines()) == 1


def test_systemd_does_not_answer(
    host_tree: Callable[[Mapping[str, str]], Root], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service manager that takes nothing is an error: the agent would start without its files."""
    monkeypatch.setattr("tdx_headroom.service.descriptor_store.BARRIER_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with pytest.raises(AgentError, match="systemd has not taken the files"):
            store_files(host_tree({"proc/iomem": IOMEM}), notifier)
        notifier.close()


def test_systemd_cannot_be_reached(host_tree: Callable[[Mapping[str, str]], Root], tmp_path: Path) -> None:
    """Nothing is said to be handed over that nobody could take."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with pytest.raises(AgentError, match="systemd has not taken the files"):
        store_files(host_tree({"proc/iomem": IOMEM}), notifier)
    notifier.close()


def test_the_command_is_not_in_the_help() -> None:
    """Nobody is invited to run what only a unit runs."""
    run = subprocess.run([sys.executable, "-m", "tdx_headroom", "--help"], capture_output=True, text=True)
    assert "open-files" not in run.stdout
    assert "textfile" in run.stdout
