# SPDX-License-Identifier: Apache-2.0
"""Nodes all of whose memory is movable: their PAMTs are taken from other nodes."""

from __future__ import annotations

from tdx_headroom.plan.zones import MOVABLE
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs


def look(signs: Signs) -> Findings:
    """Which nodes of the plan these are (``alloc_contig_pages()`` takes nothing from a movable zone)."""
    zones: dict[int, set[str]] = {}
    for zone in signs.facts.zones or ():
        if zone.node is not None:
            zones.setdefault(zone.node, set()).add(zone.name)
    planned = {tdmr.node for tdmr in signs.plan.tdmrs} if signs.plan is not None else set()
    alone = sorted(node for node, names in zones.items() if names == {MOVABLE} and node in planned)
    if alone:
        nodes = f"Node {alone[0]} has" if len(alone) == 1 else f"Nodes {', '.join(map(str, alone))} have"
        text = f"{nodes} only movable memory, which holds no PAMT: other nodes take theirs."
        yield Finding("movable-nodes", NOTE, text, {"nodes": len(alone)})
