# SPDX-License-Identifier: Apache-2.0
"""Memory that is added after the boot: a kernel that initializes TDX at boot never plans with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom.address import Range, subtract
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.verdict.this_kernel import likely_start

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts


def late_memory(facts: HostFacts) -> list[Range]:
    """Memory that comes after TDX under the kernel of these facts, by the names of it; none under others."""
    if not facts.suspects:
        return []
    if likely_start(facts).starts is not Starts.BOOT:
        return []
    return [Range(suspect.start, suspect.end) for suspect in facts.suspects if suspect.late]


def at_boot(facts: HostFacts) -> HostFacts:
    """The facts with the memory that TDX finds under their kernel; they themselves, where that is all."""
    late = late_memory(facts)
    if not late or facts.memory_regions is None:
        return facts
    regions = tuple(
        MemoryRegion(start, end, region.node)
        for region in facts.memory_regions
        for start, end in subtract([(region.start, region.end)], late)
    )
    return replace(facts, memory_regions=regions)
