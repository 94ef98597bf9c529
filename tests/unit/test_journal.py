# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.journal import read_journal

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = (
    '{"_TRANSPORT": "kernel", "_BOOT_ID": "a", "PRIORITY": "6", "SYSLOG_FACILITY": "0",'
    ' "_SOURCE_MONOTONIC_TIMESTAMP": "1500", "MESSAGE": "virt/tdx: module initialized"}'
)


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the only journalctl there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "journalctl"


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_records(journalctl: Path) -> None:
    """What journalctl prints are the records of this boot."""
    program(journalctl, f"#!/bin/sh\necho '{ENTRY}'\n")
    assert asyncio.run(read_journal()) == [(6, 1500, "virt/tdx: module initialized")]


@pytest.mark.usefixtures("journalctl")
def test_no_journalctl() -> None:
    """Without journalctl there is no journal, and nothing is wrong."""
    assert asyncio.run(read_journal()) is None


def test_no_journal(journalctl: Path) -> None:
    """A journalctl that finds no journal ends with an error."""
    program(journalctl, "#!/bin/sh\nexit 1\n")
    assert asyncio.run(read_journal()) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\x7fELF and nothing else", "journalctl cannot be run: Exec format error"),
        ("#!/bin/sh\necho hello\n", "not a journal entry in JSON"),
    ],
)
def test_a_journalctl_of_no_use(text: str, problem: str, journalctl: Path) -> None:
    """It is a source that fails, no end of the agent's start."""
    program(journalctl, text)
    with pytest.raises(SourceError, match=problem):
        asyncio.run(read_journal())
