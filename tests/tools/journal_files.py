# SPDX-License-Identifier: Apache-2.0
"""Real journal files, written by systemd's own program from what a test wants in them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def put_first(folder: Path) -> tuple[Path, Path]:
    """A journal that journalctl reads as if it were this host's.

    Args:
        folder: for all of it.

    Returns:
        The folder of the journal's files, and one for the PATH, with the journalctl that reads them.
    """
    files, programs = folder / "journal", folder / "programs"
    files.mkdir()
    programs.mkdir()
    wrapper = programs / "journalctl"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("journalctl")} --directory={files} "$@"\n')
    wrapper.chmod(0o755)
    return files, programs
