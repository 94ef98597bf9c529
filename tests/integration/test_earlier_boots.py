# SPDX-License-Identifier: Apache-2.0
"""An agent that was not there in earlier boots learns of them from the journal, in a process of its own."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.agent import SECONDS, agent
from tests.unit.history.journals import Boot, fake_journalctl

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state's folder; beside it is the journalctl that is run."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_they_are_learnt_and_kept(state: Path) -> None:
    """Three boots besides this one; the next start in this boot asks nobody."""
    fake_journalctl(state.parent, Boot(1), Boot(2, 12), Boot(3, 10))
    for _ in range(2):
        with agent("--state-directory", str(state)) as running:
            running.wait_for_value("tdx_recorded_boots", 4)
            assert running.value("tdx_recorded_boots") == 4
            least = running.value("tdx_recorded_reserved_areas_headroom_min", strategy="memory-regions")
            assert least == 16 - 13
        (state.parent / "journalctl").write_text("#!/bin/sh\nexit 1\n")


def test_it_does_not_outlive_the_agent(state: Path) -> None:
    """A journal that is never read to its end: the agent serves meanwhile, and nothing is left behind it."""
    begun = state.parent / "begun"
    wait = f"echo $$ >{begun}.new; mv {begun}.new {begun}; exec /bin/sleep 600"
    fake_journalctl(state.parent, Boot(1), each=wait)
    with agent("--state-directory", str(state)) as running:
        end = time.monotonic() + SECONDS
        while not begun.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert running.value("tdx_recorded_boots") == 1
    pid = int(begun.read_text())
    while _is_there(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
