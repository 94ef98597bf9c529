# SPDX-License-Identifier: Apache-2.0
"""From TDX lines to one report: which attempt counts, and how it ended.

In a log that only the kernel can have written, the last complete attempt of the boot counts. In any other a
line may be forged: of two outcomes the worse one counts, of two facts the first, and that there are two is
told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import (
    KVM_REASONS,
    Contradiction,
    ContradictionKind,
    FailureReason,
    KernelReport,
    ModuleState,
    SeamcallFailure,
)
from tdx_headroom.sources.kernel_log.attempts import (
    Attempt,
    CmrList,
    chosen_cmrs,
    module_runs,
    same_moment,
    worst_of,
)
from tdx_headroom.sources.kernel_log.known_lines import hides_failure
from tdx_headroom.sources.kernel_log.tdx_lines import (
    FAILURES,
    KVM_GIVES_UP,
    NO_TDX,
    match_tdx_line,
    number_of,
    range_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.sources.kernel_log.records import KernelLog
    from tdx_headroom.sources.kernel_log.tdx_lines import TdxLine

_KVM = "kvm_intel: "


@dataclass(slots=True)
class _Reader:
    """Reads the lines of one boot in order."""

    report: KernelReport
    attempt: Attempt = field(default_factory=Attempt)
    completed: list[Attempt] = field(default_factory=list)
    cmr_lists: list[CmrList] = field(default_factory=list)
    cmrs_of: Attempt | None = None
    started: bool = False

    def progress(self) -> Attempt:
        """The attempt that a line of its middle belongs to: a new one when the last is complete."""
        self.started = True
        if self.attempt.state is not None:
            self.attempt = Attempt()
        return self.attempt

    def complete(self, state: ModuleState, message: str) -> Attempt:
        """The attempt that a closing line belongs to, now complete.

        A closing line goes with the one before it when both tell the same outcome (``N KB allocated for
        PAMT`` and ``module initialized``; the reason and ``module initialization failed``).
        """
        if self.attempt.state not in (None, state):
            self.attempt = Attempt()
        first = self.attempt.state is None
        self.attempt.state = state
        if first:
            self.attempt.message = message
            self.completed.append(self.attempt)
        return self.attempt


def read_report(log: KernelLog) -> KernelReport:
    """What the log says about TDX in this boot."""
    reader = _Reader(KernelReport(verified=log.verified, contradictions=log.contradictions))
    for index, record in enumerate(log.records):
        line = match_tdx_line(record.text)
        # A version that has lost its end looks like another version.
        if line is not None and (index < log.whole or "version" not in line.groups):
            _read_line(reader, line, record.text, index)
    return _finish(reader, log, _decide(reader, log))


def _decide(reader: _Reader, log: KernelLog) -> Attempt | None:
    """The attempt that counts; in a log that anybody may have written to, what speaks against it is noted."""
    if log.verified:
        return reader.completed[-1] if reader.completed else None
    for text in same_moment(log):
        _contradicts(reader, ContradictionKind.SAME_MOMENT, text)
    worst = worst_of(reader.completed)
    other = (
        next((attempt for attempt in reader.completed if attempt.outcome != worst.outcome), None)
        if worst
        else None
    )
    if other is not None:
        _contradicts(reader, ContradictionKind.TWO_OUTCOMES, other.message)
    outside = _outside(log)
    failed = worst is not None and worst.state is ModuleState.FAILED
    if not failed and outside is None and hides_failure(log):
        # What could not be read may be the failure that came of it.
        return None
    if outside is None or failed:
        return worst
    if worst is not None:
        _contradicts(reader, ContradictionKind.OUTSIDE_THE_LOG, outside.message)
    return outside


def _outside(log: KernelLog) -> Attempt | None:
    """A failure that stands in a log without the log's prefix: as prose, or as the rest of a message."""
    reader = _Reader(KernelReport())
    for text in log.loose:
        line = match_tdx_line(text)
        if line is not None:
            _read_line(reader, line, text, 0)
    return next((attempt for attempt in reader.completed if attempt.state is ModuleState.FAILED), None)


def _contradicts(reader: _Reader, kind: ContradictionKind, line: str | None) -> None:
    found = Contradiction(kind, line or "")
    reader.report = replace(reader.report, contradictions=(*reader.report.contradictions, found))


def _read_line(reader: _Reader, line: TdxLine, message: str, index: int) -> None:
    kind = line.kind
    if kind == "cmr":
        _read_cmr(reader, line, index)
    elif kind in FAILURES:
        _read_failure(reader, line, message)
    elif kind in NO_TDX:
        _read_unsupported(reader, line, message)
    elif kind in _HANDLERS:
        _HANDLERS[kind](reader, line, message)


