# SPDX-License-Identifier: Apache-2.0
"""CMRs on a kernel that reads them: what it prints, what the agent reads of it, and what it concludes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.plan.module import accepts_cmrs
from tests.kernel import agent
from tests.kernel.compare import Difference
from tests.kernel.guestmap import CMR_SUBREGION, MEMORY_REGIONS

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tests.kernel.pieces import Span
    from tests.kernel.store import Case

_INIT_LEAF = 33
_LINE = "CMR"
_REFUSED = "SEAMCALL (0x0000000000000021) failed: 0xc0000a2200000000"
"""TDH.SYS.INIT: TDX_CMR_LIST_INVALID."""


def compare_cmrs(case: Case, facts: HostFacts) -> list[Difference]:
    """All differences between the CMRs that a boot was given and what is made of them.

    Args:
        case: a kept boot under a CMR strategy; of another there are none.
        facts: what the agent read from its root.
    """
    truth, given = case.truth, case.guest.module.cmrs
    if truth is None or given is None or case.guest.strategy == MEMORY_REGIONS:
        return []
    found = []
    read = [line for line in truth.lines if line.startswith(_LINE)]
    ranges = known_to_kernel(given)
    if read or truth.attempted:
        expected = [_line(case.guest.strategy, i, cmr) for i, cmr in enumerate(ranges)]
        if read != expected:
            found.append(Difference("lines on CMRs", read, expected))
    sizes = tuple((start, end - start) for start, end in ranges) if read else None
    if facts.cmrs != sizes:
        found.append(Difference("CMRs", sizes, facts.cmrs))
    if case.guest.module.fail_leaf != _INIT_LEAF:
        refused = _REFUSED in truth.lines
        takes = accepts_cmrs([(start, end - start) for start, end in given])
        if refused == takes:
            found.append(Difference("table of CMRs", "refused" if refused else "taken", takes))
    return [*found, *_claim(case, facts)]


def known_to_kernel(given: tuple[Span, ...]) -> list[Span]:
    """The CMRs that the kernel keeps: those before the first empty entry."""
    empty = next((i for i, (start, end) in enumerate(given) if start == end), len(given))
    return list(given[:empty])


def _line(strategy: str, index: int, cmr: Span) -> str:
    """Each strategy prints them in one of the two formats (``standin/tdx_cmrs.c``)."""
    number = "" if strategy == CMR_SUBREGION else f"[{index}]"
    return f"{_LINE}{number}: [{cmr[0]:#x}, {cmr[1]:#x})"


def _claim(case: Case, facts: HostFacts) -> list[Difference]:
    """What the boot proves of the kernel's strategy to the agent, which is told the module's limits alone."""
    said = agent.proven_strategy(facts, case.guest.module)
    if said in (None, case.guest.strategy):
        return []
    return [Difference("strategy, by evidence", case.guest.strategy, said)]
