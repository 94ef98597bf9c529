# SPDX-License-Identifier: Apache-2.0
"""The metrics about what firmware leaves, and what its updates have taken."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.boot_record import BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.metrics import STEP_IS_NEW
from tdx_headroom.service.agent import Agent
from tdx_headroom.service.state import BootState, State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.history import of_facts, with_plans

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

HOSTS = Path(__file__).parents[2] / "hosts"
NOW = 1_800_000_000.0
DAY = 86400.0
STEP = {"bios_version_before": "2.0.9", "bios_version": "2.1.0"}
TOOK = "tdx_firmware_took_reserved_areas"
COST = "tdx_firmware_step_reserved_areas"
LEFT = "tdx_firmware_reserved_areas_headroom_min"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host in good order, booted a day ago."""
    root = tmp_path / "host"
    shutil.copytree(HOSTS / "good-2-node", root, symlinks=True)
    stat = root / "proc/stat"
    lines = [line for line in stat.read_text().splitlines() if not line.startswith("btime")]
    stat.write_text("\n".join([*lines, f"btime {int(NOW - DAY)}", ""]))
    return root


def present(root: Path) -> BootRecord:
    facts = read_facts(Root(root))
    return with_plans(of_facts(facts, RecordFrom.AGENT), assess(facts))


def before(record: BootRecord, fewer: int, number: int = 1) -> BootRecord:
    """A boot under the firmware before, which needed so many areas fewer."""
    areas = tuple(
        StrategyAreas(
            a.strategy, tuple(t._replace(needed=t.needed - fewer, holes=t.holes - fewer) for t in a.tdmrs)
        )
        for a in record.areas
    )
    return replace(record, boot_id=f"{number:032x}", bios_version="2.0.9", began=NOW - 90 * DAY, areas=areas)


def exported(
    root: Path, history: tuple[BootRecord, ...], monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[Sample]]:
    monkeypatch.setattr(time, "time", lambda: NOW)
    agent = Agent(Root(root), state=State(BootState(present(root).boot_id or ""), history=history))
    agent.refresh()
    found: dict[str, list[Sample]] = {}
    for family in agent.collect():
        found.setdefault(family.name, []).extend(family.samples)
    return found


def test_an_update_that_took_areas(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every boot since needs more than any before is exported, with both versions."""
    record = present(host)
    found = exported(host, (before(record, 2), before(record, 1, 2)), monkeypatch)
    assert [(s.labels, s.value) for s in found[TOOK]] == [(STEP, 1)]
    assert [(s.labels, s.value) for s in found[COST]] == [(STEP, 2)]


def test_a_host_that_varies_anyway(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a boot before has needed as well was not taken, whatever the medians are."""
    record = present(host)
    found = exported(host, (before(record, 2), before(record, 2, 2), before(record, 0, 3)), monkeypatch)
    assert [s.value for s in found[TOOK]] == [0]
    assert [s.value for s in found[COST]] == [2]


@pytest.mark.parametrize("age", [0.0, STEP_IS_NEW - 1, STEP_IS_NEW + 1])
def test_news_for_seven_days(host: Path, monkeypatch: pytest.MonkeyPatch, age: float) -> None:
    """What the alert selects ends a week after the first boot with the new version; what it cost stays."""
    stat = host / "proc/stat"
    stat.write_text(stat.read_text().replace(f"btime {int(NOW - DAY)}", f"btime {int(NOW - age)}"))
    found = exported(host, (before(present(host), 2),), monkeypatch)
    assert (TOOK in found) is (age < STEP_IS_NEW)
    assert COST in found


def test_when_it_was_is_unknown(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that nobody can date is not told as news."""
    stat = host / "proc/stat"
    stat.write_text("".join(f"{x}\n" for x in stat.read_text().splitlines() if not x.startswith("btime")))
    found = exported(host, (before(present(host), 2),), monkeypatch)
    assert TOOK not in found
    assert COST in found


def test_no_update_is_known(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an earlier boot, or with the same version in all, nothing is exported of an update."""
    for history in ((), (replace(before(present(host), 2), bios_version="2.1.0"),)):
        found = exported(host, history, monkeypatch)
        assert TOOK not in found
        assert COST not in found


def test_what_firmware_leaves(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's headroom comes with what decides about it; a host without TDX has none."""
    (left,) = exported(host, (), monkeypatch)[LEFT]
    assert left.labels == {"bios_version": "2.1.0", "cpu_model": "INTEL(R) XEON(R) GOLD 6530"}
    assert left.value == 13
    assert LEFT not in exported(HOSTS / "no-tdx", (), monkeypatch)