def _read_cmr(reader: _Reader, line: TdxLine, index: int) -> None:
    attempt = reader.progress()
    if reader.cmrs_of is not attempt:
        reader.cmrs_of = attempt
        reader.cmr_lists.append(CmrList(first=index))
    reader.cmr_lists[-1].last = index
    reader.cmr_lists[-1].ranges.append(range_of(line))


def _read_failure(reader: _Reader, line: TdxLine, message: str) -> None:
    reason, errno = FAILURES[line.kind]
    if reader.attempt.state is ModuleState.FAILED and reader.attempt.reason is not None:
        reader.attempt = Attempt()
    attempt = reader.complete(ModuleState.FAILED, message)
    attempt.reason, attempt.errno = reason, errno
    if line.groups.get("errno"):
        attempt.errno = number_of(line, "errno")
    if line.kind == "init-failed-areas":
        attempt.failed_tdmr = range_of(line)


def _read_init_failed(reader: _Reader, line: TdxLine, message: str) -> None:
    errno = number_of(line, "errno")
    if reader.attempt.state is ModuleState.FAILED and reader.attempt.errno not in (None, errno):
        reader.attempt = Attempt()
    attempt = reader.complete(ModuleState.FAILED, message)
    attempt.errno = errno
    attempt.reason = attempt.reason or attempt.by_errno


def _read_pamt(reader: _Reader, line: TdxLine, message: str) -> None:
    if reader.attempt.state is ModuleState.INITIALIZED and reader.attempt.pamt_kib is not None:
        reader.attempt = Attempt()
    attempt = reader.complete(ModuleState.INITIALIZED, message)
    attempt.pamt_kib = number_of(line, "kib") if "kib" in line.groups else number_of(line, "pages") * 4


def _read_initialized(reader: _Reader, _line: TdxLine, message: str) -> None:
    reader.complete(ModuleState.INITIALIZED, message)


def _read_keyids(reader: _Reader, line: TdxLine, _message: str) -> None:
    if reader.report.keyids is None or reader.report.verified:
        reader.report = replace(reader.report, keyids=(number_of(line, "first"), number_of(line, "end")))


def _read_version(reader: _Reader, line: TdxLine, _message: str) -> None:
    groups = line.groups
    version = groups.get("version") or f"{groups['major']}.{groups['minor']}"
    date = groups.get("date")
    if groups.get("date_hex"):
        date = str(int(groups["date_hex"] or "0", 16))
    parts = [f"build {groups['build']}"] if groups.get("build") else []
    parts += [f"of {date}"] if date else []
    # `Initializing TDX module` and `TDX module: attributes` may both be there; the longer version tells more.
    known = reader.report.module_version
    if reader.attempt.state is None and known is not None and len(known) > len(version):
        version = known
    build = " ".join(parts) or reader.report.module_build
    reader.report = replace(reader.report, module_version=version, module_build=build)
    # The version comes before all else, after the RBP line or, as a part of that success, after the PAMT.
    if reader.attempt.state is not ModuleState.INITIALIZED:
        reader.progress()


def _read_seamcall(reader: _Reader, line: TdxLine, _message: str) -> None:
    leaf, status = line.groups["leaf"] or "0", line.groups["status"] or "0"
    attempt = reader.progress()
    attempt.seamcall = SeamcallFailure(int(leaf, 0), int(status, 16))
    attempt.hint = FailureReason.SEAMCALL


def _read_registers(reader: _Reader, line: TdxLine, _message: str) -> None:
    if reader.attempt.seamcall is not None and reader.attempt.state is None:
        rdx = int(line.groups["rdx"] or "0", 16)
        reader.attempt.seamcall = replace(reader.attempt.seamcall, rdx=rdx)


def _read_rbp(reader: _Reader, _line: TdxLine, _message: str) -> None:
    reader.progress().hint = FailureReason.RBP_BUG


def _read_not_convertible(reader: _Reader, _line: TdxLine, _message: str) -> None:
    reader.progress().hint = FailureReason.NOT_CONVERTIBLE
    reader.report = replace(reader.report, not_convertible=True)


def _read_tdmr_limit(reader: _Reader, line: TdxLine, _message: str) -> None:
    reader.progress().tdmrs_used = (number_of(line, "used"), number_of(line, "limit"))


def _read_runtime_seamcall(reader: _Reader, line: TdxLine, message: str) -> None:
    """KVM's own SEAMCALLs fail at run time too; that the module answers proves that it runs."""
    leaf = int(line.groups["leaf"] or "0", 16)
    status = int(line.groups["status"] or "0", 16)
    if module_runs(leaf, status) and not reader.completed and not reader.started:
        reader.complete(ModuleState.INITIALIZED, message)


