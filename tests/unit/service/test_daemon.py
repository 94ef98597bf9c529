# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service import daemon
from tdx_headroom.service.agent import Agent
from tdx_headroom.service.state_file import FolderLock, StateFile
from tdx_headroom.web.settings import Address, WebSettings

HOST = Path(__file__).parents[2] / "hosts" / "good-2-node"
SETTINGS = daemon.Settings(WebSettings(addresses=(Address("127.0.0.1", 0),)), refresh_interval=0.05)


def test_an_agent_that_cannot_refresh_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not go on to serve what was true once as if it were now: it ends, to be started again."""
    real = Agent.refresh
    calls = []

    def refresh(self: Agent) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("broken")
        real(self)

    monkeypatch.setattr(Agent, "refresh", refresh)
    with pytest.raises(AgentError, match="internal error: RuntimeError") as caught:
        daemon.serve(Root(HOST), SETTINGS)
    assert caught.value.status == os.EX_SOFTWARE


@pytest.mark.parametrize(
    "step", ["WebServer.listen", "open_uevents", "LiveLog.start", "Agent.refresh", "Notifier.ready"]
)
def test_what_was_started_is_ended(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a later step of the start fails: no descriptor is left, of a socket, the log or the lock."""

    async def fails(*_: object) -> None:
        raise RuntimeError(step)

    def fails_at_once(*_: object) -> None:
        raise RuntimeError(step)

    monkeypatch.setattr(
        f"tdx_headroom.service.daemon.{step}", fails if step == "LiveLog.start" else fails_at_once
    )
    settings = replace(SETTINGS, state_directory=str(tmp_path))
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(RuntimeError, match=step):
        daemon.serve(Root(HOST), settings)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert StateFile(str(tmp_path), FolderLock(str(tmp_path))).load()[1] is None


def test_a_signal_ends_it_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends the agent without an error."""
    real = Agent.refresh

    def refresh(self: Agent) -> None:
        real(self)
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Agent, "refresh", refresh)
    daemon.serve(Root(HOST), SETTINGS)
