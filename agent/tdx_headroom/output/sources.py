# SPDX-License-Identifier: Apache-2.0
"""What page and terminal report say of sources: what each is used for, and how two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.sources import Disagreement

MAX_RANGES = 4


def used_for(facts: HostFacts, source: str) -> str:
    """The facts that were taken from a source; empty when none was."""
    uses = (
        ("memory regions", facts.memory_source),
        ("nodes", facts.node_source),
        ("CMRs", facts.cmr_source and str(facts.cmr_source)),
    )
    return ", ".join(what for what, used in uses if used == source)


def only_in(found: Disagreement) -> list[str]:
    """The memory that only one of two sources has, a line for each that has some."""
    lines = []
    for source, ranges in ((found.a, found.only_a), (found.b, found.only_b)):
        if ranges:
            shown = ", ".join(show(*r) for r in ranges[:MAX_RANGES])
            more = f" and {len(ranges) - MAX_RANGES} more" if len(ranges) > MAX_RANGES else ""
            lines.append(f"only in {source}: {shown}{more}")
    return lines
