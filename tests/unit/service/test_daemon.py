# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.observations import TdxSeen
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service import daemon
from tdx_headroom.service.agent import Agent
from tdx_headroom.service.live_log import LiveLog
from tdx_headroom.service.state import BootState, State
from tdx_headroom.service.state_file import FolderLock, StateFile
from tdx_headroom.sources.machine import machine_marks
from tdx_headroom.sources.platform import read_boot_id
from tdx_headroom.web.settings import Address, WebSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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


def kept_in_this_boot(folder: Path) -> Path:
    """The state that an agent has kept of this machine's boot, in which it learnt all there was to learn."""
    live = Root("/")
    boot_id = read_boot_id(live) or ""
    current = BootState(boot_id, record=BootRecord(RecordFrom.AGENT, boot_id=boot_id), last_seq=10**9)
    state = State(current, tdx_before=TdxSeen.UP).on_machine(machine_marks(live))
    StateFile(str(folder)).save(state)
    return folder / "state.json"


@pytest.mark.parametrize("forgotten", [False, True])
def test_the_journal_is_asked_again_where_the_state_is_forgotten(
    forgotten: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was learnt in this boot is not asked for again, unless it was thrown away."""
    asked: list[str] = []
    kept = kept_in_this_boot(tmp_path)

    async def start(self: LiveLog, *_: object) -> None:
        self.mismatch = "it is of another log" if forgotten else None

    def ask(what: str, answer: object) -> Callable[[], Awaitable[object]]:
        async def answers() -> object:
            asked.append(what)
            return answer

        return answers

    async def over(*_: object) -> None:
        while len(asked) < 2 * forgotten:  # noqa: ASYNC110  the two that are asked know of no event
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    monkeypatch.setattr(LiveLog, "start", start)
    monkeypatch.setattr(daemon, "tdx_of_boot_before", ask("the boot before", TdxSeen.FAILED))
    monkeypatch.setattr(daemon, "earlier_boots", ask("earlier boots", []))
    monkeypatch.setattr(daemon, "_refresh_forever", over)
    before = json.loads(kept.read_text())
    daemon.serve(Root("/"), replace(SETTINGS, state_directory=str(tmp_path)))
    assert asked == ["the boot before", "earlier boots"] * forgotten
    after = json.loads(kept.read_text())
    assert after["tdx_before"] == (TdxSeen.FAILED if forgotten else TdxSeen.UP)
    assert after["machine"] == before["machine"]


def test_a_signal_ends_it_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends the agent without an error."""
    real = Agent.refresh

    def refresh(self: Agent) -> None:
        real(self)
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Agent, "refresh", refresh)
    daemon.serve(Root(HOST), SETTINGS)
