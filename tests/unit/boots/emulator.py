# SPDX-License-Identifier: Apache-2.0
"""A real GRUB to compare with: the emulator runs scripts, and what they print is looked at."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from tdx_headroom.boots.grub import commands as grub_commands
from tdx_headroom.boots.grub.blocks import Blocks
from tdx_headroom.boots.grub.default import Dialect
from tdx_headroom.boots.grub.paths import Disk
from tdx_headroom.boots.grub.run import Machine
from tdx_headroom.boots.grub.script import parse
from tdx_headroom.boots.grub.state import Settings
from tdx_headroom.hostfs.memory import MemoryRoot

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tdx_headroom.boots.grub.script import Block


def emulated(folder: Path, config: str) -> str:
    """What the emulator prints; it breaks lines at 80 columns, so they are joined."""
    (folder / "grub.cfg").write_bytes(config.encode("utf-8", "surrogateescape"))
    run = subprocess.run(
        ["grub-emu", "-d", str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env={**os.environ, "TERM": "dumb"},
    )
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", b"", run.stdout).decode("utf-8", "replace")


def printed(folder: Path, script: str) -> str:
    """What a script prints there."""
    text = emulated(folder, f"echo BEGIN\n{script}\necho END\nexit\n")
    shown = re.search(r"BEGIN(.*)END", text)
    assert shown is not None, text
    return shown[1]


def machine(files: dict[str, str] | None = None) -> Machine:
    """One of the project's own, with files in memory."""
    disk = Disk(MemoryRoot("host", files or {}))
    found = Machine(disk, Blocks(disk), Settings(Dialect.UPSTREAM, "pc", guess=False))
    found.set("grub_platform", "emu")
    return found


def told(monkeypatch: pytest.MonkeyPatch, script: str, of: Machine | None = None) -> str:
    """What the project's own machine prints, without line breaks."""
    words: list[str] = []

    def echo(_machine: Machine, arguments: list[str], _block: Block | None) -> int:
        words.append(" ".join(arguments))
        return 0

    monkeypatch.setitem(grub_commands.COMMANDS, "echo", echo)
    (of or machine()).run(parse(script))
    return "".join(words)
