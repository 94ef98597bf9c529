# SPDX-License-Identifier: Apache-2.0
"""What to do about memory that the module refuses because no CMR has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import page_round, show_size, total
from tdx_headroom.plan.regions import not_convertible, tdx_memory_list
from tdx_headroom.verdict.findings import Remedy, RemedyKind
from tdx_headroom.verdict.model import Sentence, describe
from tdx_headroom.verdict.remedies.moves import Memory, without
from tdx_headroom.verdict.remedies.search import Goal
from tdx_headroom.verdict.remedies.trial import arguments_for, is_left, planned

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

MAX_ARGUMENTS = 16
"""More than this nobody types; the memory map is another one then than the CMRs were made for."""


def keep_off(facts: HostFacts, plan: Plan) -> list[Remedy]:
    """To keep the kernel off all memory outside the CMRs, where that makes the module accept the plan.

    Args:
        facts: of the host, its CMRs known.
        plan: of it, that the module refuses.
    """
    if facts.cmrs is None or facts.memory_regions is None:
        return []
    memory = Memory(facts)
    outside = page_round(not_convertible(tdx_memory_list(facts.memory_regions), facts.cmrs))
    if not 0 < len(outside) <= MAX_ARGUMENTS or any(memory.must_stay(*piece) for piece in outside):
        return []
    changed = without(facts, outside)
    tried = planned(changed, plan.strategy)
    if tried is None or not Goal.FITS.is_met(tried):
        return []
    if not is_left(facts, outside, changed.memory_regions or ()):
        return []
    arguments = arguments_for(outside)
    size = total(outside)
    text = Sentence(
        f"Or keep the kernel off the {show_size(size)} that lie outside every CMR: {' '.join(arguments)} at"
        f" the end of its command line. With that: {describe(tried)}",
        public="Or keep the kernel off the memory outside every CMR with memmap= at the end of its command"
        f" line: `tdx-headroom remedy` on the host shows which. With that: {describe(tried)}",
    )
    return [Remedy(RemedyKind.ADD_ARGUMENTS, text, arguments, None, size, computed=True, left=tried.headroom)]
