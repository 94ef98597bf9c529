# SPDX-License-Identifier: Apache-2.0
"""What is behind each path: renderings of the current view. No request is echoed, none reaches the host."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tdx_headroom.output.plan_json import to_json
from tdx_headroom.web.request import wants_openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import Collector, CollectorRegistry

    from tdx_headroom.verdict.assessment import Assessment

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SHARE = 0.25
"""How much of the time may go into rendering; a flood of requests then shares renderings."""

SAVED = 0.25
"""Seconds of rendering that can be had at once after a quiet time."""

MAX_AGE = 1.0
"""Seconds after which a shared rendering is made anew in any case."""

MIN_GZIP = 1024

EOF = b"# EOF\n"
"""Ends a page of OpenMetrics."""

RENDERERS: dict[str, Callable[[Collector], bytes]] = {
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

    def exposition(self, render: Callable[[Collector], bytes]) -> bytes:
        """Its own metrics as text, rendered once for as long as they stay the same."""


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
    answer: Answer
    assessment: Assessment | None
    made_at: float


def plain(status: int, text: str) -> Answer:
    """An answer of one line."""
    return Answer(status, TEXT, text.encode() + b"\n")


OK = plain(200, "ok")
NOT_ASSESSED = plain(503, "not assessed yet")
NOT_FOUND = plain(404, "404")


class Pages:
    """The agent's pages.

    Args:
        view: what to show.
        registry: what to export besides the view's own metrics: what is different at every scrape.
        telemetry_path: where the metrics are.
        clock: seconds.
    """

    def __init__(
        self,
        view: View,
        registry: CollectorRegistry,
        telemetry_path: str = "/metrics",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._view = view
        self._registry = registry
        self._telemetry_path = telemetry_path
        self._clock = clock
        self._made: dict[tuple[str, bool], _Rendering] = {}
        self._budget = SAVED
        self._counted_at = clock()

    def get(self, path: str, accept: str, *, full: bool) -> Answer:
        """The answer to a GET.

        Args:
            path: without query.
            accept: the request's Accept header.
            full: whether this client may see addresses finer than a TDMR's.
        """
        assessment = self._view.assessment
        if path == self._telemetry_path:
            kind = OPENMETRICS if wants_openmetrics(accept) else PROMETHEUS
            return self._shared(kind, False, lambda: self._metrics(kind))
        if path == "/":
            return self._shared(HTML, full, lambda: self._page(assessment, full=full))
        if path == "/api/v1/plan":
            if assessment is None:
                return NOT_ASSESSED
            return self._shared(JSON, full, lambda: _plan(assessment, full=full))
        if path == "/style.css":
            return self._shared(CSS, False, _stylesheet)
        if path == "/-/healthy":
            return OK
        if path == "/-/ready":
            return OK if assessment is not None else NOT_ASSESSED
        return NOT_FOUND

    def _metrics(self, kind: str) -> bytes:
        render = RENDERERS[kind]
        return self._view.exposition(render).removesuffix(EOF) + render(self._registry)

    def _page(self, assessment: Assessment | None, *, full: bool) -> bytes:
        from tdx_headroom.output.page import render_page  # noqa: PLC0415  brings Jinja2, 2 MiB

        page = render_page(
            assessment,
            stale=self._view.stale,
            full_addresses=full,
            telemetry_path=self._telemetry_path,
            assessed_at=self._view.assessed_at,
        )
        return page.encode("utf-8", "backslashreplace")

    def _shared(self, kind: str, full: bool, render: Callable[[], bytes]) -> Answer:  # noqa: FBT001  part of the key
        """Render, unless that has taken too much of the last time: then the last rendering serves again."""
        began = self._clock()
        self._budget = min(SAVED, self._budget + (began - self._counted_at) * SHARE)
        self._counted_at = began
        last = self._made.get((kind, full))
        if (
            last is not None
            and self._budget <= 0
            and last.assessment is self._view.assessment
            and began - last.made_at < MAX_AGE
        ):
            return last.answer
        answer = Answer(200, kind, render())
        now = self._clock()
        self._budget -= now - began
        self._made[kind, full] = _Rendering(answer, self._view.assessment, now)
        return answer


def _stylesheet() -> bytes:
    from tdx_headroom.output.page import stylesheet  # noqa: PLC0415  as above

    return stylesheet().encode()


def _plan(assessment: Assessment, *, full: bool) -> bytes:
    return json.dumps(to_json(assessment, full_addresses=full)).encode() + b"\n"