def _read_kvm_gives_up(reader: _Reader, line: TdxLine, message: str) -> None:
    """KVM gives TDX up, for a reason of its own or the module's; a module that runs goes on running."""
    reader.report = replace(reader.report, kvm_failed=True)
    reason = KVM_GIVES_UP[line.kind]
    if reason in KVM_REASONS and reader.completed and reader.completed[-1].reason in KVM_REASONS:
        # It was loaded again. In a log that anybody may have written to, the first word counts.
        if reader.report.verified and reader.attempt is reader.completed[-1]:
            reader.attempt.reason, reader.attempt.message = reason, message
    elif reader.attempt.state is None and not reader.completed:
        attempt = reader.complete(ModuleState.FAILED, message)
        attempt.reason = attempt.hint or reason if reason is FailureReason.OTHER else reason


def _read_kvm_vcpus(reader: _Reader, _line: TdxLine, message: str) -> None:
    """The module gives guests fewer CPUs than KVM promises: KVM asks only once the module is initialized."""
    reader.report = replace(reader.report, kvm_failed=True)
    if reader.attempt.state is None and not reader.completed:
        reader.complete(ModuleState.INITIALIZED, message)


def _read_unsupported(reader: _Reader, line: TdxLine, message: str) -> None:
    if message.startswith(_KVM):
        reader.report = replace(reader.report, kvm_failed=True)
        if reader.completed:
            return
    # tdx_enable() of 7.1 and later says this also after tdx_init() has said why: hibernation, for instance.
    if line.kind == "unsupported" and any(a.state is ModuleState.FAILED for a in reader.completed):
        return
    attempt = reader.complete(ModuleState.UNSUPPORTED, message)
    attempt.reason = FailureReason.CPU_FEATURE if line.kind == "cpu-feature" else None
    attempt.no_tdx = attempt.no_tdx or NO_TDX[line.kind]


def _read_acpi_s3(reader: _Reader, _line: TdxLine, _message: str) -> None:
    reader.report = replace(reader.report, acpi_s3_disabled=True)


def _read_dynamic_pamt(reader: _Reader, _line: TdxLine, _message: str) -> None:
    reader.report = replace(reader.report, dynamic_pamt=True)


def _read_packages(reader: _Reader, _line: TdxLine, _message: str) -> None:
    reader.report = replace(reader.report, package_offline=True)


def _read_progress(reader: _Reader, _line: TdxLine, _message: str) -> None:
    reader.progress()


_HANDLERS: dict[str, Callable[[_Reader, TdxLine, str], None]] = {
    "keyids": _read_keyids,
    "acpi-s3": _read_acpi_s3,
    "version": _read_version,
    "version-ubuntu": _read_version,
    "attributes": _read_version,
    "initializing": _read_version,
    "rbp-bug": _read_rbp,
    "no-rbp-mod": _read_rbp,
    "tdmr-limit": _read_tdmr_limit,
    "no-local-node": _read_progress,
    "not-convertible": _read_not_convertible,
    "dynamic-pamt": _read_dynamic_pamt,
    "seamcall": _read_seamcall,
    "seamcall-registers": _read_registers,
    "pamt-kib": _read_pamt,
    "pamt-pages": _read_pamt,
    "initialized": _read_initialized,
    "init-failed": _read_init_failed,
    "init-failed-other": _read_init_failed,
    "packages": _read_packages,
    **dict.fromkeys(KVM_GIVES_UP, _read_kvm_gives_up),
    "kvm-vcpus": _read_kvm_vcpus,
    "runtime-seamcall": _read_runtime_seamcall,
}


def _finish(reader: _Reader, log: KernelLog, decided: Attempt | None) -> KernelReport:
    report = reader.report
    if reader.cmr_lists:
        cmrs, whole = chosen_cmrs(reader.cmr_lists, log)
        report = replace(report, cmrs=cmrs, cmrs_complete=whole)
    if decided is not None and decided.state is not None:
        return replace(
            report,
            state=decided.state,
            reason=decided.reason,
            no_tdx=decided.no_tdx,
            errno=decided.errno,
            message=decided.message,
            pamt_kib=decided.pamt_kib,
            failed_tdmr=decided.failed_tdmr,
            tdmrs_used=decided.tdmrs_used,
            seamcall=decided.seamcall if decided.state is ModuleState.FAILED else None,
        )
    if reader.started or hides_failure(log):
        return replace(report, state=ModuleState.UNKNOWN, seamcall=reader.attempt.seamcall)
    if report.keyids is not None:
        return replace(report, state=ModuleState.NOT_ATTEMPTED)
    return report
