# SPDX-License-Identifier: Apache-2.0
"""Listening sockets and the limits on what a client may cost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from tdx_headroom.errors import AgentError
from tdx_headroom.web.pages import application

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from tdx_headroom.web.pages import View
    from tdx_headroom.web.settings import WebSettings

IDLE_SECONDS = 30
MAX_HEADER = 16 << 10
MAX_BODY = 1 << 10


class WebServer:
    """Serves a view until it is stopped; idle and slow clients are dropped."""

    def __init__(self, view: View, registry: CollectorRegistry, settings: WebSettings) -> None:
        self._settings = settings
        app = application(
            view,
            registry,
            telemetry_path=settings.telemetry_path,
            full_addresses=settings.full_addresses,
        )
        self._server = HTTPServer(
            app,
            idle_connection_timeout=IDLE_SECONDS,
            body_timeout=IDLE_SECONDS,
            max_header_size=MAX_HEADER,
            max_body_size=MAX_BODY,
            max_buffer_size=1 << 20,
        )

    def listen(self) -> list[str]:
        """Begin to listen; the URLs under which the pages are.

        Raises:
            AgentError: an address cannot be bound.
        """
        for address in self._settings.addresses:
            try:
                sockets = bind_sockets(address.port, address.host or None)
            except OSError as error:
                raise AgentError(
                    f"cannot listen on {address}: {error.strerror or error}",
                    hint="choose another address with --web.listen-address",
                    status=os.EX_UNAVAILABLE,
                ) from None
            self._server.add_sockets(sockets)
        return [f"http://{address}/" for address in self._settings.addresses]

    async def stop(self) -> None:
        """Close all sockets and connections."""
        self._server.stop()
        await self._server.close_all_connections()
