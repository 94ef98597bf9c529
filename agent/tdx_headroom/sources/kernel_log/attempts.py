# SPDX-License-Identifier: Apache-2.0
"""Attempts at the initialisation and lists of CMRs that a log has shown, and which of several counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import FailureReason, ModuleState, NoTdx, SeamcallFailure
from tdx_headroom.sources.kernel_log.tdx_lines import OUTCOMES, match_tdx_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord

# A leaf of the module's bring-up that fails says nothing about a module that runs, other leaves do.
_INIT_LEAVES = {0x1F, 0x21, 0x22, 0x23, 0x24, 0x2D}
# Completion status, upper 32 bits: C0000500 to C00005FF say that the module itself is not ready.
_NOT_READY = range(0xC0000500, 0xC0000600)
# What the SEAMCALL instruction itself reports when there is no module: bit 63 and 62 of the class apart.
_MODULE_ANSWERS = (0x4, 0x6, 0xC, 0xE)

_REASON_OF_ERRNO = {
    -5: FailureReason.SEAMCALL,
    -12: FailureReason.NO_MEMORY,
    -13: FailureReason.EXCEPTION,
    -19: FailureReason.NOT_LOADED,
    -22: FailureReason.METADATA,
    -28: FailureReason.AREAS_OR_TDMRS,
    -95: FailureReason.EXCEPTION,
}
_WORST_FIRST = (ModuleState.FAILED, ModuleState.UNSUPPORTED, ModuleState.INITIALIZED)


@dataclass(slots=True)
class Attempt:
    """What one attempt at the initialisation has shown so far; ``state`` is set once it is complete."""

    state: ModuleState | None = None
    reason: FailureReason | None = None
    no_tdx: NoTdx | None = None
    errno: int | None = None
    message: str | None = None
    pamt_kib: int | None = None
    failed_tdmr: Range | None = None
    tdmrs_used: tuple[int, int] | None = None
    seamcall: SeamcallFailure | None = None
    hint: FailureReason | None = None

    @property
    def by_errno(self) -> FailureReason:
        """Why it failed, where only an errno ends it."""
        if self.hint is not None:
            return self.hint
        return _REASON_OF_ERRNO.get(self.errno or 0, FailureReason.OTHER)

    @property
    def outcome(self) -> tuple[object, ...]:
        """How it ended; two attempts of one log that differ in it contradict each other."""
        return self.state, self.reason, self.errno, self.failed_tdmr


@dataclass(slots=True)
class CmrList:
    """CMRs that one attempt printed, and the records that they stand in."""

    ranges: list[Range] = field(default_factory=list)
    first: int = 0
    last: int = 0


def module_runs(leaf: int, status: int) -> bool:
    """Whether a call that fails shows a module that runs: it answers, and not about its bring-up."""
    answered = status >> 60 in _MODULE_ANSWERS and (status >> 32) not in _NOT_READY
    return leaf not in _INIT_LEAVES and answered


def worst_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The complete attempt with the worst end, of equal ones the first; None when there is none."""
    return min(attempts, key=lambda a: _WORST_FIRST.index(a.state or _WORST_FIRST[0]), default=None)


def chosen_cmrs(lists: Sequence[CmrList], log: KernelLog) -> tuple[tuple[Range, ...], bool]:
    """The CMRs of a boot, and whether their list is whole.

    The ring buffer may begin, and a log may be cut, in the middle of a list. CMRs do not change within a
    boot: the latest whole list counts, or the first where a later one may be forged.
    """
    whole = [
        cmrs
        for cmrs in lists
        if log.begun < cmrs.first and cmrs.last < log.whole - 1 and not log.is_torn(cmrs.first, cmrs.last + 1)
    ]
    chosen = (whole or lists)[-1 if log.verified else 0]
    return tuple(chosen.ranges), bool(whole)


def same_moment(log: KernelLog) -> list[str]:
    """Outcomes with the very time of an unrelated line before them, in a log whose clock goes on."""
    found = []
    before: LogRecord | None = None
    suspicious = False
    for record in log.records:
        line = match_tdx_line(record.text)
        if before is None or not record.time or record.time != before.time:
            # The first of all has no other time before it: a log may show one time for all.
            suspicious = before is not None and line is None
        elif suspicious and line is not None and line.kind in OUTCOMES:
            found.append(record.text)
            suspicious = False
        before = record
    return found
