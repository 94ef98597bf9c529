# SPDX-License-Identifier: Apache-2.0
"""A memory map that cannot be the whole one: a pasted log often ends where the interesting part did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, show_size, subtract, total
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.model import Sentence

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

KIND = "part-of-the-map"
# One GiB more of memory takes this much more PAMT: 16 bytes a page.
_PAMT_OF_A_GIB = 4096


def look(signs: Signs) -> Findings:
    """What proves it."""
    beyond = beyond_the_map(signs.facts, signs.plan)
    if beyond is not None:
        source = signs.facts.memory_source
        log = source is not None and source.from_log
        whole = "the whole log (`journalctl -k -b`)" if log else "all of it"
        said = f"{'The log shows' if log else 'There is'} only a part of the memory map: {{}}. Give {whole}."
        public = beyond.public if isinstance(beyond, Sentence) else beyond
        text = Sentence(said.format(beyond), public=said.format(public))
        yield Finding(KIND, NOTE, text)


def beyond_the_map(facts: HostFacts, plan: Plan | None) -> str | None:
    """What proves that a source shows only a part of the memory; None when nothing does.

    Memory that the command line keeps from the kernel (``mem=``, ``memmap=``) is missing for good, but none
    comes up without any below 4 GiB.
    """
    regions, log = facts.memory_regions, facts.kernel_log
    if regions is None or facts.memory_source is None:
        return None
    if all(region.start >= 4 * GIB for region in regions):
        return "it has no RAM below 4 GiB, and every host has some"
    if not facts.memory_source.from_log:
        return None
    if map_edits(facts.command_line or ()):
        return None
    cmrs = log.cmrs if log is not None else None
    above = subtract(cmrs or (), [(0, regions[-1].end)])
    if total(above) >= GIB:
        said = "CMRs show {} of memory above the last of the map"
        size = total(above)
        return Sentence(
            said.format(show_size(size)), public=said.format(f"about {show_size(size // GIB * GIB)}")
        )
    if log is not None and log.pamt_kib is not None and plan is not None:
        recomputed = plan.pamt_bytes // 1024
        if log.pamt_kib >= recomputed + _PAMT_OF_A_GIB:
            return f"the kernel took {log.pamt_kib} KiB of PAMT, and this map needs only {recomputed}"
    return None
