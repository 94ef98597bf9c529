# SPDX-License-Identifier: Apache-2.0
"""A kernel that can hibernate: TDX does not initialize on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import FailureReason, ModuleState
from tdx_headroom.verdict.decode import NO_HIBERNATE
from tdx_headroom.verdict.findings import FAILS, MAP_REASONS, Certainty, Finding, Findings, Signs

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

_LATE_REASONS = (
    *MAP_REASONS,
    FailureReason.NO_MEMORY,
    FailureReason.NOT_CONVERTIBLE,
    FailureReason.RBP_BUG,
    FailureReason.METADATA,
    FailureReason.SEAMCALL,
)
"""Failures that a kernel comes to only after it has looked at hibernation."""


def hibernation_blocks(facts: HostFacts) -> bool | None:
    """Whether the kernel can hibernate, on which TDX does not initialize; None when that is unknown."""
    log, platform = facts.kernel_log, facts.platform
    if log is not None and log.reason is FailureReason.HIBERNATION:
        return True
    if log is not None and (log.state is ModuleState.INITIALIZED or log.reason in _LATE_REASONS):
        # A kernel that does not look at it, as some vendors' do not: it came further all the same.
        return False
    can = platform.hibernation if platform is not None else None
    if not can:
        return can
    return None if facts.command_line is None else "nohibernate" not in facts.command_line


def look(signs: Signs) -> Findings:
    """Whatever the memory map, known or not."""
    if hibernation_blocks(signs.facts):
        yield Finding(
            "hibernation",
            FAILS,
            "The kernel can hibernate, and TDX does not initialize on such a kernel.",
            remedies=(NO_HIBERNATE,),
            certainty=Certainty.ANY_MAP,
        )
