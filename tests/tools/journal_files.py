# SPDX-License-Identifier: Apache-2.0
"""Real journal files, written by systemd's own program from what a test wants in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pytest

WRITER = Path("/usr/lib/systemd/systemd-journal-remote")
"""Of the package systemd-journal-remote; it also rotates: a file that has grown too large is archived."""


def write_journal(path: Path, entries: Iterable[Mapping[str, str]]) -> None:
    """A journal file with these entries, in their order.

    Args:
        path: to be written; its name ends with ``.journal``.
        entries: fields by name, with ``__REALTIME_TIMESTAMP``, ``__MONOTONIC_TIMESTAMP`` and ``_BOOT_ID``.
    """
    with subprocess.Popen(
        [WRITER, f"--output={path}", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdin is not None
        for entry in entries:
            writer.stdin.write(_export(entry))
    if writer.returncode:
        raise RuntimeError(f"{WRITER} ended with status {writer.returncode}")


def _export(entry: Mapping[str, str]) -> bytes:
    """One entry in the journal's export format (systemd's JOURNAL_EXPORT_FORMATS.md)."""
    lines = []
    for name, value in entry.items():
        data = value.encode()
        if b"\n" in data:
            lines.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            lines.append(name.encode() + b"=" + data + b"\n")
    return b"".join([*lines, b"\n"])


def use_journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have journalctl read a journal of its own, as if it were this host's; the folder of its files.

    Args:
        folder: for that folder, and the journalctl that comes first in the PATH.
        monkeypatch: sets the PATH.
    """
    files, programs = folder / "journal", folder / "programs"
    files.mkdir()
    programs.mkdir()
    real = shutil.which("journalctl")
    wrapper = programs / "journalctl"
    wrapper.write_text(f'#!/bin/sh\nexec {real} --directory={files} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return files
