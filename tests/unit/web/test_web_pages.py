# SPDX-License-Identifier: Apache-2.0
"""Pages: when one is rendered, and when the last rendering serves again."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.web.pages import MAX_AGE, SAVED, Pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.output.metric_families import Collector


EMERALD_RAPIDS = Path(__file__).parents[2] / "hosts" / "emerald-rapids"


class Host:
    """A view, and the clock by which the metrics beside it take a time to collect."""

    def __init__(self) -> None:
        self.assessment: Assessment | None = assess(HostFacts(host=None, kernel_release=None))
        self.stale = False
        self.assessed_at: float | None = None
        self.records: tuple[BootRecord, ...] = ()
        self.version = 0
        self.now = 0.0
        self.cost = 0.01
        self.own_collected = 0
        self.collected = 0
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Scrape(self))
        self.pages = Pages(self, registry, runbook_url="https://docs.example/r", clock=lambda: self.now)

    def collect(self, wanted: frozenset[Collector]) -> Iterable[Metric]:  # noqa: ARG002  a view has it
        self.own_collected += 1
        yield GaugeMetricFamily("own", "One.", value=1)

    def change(self, assessment: Assessment | None) -> None:
        self.assessment = assessment
        self.version += 1

    def scrape(self, accept: str = "") -> bytes:
        return self.pages.get("/metrics", accept, full=False).body


class Scrape:
    def __init__(self, host: Host) -> None:
        self.host = host

    def collect(self) -> Iterable[Metric]:
        self.host.collected += 1
        self.host.now += self.host.cost
        yield GaugeMetricFamily("collected", "Times.", value=self.host.collected)


def test_the_page_has_what_the_view_has() -> None:
    """Earlier boots are drawn, and findings lead to their runbooks."""
    host = Host()
    host.assessment = assess(read_facts(Root(EMERALD_RAPIDS)))
    areas = (StrategyAreas("memory-regions", (Areas(0, 1 << 30, 9, 16, 9),)),)
    host.records = (BootRecord(RecordFrom.AGENT, strategy="memory-regions", areas=areas),) * 2
    page = host.pages.get("/", "", full=False).body.decode()
    assert 'id="history"' in page
    assert 'href="https://docs.example/r/TDX' in page


def test_a_scrape_now_and_then_is_fresh() -> None:
    """One scraper, even an eager one, gets a rendering of its own each time."""
    host = Host()
    for i in range(1, 101):
        assert f"collected {i}.0".encode() in host.scrape()
        host.now += 4 * host.cost


def test_a_flood_shares_renderings() -> None:
    """However many ask at once, rendering takes no more than its share of the time."""
    host = Host()
    spent = 0.0
    for _ in range(5000):
        before = host.now
        host.scrape()
        spent += host.now - before
        host.now += 0.001
    assert spent < SAVED + 0.3 * host.now
    assert host.collected > 50


def test_a_shared_rendering_is_never_old() -> None:
    """What is shown is of the current assessment, and at most a second old."""
    host = Host()
    host.cost = 100
    host.scrape()
    host.scrape()
    assert host.collected == 1
    host.now += MAX_AGE
    host.scrape()
    assert host.collected == 2
    host.change(assess(HostFacts(host="another", kernel_release=None)))
    host.scrape()
    assert host.collected == 3


def test_what_depends_on_the_view_alone_is_rendered_once() -> None:
    """Page, plan and the view's own metrics are made, and packed, only when the view has changed."""
    host = Host()
    host.change(assess(read_facts(Root(EMERALD_RAPIDS))))
    for openmetrics in ("", "application/openmetrics-text"):
        for _ in range(3):
            host.scrape(openmetrics)
            host.now += 10
    assert (host.own_collected, host.collected) == (2, 6)
    for path in ("/", "/api/v1/plan", "/style.css"):
        first = host.pages.get(path, "", full=False)
        host.now += 10
        again = host.pages.get(path, "", full=False)
        assert again.body is first.body
        assert again.packed is first.packed
    page, plan = (host.pages.get(path, "", full=False).body for path in ("/", "/api/v1/plan"))
    host.change(assess(HostFacts(host="another", kernel_release=None)))
    assert host.pages.get("/", "", full=False).body != page
    assert host.pages.get("/api/v1/plan", "", full=False).body != plan
    host.scrape()
    assert host.own_collected == 3
    before = host.pages.get("/", "", full=False).body
    host.stale = True
    host.change(host.assessment)
    assert host.pages.get("/", "", full=False).body != before


