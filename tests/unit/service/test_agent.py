# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.exposition import generate_latest

from tdx_headroom.hostfs.root import Root
from tdx_headroom.service import agent as module
from tdx_headroom.service.agent import Agent

if TYPE_CHECKING:
    import pytest
    from prometheus_client.registry import Collector

HOST = Path(__file__).parents[2] / "hosts" / "good-2-node"


def broken(*_: object) -> None:
    raise OSError("broken on purpose")


def test_metrics_are_rendered_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapes share one rendering until the next look at the host, or until one fails."""
    asked = []

    def render(collector: Collector) -> bytes:
        asked.append(1)
        return generate_latest(collector)

    agent = Agent(Root(HOST))
    assert b"tdx_verdict" not in agent.exposition(render)
    agent.refresh()
    first = agent.exposition(render)
    assert b"tdx_headroom_assessment_stale 0.0" in first
    assert agent.exposition(render) is first
    agent.refresh()
    agent.exposition(render)
    monkeypatch.setattr(module, "read_facts", broken)
    agent.refresh()
    assert b"tdx_headroom_assessment_stale 1.0" in agent.exposition(render)
    assert len(asked) == 4


def test_lost_and_forged_records_are_counted(tmp_path: Path) -> None:
    """A gap in the log and lines that user space made up are in the metrics, and never count backwards."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "proc").mkdir()
    log = tmp_path / "dev" / "kmsg"
    watched = Agent(Root(tmp_path))

    def counted() -> dict[str, float]:
        watched.refresh()
        samples = {s.name: s.value for family in watched.collect() for s in family.samples}
        prefix = (
            "tdx_headroom_kernel_log_records_lost_total",
            "tdx_headroom_kernel_log_untrusted_records_total",
        )
        return {name: samples[name] for name in prefix}

    log.write_text("6,1,10,-;one\n6,5,20,-;two\n12,6,30,-;virt/tdx: module initialized\n")
    assert list(counted().values()) == [3, 1]
    log.write_text("6,5,20,-;two\n")
    assert list(counted().values()) == [3, 1]
