# SPDX-License-Identifier: Apache-2.0
"""TDX came up in this boot, and the memory map is unknown: what there is to say about the next one."""

from __future__ import annotations

from tdx_headroom.facts.observations import TdxSeen
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.signs import tdx_seen

KIND = "room-unknown"


def look(signs: Signs) -> Findings:
    """The same kernel does the same on the same memory map; nobody can tell whose boot an excerpt is of."""
    health = signs.facts.log_health
    excerpt = health is not None and health.excerpt
    if signs.plan is None and not signs.what_if and not excerpt and tdx_seen(signs.facts) is TdxSeen.UP:
        text = (
            "The same kernel on the same memory map brings TDX up again. How many reserved areas are left,"
            " and what another kernel would do, only the map can tell."
        )
        yield Finding(KIND, NOTE, text)
