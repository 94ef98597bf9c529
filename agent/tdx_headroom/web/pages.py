# SPDX-License-Identifier: Apache-2.0
"""The answer for each path: renderings of the current view. No request is echoed, none reaches the host."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tdx_headroom.output.metric_families import ALL, DEFAULT, Collector, collector_of
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.web.http_semantics import wants_openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector as Rendered
    from prometheus_client.registry import CollectorRegistry

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.verdict.assessment import Assessment

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SHARE = 0.25
"""How much of the time may go into rendering metrics; beyond that a flood of requests shares renderings."""

SAVED = 0.25
"""Seconds of rendering that a quiet time saves up at most."""

MAX_AGE = 1.0
"""Seconds after which shared metrics are rendered anew in any case."""

MIN_GZIP = 1024

EOF = b"# EOF\n"
"""Ends a page of OpenMetrics."""

RENDERERS: dict[str, Callable[[Rendered], bytes]] = {
    PROMETHEUS: generate_text,
    OPENMETRICS: generate_openmetrics,
}


class View(Protocol):
    """What the server shows; the daemon swaps what is behind it."""

    @property
    def assessment(self) -> Assessment | None:
        """The last good assessment."""

    @property
    def stale(self) -> bool:
        """Whether a later attempt to assess has failed."""

    @property
    def assessed_at(self) -> float | None:
        """When the host was last read with success, in seconds since the epoch."""

    @property
    def records(self) -> Sequence[BootRecord]:
        """Of the host's boots, the present one last."""

    @property
    def version(self) -> int:
        """Another one whenever something of this has changed."""

    def collect(self, wanted: frozenset[Collector]) -> Iterable[Metric]:
        """Its own metrics, of these collectors."""


@dataclass(slots=True)
class Answer:
    """What to answer: status, content type and body."""

    status: int
    kind: str
    body: bytes
    _packed: bytes | None = None

    @property
    def packed(self) -> bytes | None:
        """The body as gzip, where that is worth it; made when it is first asked for."""
        if self._packed is None and len(self.body) >= MIN_GZIP:
            # The same level and no time stamp: equal bodies pack to equal bytes.
            self._packed = gzip.compress(self.body, 5, mtime=0)
        return self._packed


@dataclass(frozen=True, slots=True)
class _Rendering:
    """What was rendered, from which version of the view, and when."""

    answer: Answer
    version: int
    made_at: float


def plain(status: int, text: str) -> Answer:
    """An answer of one line."""
    return Answer(status, TEXT, text.encode() + b"\n")


OK = plain(200, "ok")
NOT_ASSESSED = plain(503, "not assessed yet")
NOT_FOUND = plain(404, "404")
NO_COLLECTOR = plain(400, f"400: collect[] takes {', '.join(Collector)}")


class _Collected(NamedTuple):
    """What prometheus_client renders: all that it asks for is this."""

    collect: Callable[[], Iterable[Metric]]


class Pages:
    """The agent's pages.

    Args:
        view: what to show.
        registry: what to export besides the view's own metrics: what is different at every scrape.
        telemetry_path: where the metrics are.
        runbook_url: where the runbooks can be read; None: the page has no links to them.
        collectors: which of them a scrape gets that asks for none.
        clock: seconds.
    """

    def __init__(
        self,
        view: View,
        registry: CollectorRegistry,
        telemetry_path: str = "/metrics",
        runbook_url: str | None = None,
        collectors: frozenset[Collector] = frozenset({DEFAULT}),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._view = view
        self._registry = registry
        self._telemetry_path = telemetry_path
        self._runbook_url = runbook_url
        self._collectors = collectors
        self._clock = clock
        self._cache: dict[tuple[str, bool], _Rendering] = {}
        self._budget = SAVED
        self._counted_at = clock()

    def get(
        self, path: str, accept: str, *, full: bool, asked: frozenset[str] | None = frozenset()
    ) -> Answer:
        """The answer to a GET.

        Args:
            path: without query.
            accept: the request's Accept header.
            full: whether this client may see addresses finer than a TDMR's.
            asked: names of the collectors whose metrics it wants; empty: the usual; None: nobody knows.
        """
        assessment = self._view.assessment
        if path == self._telemetry_path:
            if asked is None or not asked <= ALL:
                return NO_COLLECTOR
            wanted = frozenset(map(Collector, asked)) or self._collectors
            return self._metrics(OPENMETRICS if wants_openmetrics(accept) else PROMETHEUS, wanted)
        if path == "/":
            return self._cached(HTML, lambda: self._page(assessment, full=full), full=full)
        if path == "/api/v1/plan":
            if assessment is None:
                return NOT_ASSESSED
            return self._cached(JSON, lambda: _plan(assessment, full=full), full=full)
        if path == "/style.css":
            return self._cached(CSS, _stylesheet)
        if path == "/-/healthy":
            return OK
        if path == "/-/ready":
            return OK if assessment is not None else NOT_ASSESSED
        return NOT_FOUND

    def _metrics(self, kind: str, wanted: frozenset[Collector]) -> Answer:
        """The view's metrics as they are cached, and those of the registry anew: they differ at each scrape.

        Where rendering has taken too much of the time, the last rendering of both serves again.
        """
        began = self._clock()
        self._budget = min(SAVED, self._budget + (began - self._counted_at) * SHARE)
        self._counted_at = began
        names = "+".join(sorted(wanted))
        last = self._cache.get((f"{kind}; {names}", False))
        if (
            last is not None
            and self._budget <= 0
            and last.version == self._view.version
            and began - last.made_at < MAX_AGE
        ):
            return last.answer
        render = RENDERERS[kind]
        view = _Collected(lambda: self._view.collect(wanted))
        own = self._cached(f"{kind}; view; {names}", lambda: render(view)).body
        rest = _Collected(lambda: (f for f in self._registry.collect() if collector_of(f.name) in wanted))
        answer = self._keep((f"{kind}; {names}", False), own.removesuffix(EOF) + render(rest), kind)
        self._budget -= self._clock() - began
        return answer

    def _cached(self, kind: str, render: Callable[[], bytes], *, full: bool = False) -> Answer:
        """What depends on the view alone: rendered, and packed, once a version."""
        last = self._cache.get((kind, full))
        if last is not None and last.version == self._view.version:
            return last.answer
        return self._keep((kind, full), render())

    def _keep(self, key: tuple[str, bool], body: bytes, kind: str | None = None) -> Answer:
        answer = Answer(200, kind or key[0], body)
        self._cache[key] = _Rendering(answer, self._view.version, self._clock())
        return answer

    def _page(self, assessment: Assessment | None, *, full: bool) -> bytes:
        from tdx_headroom.output.page import render_page  # noqa: PLC0415  brings Jinja2, 2 MiB

        page = render_page(
            assessment,
            stale=self._view.stale,
            full_addresses=full,
            telemetry_path=self._telemetry_path,
            assessed_at=self._view.assessed_at,
            records=self._view.records,
            runbook_url=self._runbook_url,
        )
        return page.encode("utf-8", "backslashreplace")


def _stylesheet() -> bytes:
    from tdx_headroom.output.page import stylesheet  # noqa: PLC0415  as above

    return stylesheet().encode()


def _plan(assessment: Assessment, *, full: bool) -> bytes:
    return json.dumps(to_json(assessment, full_addresses=full)).encode() + b"\n"
