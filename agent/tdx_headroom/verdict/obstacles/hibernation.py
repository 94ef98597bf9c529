# SPDX-License-Identifier: Apache-2.0
"""A kernel that can hibernate: TDX does not initialize on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.boot_arguments import forbids_hibernation
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.kernel_report import FailureReason
from tdx_headroom.verdict.decode import NO_HIBERNATE
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty, Finding, Findings, Signs
from tdx_headroom.verdict.this_boot import came_past_hibernation
from tdx_headroom.verdict.this_kernel import known_start

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

KIND = "hibernation"


def hibernation_blocks(facts: HostFacts) -> bool | None:
    """Whether the kernel can hibernate, on which TDX does not initialize; None when that is unknown."""
    log, platform = facts.kernel_log, facts.platform
    if log is not None and log.reason is FailureReason.HIBERNATION:
        return True
    if came_past_hibernation(log):
        # A kernel that does not look at it, as some vendors' do not: it came further all the same.
        return False
    can = platform.hibernation if platform is not None else None
    if not can:
        return can
    return None if facts.command_line is None else not forbids_hibernation(facts.command_line)


def _may_try(facts: HostFacts) -> bool:
    return known_start(facts).starts not in (Starts.NOT_BUILT, Starts.NEVER)


def look(signs: Signs) -> Findings:
    """Whatever the memory map, known or not."""
    if hibernation_blocks(signs.facts):
        yield Finding(
            KIND,
            FAILS,
            "The kernel can hibernate, and TDX does not initialize on such a kernel.",
            remedies=(NO_HIBERNATE,),
            certainty=Certainty.ANY_MAP,
        )
    elif signs.staged is not None and signs.staged.hibernation_open and _may_try(signs.facts):
        text = (
            "Hibernation is off in this boot, by its command line, lockdown or CXL memory. Nothing shows that"
            " it is off in that one when the kernel looks for TDX, which does not initialize on a kernel that"
            " can hibernate."
        )
        yield Finding(KIND, RISK, text, remedies=(NO_HIBERNATE,))
