# SPDX-License-Identifier: Apache-2.0
"""TDX failed in this boot, for a reason that lies in the memory map or may be gone at the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import FailureReason
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.decode import failed_in_words, is_persistent, remedies_for
from tdx_headroom.verdict.findings import (
    FAILS,
    NOTE,
    RISK,
    Finding,
    Findings,
    Remedy,
    RemedyKind,
    Signs,
    is_the_maps,
)
from tdx_headroom.verdict.kernels import names_with
from tdx_headroom.verdict.model import Basis, State
from tdx_headroom.verdict.remedies import for_set_aside

if TYPE_CHECKING:
    from tdx_headroom.facts.kernel_report import KernelReport

AGAIN = "fails-again"
FAILED = "failed-in-this-boot"
KINDS = (AGAIN, FAILED)

_RUN_HERE = Remedy(
    RemedyKind.LOOK_FURTHER,
    "Run tdx-headroom on this host as root, or give it the kernel log from its beginning"
    " (`journalctl -k -b`): it then says which holes to remove.",
)
_HOLES = Remedy(
    RemedyKind.FEWER_AREAS,
    "Have fewer holes in the memory map: below 4 GiB they are the firmware's (ACPI tables, runtime services,"
    " reserved ranges), which a BIOS version or setting changes; each memmap= and each PAMT adds one.",
)
_NOT_SHOWN = Remedy(
    RemedyKind.LOOK_FURTHER,
    "The recomputed plan does not show this failure: memory may have changed since, or a source be"
    " incomplete. The kernel tries again at the next boot, not when kvm_intel is loaded again.",
)


def look(signs: Signs) -> Findings:
    """The failure; where the plan fits all the same, something went wrong that the plan does not show."""
    log = signs.failed
    if log is None or is_persistent(log):
        return
    override = signs.strategy.basis is Basis.OVERRIDE
    found = remedies_for(log)
    if log.reason is FailureReason.NO_MEMORY and signs.plan is not None:
        found = (*for_set_aside(signs, signs.plan), *found)
    if (signs.plan is None or _refused_as_it_is(signs, log)) and is_the_maps(log) and not override:
        text = f"{failed_in_words(log)} The same kernel on the same memory map fails again."
        kernels = _other_kernels(log, signs.strategy.strategy)
        yield Finding(AGAIN, FAILS, text, remedies=found or (*kernels, _HOLES, _RUN_HERE))
        return
    if signs.plan is None and not found:
        found = (_RUN_HERE,)
    elif signs.predicted is State.WILL_INITIALIZE and not found:
        found = (_NOT_SHOWN,)
    yield Finding(FAILED, NOTE if override else RISK, failed_in_words(log), remedies=found)


def _refused_as_it_is(signs: Signs, log: KernelReport) -> bool:
    """Whether the module has refused this very map, for what only its CMRs tell.

    The plan fits all the same where the CMRs are unknown; memory that came since the boot may be what was not
    there then.
    """
    late = any(suspect.late for suspect in signs.facts.suspects)
    return log.reason is FailureReason.SEAMCALL and signs.predicted is not State.WILL_FAIL and not late


def _other_kernels(log: KernelReport, strategy: Strategy) -> tuple[Remedy, ...]:
    """Kernels that need fewer areas on any map; how many is unknown without it."""
    if log.reason in (FailureReason.TDMRS, FailureReason.SEAMCALL) or strategy is not Strategy.MEMORY_REGIONS:
        return ()
    kernels = ", ".join(names_with({Strategy.CMR_SUBREGION, Strategy.CMR_WALK}, initializing=True))
    text = f"Boot a kernel that looks at CMRs, and so needs fewer areas, if few enough: {kernels}."
    return (Remedy(RemedyKind.OTHER_KERNEL, text),)
