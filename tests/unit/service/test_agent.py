# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
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


def exported(agent: Agent, name: str) -> list[tuple[dict[str, str], float]]:
    agent.refresh()
    return [(s.labels, s.value) for family in agent.collect() for s in family.samples if s.name == name]


def test_a_failure_that_is_over(tmp_path: Path) -> None:
    """Why TDX failed goes on as 0 once it has come up, so that its alert ends with the next scrape."""
    root = tmp_path / "host"
    shutil.copytree(HOST.parent / "emerald-rapids", root, symlinks=True)
    agent = Agent(Root(root))
    labels = {"reason": "reserved-areas-exhausted", "errno": "-28"}
    assert exported(agent, "tdx_init_failure_info") == [(labels, 1)]
    shutil.rmtree(root)
    shutil.copytree(HOST, root, symlinks=True)
    assert exported(agent, "tdx_init_failure_info") == [(labels, 0)]
    assert exported(Agent(Root(root)), "tdx_init_failure_info") == []


def test_a_source_that_was_missing(tmp_path: Path) -> None:
    """A source that a TDX host should have is missing while it cannot be read; of two, one is enough."""
    root = tmp_path / "host"
    shutil.copytree(HOST, root, symlinks=True)
    agent = Agent(Root(root))
    memblock, iomem = root / "sys/kernel/debug/memblock/memory", root / "proc/iomem"
    name = "tdx_headroom_source_missing"
    assert exported(agent, name) == []
    rows = iomem.read_text()
    iomem.unlink()
    assert exported(agent, name) == []
    memblock.unlink()
    assert exported(agent, name) == [({"source": "iomem"}, 1)]
    iomem.write_text(rows)
    assert exported(agent, name) == [({"source": "iomem"}, 0)]


def test_a_host_without_tdx_has_nothing_to_alert_about(tmp_path: Path) -> None:
    """Whatever fails there, and whatever its map comes to, no series is there that an alert selects."""
    root = tmp_path / "host"
    shutil.copytree(HOST.parent / "no-tdx", root, symlinks=True)
    (root / "proc/zoneinfo").unlink()
    agent = Agent(Root(root))
    agent.refresh()
    names = {s.name for family in agent.collect() for s in family.samples}
    assert not {
        n for n in names if n.startswith(("tdx_next", "tdx_staged", "tdx_init", "tdx_headroom_source_m"))
    }
    assert not names & {"tdx_mainline_kernel_fails", "tdx_verdict_unknown", "tdx_tdmrs_headroom"}
    assert exported(agent, "tdx_headroom_kernel_log_records_missing") == [({}, 0)]


def test_an_agent_that_has_never_seen_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is as old as what was never there: the assessment is stale."""
    monkeypatch.setattr(module, "read_facts", broken)
    assert exported(Agent(Root(HOST)), "tdx_headroom_assessment_stale") == [({}, 1)]