def test_formats_are_kept_apart() -> None:
    """OpenMetrics and text are never mixed up, however they are shared."""
    host = Host()
    host.cost = 100
    for _ in range(2):
        assert host.scrape("application/openmetrics-text; version=1.0.0").endswith(b"# EOF\n")
        assert not host.scrape("text/plain").endswith(b"# EOF\n")


def test_one_page_of_two_parts() -> None:
    """The view's own metrics come before all others, and OpenMetrics ends once."""
    for accept, ends in (("text/plain", 0), ("application/openmetrics-text", 1)):
        page = Host().scrape(accept)
        assert page.index(b"own 1.0") < page.index(b"collected 1.0")
        assert page.count(b"# EOF") == ends


@pytest.mark.parametrize("path", ["/", "/api/v1/plan"])
def test_who_sees_all_addresses_is_never_mixed_up(path: str) -> None:
    """However renderings are shared, whoever may not see fine addresses gets none, in numbers and texts."""
    host = Host()
    host.change(assess(read_facts(Root(EMERALD_RAPIDS))))
    host.cost = 100
    host.scrape()
    for full in (True, False, True, True, False, False):
        body = host.pages.get(path, "", full=full).body.decode()
        fine = [a for a in re.findall("0x[0-9a-f]+", body) if int(a, 16) % GIB and int(a, 16) > MIB]
        assert bool(fine) is full
        assert ("0x64158000" in body) is full


def test_packed_is_the_same() -> None:
    """The gzip form of an answer holds the same bytes; a short answer has none."""
    host = Host()
    page = host.pages.get("/", "", full=False)
    assert page.packed is not None
    assert gzip.decompress(page.packed) == page.body
    assert host.pages.get("/-/healthy", "", full=False).packed is None


def test_collectors_are_asked_for() -> None:
    """Each is rendered for itself; nothing named is the usual, and an unknown name is refused, not echoed."""
    host = Host()
    seen: list[frozenset[str]] = []

    def collect(wanted: frozenset[Collector]) -> Iterable[Metric]:
        seen.append(wanted)
        yield GaugeMetricFamily("own", "One.", value=len(wanted))

    host.collect = collect  # type: ignore[method-assign]

    def scrape(*asked: str) -> bytes:
        return host.pages.get("/metrics", "", full=False, asked=frozenset(asked)).body

    assert b"own 1.0" in scrape()
    assert b"own 2.0" in scrape("default", "strategies")
    assert b"own 1.0" in scrape()
    assert seen == [{"default"}, {"default", "strategies"}]
    for asked in (frozenset({"<b>"}), frozenset({"default", "x"}), None):
        answer = host.pages.get("/metrics", "", full=False, asked=asked)
        assert answer.status == 400
        assert answer.body == b"400: collect[] takes default, strategies, sources, http, python\n"


def test_collectors_of_the_registry() -> None:
    """What is registered beside the view is there when its collector is asked for, and else not."""
    host = Host()
    usual = host.pages.get("/metrics", "", full=False).body
    named = host.pages.get("/metrics", "", full=False, asked=frozenset({"default"})).body
    others = host.pages.get("/metrics", "", full=False, asked=frozenset({"http"})).body
    assert b"collected" in usual
    assert b"collected" in named
    assert b"collected" not in others
