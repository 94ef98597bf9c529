# SPDX-License-Identifier: Apache-2.0
"""What comes after the boot: for a kernel that initializes TDX at boot it is too late to count.

That is memory that is added, with which the kernel never plans, and what KVM says when it is loaded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom.address import Range, subtract
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.kernel_report import KVM_REASONS, ModuleState
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
    """The facts with what TDX finds under their kernel; they themselves, where that is all."""
    facts = _without_kvms_word(facts)
    late = late_memory(facts)
    if not late or facts.memory_regions is None:
        return facts
    regions = tuple(
        MemoryRegion(start, end, region.node)
        for region in facts.memory_regions
        for start, end in subtract([(region.start, region.end)], late)
    )
    return replace(facts, memory_regions=regions)


def _without_kvms_word(facts: HostFacts) -> HostFacts:
    """That KVM lacks something says nothing of a module that the kernel has initialized before, or not."""
    log = facts.kernel_log
    if log is None or log.reason not in KVM_REASONS or likely_start(facts).starts is not Starts.BOOT:
        return facts
    state = ModuleState.UNKNOWN if log.state is ModuleState.FAILED else log.state
    return replace(facts, kernel_log=replace(log, state=state, reason=None, message=None))
