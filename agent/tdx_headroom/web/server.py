# SPDX-License-Identifier: Apache-2.0
"""Accepts clients, within limits on what they may cost, and has their requests answered."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import TYPE_CHECKING, Any

from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection

from tdx_headroom import log
from tdx_headroom.output import metric_families
from tdx_headroom.web import library_log
from tdx_headroom.web.connection import Connection, TlsConnection, limit_buffers, origin_of
from tdx_headroom.web.connections import Connections
from tdx_headroom.web.handler import RequestHandler
from tdx_headroom.web.listen import Listener, open_listeners
from tdx_headroom.web.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from tdx_headroom.web.config_reload import ConfigWatch
    from tdx_headroom.web.pages import View
    from tdx_headroom.web.settings import WebSettings

ACCEPT_AT_ONCE = 256
"""Clients to accept before those that are connected already have their turn."""

CHUNK = 4 << 10
OTHER_FILES = 64
"""Descriptors that the agent needs for other things than clients."""

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ACCEPT_PAUSE = 0.1


class WebServer:
    """Serves a view until it is stopped; idle and slow clients are dropped.

    Args:
        view: what to show.
        registry: what to export; the server's own metrics are added to it.
        settings: how to serve.

    Raises:
        AgentError: the web configuration cannot be used.
    """

    def __init__(self, view: View, registry: CollectorRegistry, settings: WebSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        limits = settings.limits
        self._watch = _watch(settings)
        self._connections = Connections(limits, settings.most_requests, self._loop.time, self._sweep_at)
        pages = Pages(
            view,
            registry,
            settings.telemetry_path,
            runbook_url=settings.runbook_url,
            collectors=settings.collectors,
        )
        self._handler = RequestHandler(pages, self._connections, self._watch, settings)
        # No timeouts here: they would be one timer a request, and `Connections` has them all.
        self._parameters = HTTP1ConnectionParameters(
            chunk_size=CHUNK, max_header_size=limits.header_bytes, max_body_size=limits.body_bytes
        )
        self._listeners: list[Listener] = []
        self._sweep_every = min(
            1.0, limits.request_seconds / 4, limits.idle_seconds / 4, limits.send_seconds / 4
        )
        self._sweeping: asyncio.TimerHandle | None = None
        self._swept_at = 0.0
        registry.register(_ServerMetrics(self._handler, self._watch))

    def listen(self) -> list[str]:
        """Begin to listen; the URLs under which the pages are.

        Raises:
            AgentError: an address cannot be bound.
        """
        library_log.install()
        self._connections.max_connections = _allow_descriptors(self._settings.limits.connections)
        self._listeners = open_listeners(self._settings.addresses, self._settings.sockets)
        for listener in self._listeners:
            self._loop.add_reader(listener.socket, self._accept, listener)
        secure = self._watch is not None and self._watch.current().context is not None
        return list(dict.fromkeys(_url(listener, secure=secure) for listener in self._listeners))

    async def stop(self) -> None:
        """Close all sockets and connections."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.socket)
            listener.close()
        self._listeners = []
        self._handler.close()
        self._connections.close_all()
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._watch is not None:
            self._watch.close()
        await asyncio.sleep(0)  # those who waited on a closed stream see that it is

    def _sweep(self) -> None:
        self._sweeping = None
        self._swept_at = self._loop.time()
        self._connections.sweep()

    def _sweep_at(self, time: float) -> None:
        """Sweep at that time, or a little later: not once for each of many clients, and never for none."""
        time = max(time, self._swept_at + self._sweep_every)
        if self._sweeping is not None:
            if self._sweeping.when() <= time:
                return
            self._sweeping.cancel()
        self._sweeping = self._loop.call_at(time, self._sweep)

    def _accept(self, listener: Listener) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, address = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_FILES:
                    self._pause(listener)
                    return
                continue  # that client has gone already
            self._connect(sock, address, listener)

    def _pause(self, listener: Listener) -> None:
        """Without a free descriptor a client can neither be accepted nor sent away: make room, wait.

        Half of the connections go: the other half has come so lately that its requests may not be read yet.
        """
        log.get().warning("out of file descriptors", connections=len(self._connections))
        for _ in range((len(self._connections) + 1) // 2):
            self._connections.make_room()
        self._loop.remove_reader(listener.socket)
        self._loop.call_later(ACCEPT_PAUSE, self._resume, listener)

    def _resume(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener.socket, self._accept, listener)

    def _connect(self, sock: socket.socket, address: object, listener: Listener) -> None:
        loaded = self._watch.current() if self._watch is not None and not listener.private else None
        options: dict[str, Any] = {}
        kind: type[Connection] = Connection
        try:
            limit_buffers(sock, self._settings.limits.send_seconds)
            origin = origin_of(sock, address)
            if loaded is not None and loaded.context is not None:
                sock = loaded.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                kind = TlsConnection
                options["client_names"] = loaded.config.tls.client_names if loaded.config.tls else None
            connection = kind(
                sock,
                self._connections,
                origin=origin,
                private=listener.private,
                refuse=self._handler.refusal,
                max_buffer_size=self._settings.limits.header_bytes + CHUNK,
                read_chunk_size=CHUNK,
                **options,
            )
        except (OSError, ValueError):  # the client has gone, or has sent something before TLS could begin
            sock.close()
            return
        self._connections.add(connection)
        HTTP1ServerConnection(connection, self._parameters, connection).start_serving(self._handler)


class _ServerMetrics:
    """The server's own metrics."""

    def __init__(self, handler: RequestHandler, watch: ConfigWatch | None) -> None:
        self._handler = handler
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        return metric_families.families(self._samples())

    def _samples(self) -> Iterator[metric_families.Sample]:
        for code, count in self._handler.answered.items():
            yield ("tdx_headroom_http_requests_total", (str(code),), count)
        yield ("tdx_headroom_http_connections", (), len(self._handler.connections))
        for reason, count in self._handler.connections.dropped.items():
            yield ("tdx_headroom_http_connections_dropped_total", (reason,), count)
        if self._watch is not None:
            yield ("tdx_headroom_http_auth_failures_total", (), self._handler.answered[401])
            yield ("tdx_headroom_web_config_reload_success", (), int(not self._watch.failing))
            yield ("tdx_headroom_web_config_reload_failures_total", (), self._watch.failures)


def _watch(settings: WebSettings) -> ConfigWatch | None:
    if settings.config_file is None:
        return None
    from tdx_headroom.web.config_reload import ConfigWatch  # noqa: PLC0415  brings PyYAML and bcrypt, 3 MiB

    return ConfigWatch(settings.config_file)


def _allow_descriptors(connections: int) -> int:
    """How many connections there can be, after raising the soft limit on descriptors if it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return connections if soft == resource.RLIM_INFINITY else max(8, min(connections, soft - OTHER_FILES))


def _url(listener: Listener, *, secure: bool) -> str:
    if listener.socket.family == socket.AF_UNIX:
        return listener.name
    return f"{'https' if secure else 'http'}://{listener.name}/"
