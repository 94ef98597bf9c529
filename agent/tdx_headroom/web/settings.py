# SPDX-License-Identifier: Apache-2.0
"""How to serve over HTTP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host (empty: all of them) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = self.host or "localhost"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Everything that the command line says about HTTP.

    Args:
        addresses: where to listen.
        telemetry_path: where the metrics are.
        full_addresses: whether the plan shows addresses finer than a TDMR's over TCP.
    """

    addresses: tuple[Address, ...]
    telemetry_path: str = "/metrics"
    full_addresses: bool = False
