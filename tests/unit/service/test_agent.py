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
HOST = Path(__file__).parents[2] / "hosts" / "good-2-node"


def broken(*_: object) -> None:
    raise OSError("broken on purpose")


def test_a_version_for_each_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was rendered from a view holds until the next look at the host, or until one fails."""
    agent = Agent(Root(HOST))

    def text() -> bytes:
        return generate_latest(agent)

    versions = [agent.version]
    assert b"tdx_verdict" not in text()
    agent.refresh()
    versions.append(agent.version)
    assert b"tdx_headroom_assessment_stale 0.0" in text()
    assert agent.version == versions[-1]
    agent.refresh()
    versions.append(agent.version)
    monkeypatch.setattr(module, "read_facts", broken)
    agent.refresh()
    versions.append(agent.version)
    assert b"tdx_headroom_assessment_stale 1.0" in text()
    assert len(set(versions)) == 4


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
