# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import tdx_headroom
from tdx_headroom.child import child_command

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_child_is_of_the_same_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs this agent's own code, whatever lies in the folder that the user is in."""
    (tmp_path / "tdx_headroom").mkdir()
    (tmp_path / "tdx_headroom/__init__.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = child_command("cli", ["--version"])
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == f"tdx-headroom {tdx_headroom.__version__}\n"
    start, _, _ = command[3].partition("from tdx_headroom")
    where = [*command[:3], f"{start}print(tdx_headroom.__file__)", command[4]]
    shown = subprocess.run(where, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == tdx_headroom.__file__
