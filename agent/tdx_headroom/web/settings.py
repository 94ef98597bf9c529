# SPDX-License-Identifier: Apache-2.0
"""How to serve over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tdx_headroom.output.metric_families import Collector

if TYPE_CHECKING:
    import socket
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host (empty: all of them) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = self.host or "localhost"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """Where to listen: a socket in the file system, which only its owner and group may connect to."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may cost; times in seconds, sizes in bytes.

    Args:
        request_seconds: from connecting until the first request has come in whole, TLS handshake included.
        idle_seconds: from an answer until the next request has come in whole.
        send_seconds: for a client to take its answer.
        auth_seconds: for a request to wait until its password is checked.
        header_bytes: request line and headers together.
        body_bytes: a body has no meaning here; a small one is read and dropped, a larger one refused.
        connections: open at once; for one more, the one that has been silent longest is closed.
    """

    request_seconds: float = 10
    idle_seconds: float = 60
    send_seconds: float = 20
    auth_seconds: float = 5
    header_bytes: int = 8 << 10
    body_bytes: int = 1 << 10
    connections: int = 512


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Everything that the command line says about HTTP.

    Args:
        addresses: where to listen.
        sockets: to listen on too; somebody else has bound them.
        telemetry_path: where the metrics are.
        full_addresses: whether the plan shows addresses finer than a TDMR's over TCP.
        config_file: TLS, passwords and headers; None: plain HTTP for everybody.
        max_requests: requests that may wait or be sent at once; 0: as many as there are connections.
        runbook_url: where the runbooks can be read, for links from the page; None: no links.
        limits: what a client may cost.
        collectors: which series a scrape gets that asks for none.
    """

    addresses: tuple[Address | UnixAddress, ...] = ()
    sockets: tuple[socket.socket, ...] = ()
    telemetry_path: str = "/metrics"
    full_addresses: bool = False
    config_file: Path | None = None
    max_requests: int = 40
    runbook_url: str | None = None
    limits: Limits = field(default_factory=Limits)
    collectors: frozenset[Collector] = frozenset({Collector.DEFAULT})

    @property
    def most_requests(self) -> int:
        """Requests that may wait or be sent at once, as a number in any case."""
        return self.max_requests or self.limits.connections
