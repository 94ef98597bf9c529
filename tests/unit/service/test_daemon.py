# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service import daemon
from tdx_headroom.service.agent import Agent
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


def test_a_signal_ends_it_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends the agent without an error."""
    real = Agent.refresh

    def refresh(self: Agent) -> None:
        real(self)
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Agent, "refresh", refresh)
    daemon.serve(Root(HOST), SETTINGS)
