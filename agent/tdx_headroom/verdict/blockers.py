# SPDX-License-Identifier: Apache-2.0
"""What stops TDX whatever the memory map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import FailureReason, ModuleState
from tdx_headroom.verdict.decode import describe_failure, is_persistent

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

MAP_REASONS = (FailureReason.RESERVED_AREAS, FailureReason.TDMRS, FailureReason.AREAS_OR_TDMRS)

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


def blocker(facts: HostFacts) -> str | None:
    """What stops TDX whatever the memory map, as far as it can be seen."""
    if hibernation_blocks(facts):
        return "The kernel can hibernate, and TDX does not initialize on such a kernel."
    log = facts.kernel_log
    if log is None or not is_persistent(log):
        return None
    return f"What stopped TDX in this boot is still there: {describe_failure(log)}."
