# SPDX-License-Identifier: Apache-2.0
"""What is behind each path: renderings of the current view. No request is echoed, none reaches the host."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client.exposition import choose_encoder
from tornado.web import Application, RequestHandler

from tdx_headroom.output.page import render_page, stylesheet
from tdx_headroom.output.plan_json import to_json

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from tdx_headroom.assessment import Assessment

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "tdx-headroom",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class View(Protocol):
    """What the server shows; the daemon swaps what is behind it."""

    @property
    def assessment(self) -> Assessment | None:
        """The last good assessment."""

    @property
    def stale(self) -> bool:
        """Whether a later attempt to assess has failed."""


class _Handler(RequestHandler):
    """Security headers on every answer, and an error page that says nothing but the status."""

    def set_default_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **_kwargs: Any) -> None:  # noqa: ANN401  tornado's signature
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}\n")

    async def head(self) -> None:
        await self.get()

    async def get(self) -> None:
        raise NotImplementedError

    def text(self, body: str, status: int = 200, kind: str = "text/plain; charset=utf-8") -> None:
        self.set_status(status)
        self.set_header("Content-Type", kind)
        self.finish(body)


class _Metrics(_Handler):
    def initialize(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    async def get(self) -> None:
        encoder, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(encoder(self.registry))


class _Page(_Handler):
    def initialize(self, view: View) -> None:
        self.view = view

    async def get(self) -> None:
        self.text(render_page(self.view.assessment, stale=self.view.stale), kind="text/html; charset=utf-8")


class _Style(_Handler):
    async def get(self) -> None:
        self.text(stylesheet(), kind="text/css; charset=utf-8")


class _Plan(_Handler):
    def initialize(self, view: View, *, full_addresses: bool) -> None:
        self.view = view
        self.full_addresses = full_addresses

    async def get(self) -> None:
        if self.view.assessment is None:
            self.text("not assessed yet\n", 503)
            return
        body = json.dumps(to_json(self.view.assessment, full_addresses=self.full_addresses))
        self.text(body + "\n", kind="application/json")


class _Healthy(_Handler):
    async def get(self) -> None:
        self.text("ok\n")


class _Ready(_Handler):
    def initialize(self, view: View) -> None:
        self.view = view

    async def get(self) -> None:
        ready = self.view.assessment is not None
        self.text("ok\n" if ready else "not assessed yet\n", 200 if ready else 503)


class _NotFound(_Handler):
    async def prepare(self) -> None:
        self.send_error(404)


def application(
    view: View,
    registry: CollectorRegistry,
    *,
    telemetry_path: str = "/metrics",
    full_addresses: bool = False,
) -> Application:
    """The agent's pages.

    Args:
        view: what to show.
        registry: what to export.
        telemetry_path: where the metrics are.
        full_addresses: whether the plan shows addresses finer than a TDMR's.
    """
    return Application(
        [
            (re.escape(telemetry_path), _Metrics, {"registry": registry}),
            ("/", _Page, {"view": view}),
            ("/style.css", _Style),
            ("/api/v1/plan", _Plan, {"view": view, "full_addresses": full_addresses}),
            ("/-/healthy", _Healthy),
            ("/-/ready", _Ready, {"view": view}),
        ],
        default_handler_class=_NotFound,
        log_function=lambda _handler: None,
        compress_response=True,
    )
