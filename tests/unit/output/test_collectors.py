# SPDX-License-Identifier: Apache-2.0
"""Which series are exported together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.metric_families import (
    ALL,
    DEFAULT,
    FAMILIES,
    SOURCES,
    STRATEGIES,
    Collector,
    collector_of,
)
from tdx_headroom.output.metrics import AgentStatus, collect
from tdx_headroom.verdict.assessment import assess

HOSTS = Path(__file__).parents[2] / "hosts"
STATUS = AgentStatus(
    assessed_at=2.0,
    duration=1.0,
    read_at=(("iomem", 2.0),),
    last_boot_headroom=(("memory-regions", 9), ("cmr-subregion", 12)),
    recorded_headroom=(("memory-regions", 9, 10), ("cmr-subregion", 12, 13)),
)
Series = tuple[str, tuple[tuple[str, str], ...]]


def series(host: str, *wanted: Collector) -> list[Series]:
    assessment = assess(read_facts(Root(HOSTS / host)))
    return [
        (s.name, tuple(sorted((k, str(v)) for k, v in s.labels.items())))
        for family in collect(assessment, STATUS, frozenset(wanted))
        for s in family.samples
    ]


@pytest.mark.parametrize("host", ["good-2-node", "emerald-rapids", "no-tdx", "small-vm"])
def test_every_series_is_in_one_collector(host: str) -> None:
    """Scraped one by one, in two jobs for instance, the collectors are all there is, and nothing twice."""
    apart = [one for collector in Collector for one in series(host, collector)]
    assert len(apart) == len(set(apart))
    assert set(apart) == set(series(host, *ALL))


def test_what_is_there_by_default() -> None:
    """Every TDMR and figure under the host's own kernel; of other strategies what becomes of the host."""
    strategies: dict[str, set[str]] = {}
    for name, labels in series("good-2-node", DEFAULT):
        if "strategy" in dict(labels):
            strategies.setdefault(name, set()).add(dict(labels)["strategy"])
    of_all = {"tdx_init_predicted", "tdx_reserved_areas_headroom_min"}
    assert {name for name, found in strategies.items() if len(found) == 3} == of_all
    assert all(found == {"cmr-subregion"} for name, found in strategies.items() if name not in of_all)
    assert {"tdx_tdmr_reserved_areas_headroom", "tdx_recorded_reserved_areas_headroom_min"} <= set(strategies)
    sources = [
        dict(labels)["source"] for name, labels in series("good-2-node", DEFAULT) if "source_s" in name
    ]
    assert sources == ["memblock", "iomem", "firmware-memmap", "nodes", "zoneinfo", "platform", "kernel-log"]


def test_what_is_there_on_demand() -> None:
    """The strategies of other kernels, and all about the sources."""
    found = series("good-2-node", STRATEGIES)
    assert sum(name == "tdx_tdmr_reserved_areas_headroom" for name, _ in found) == 2 * 3
    assert sum(name == "tdx_reserved_areas_headroom_worst_case" for name, _ in found) == 3
    names = {name for name, _ in series("good-2-node", SOURCES)}
    assert names == {
        "tdx_headroom_source_success",
        "tdx_headroom_source_read_timestamp_seconds",
        "tdx_headroom_sources_disagree",
    }


def test_a_host_without_tdx_has_no_plan_by_default() -> None:
    """What TDX would need there is told to whoever asks."""
    assert not [
        name
        for name, labels in series("no-tdx", DEFAULT)
        if "strategy" in dict(labels) and "kernel" not in name
    ]
    assert ("tdx_tdmrs", (("strategy", "memory-regions"),)) in series("no-tdx", STRATEGIES)


def test_families_of_the_process() -> None:
    """The interpreter's are asked for; those of the process itself are always there."""
    assert collector_of("python_gc_collections") == collector_of("python_info") == Collector.PYTHON
    assert collector_of("process_cpu_seconds") == DEFAULT
    assert (
        collector_of("tdx_headroom_http_requests") == FAMILIES["tdx_headroom_http_requests_total"].collector
    )
