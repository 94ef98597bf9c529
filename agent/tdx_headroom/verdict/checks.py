# SPDX-License-Identifier: Apache-2.0
"""The tree of checks behind a verdict: platform, inputs, plan, verdict; each with a hint how to mend it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.address import show, show_size
from tdx_headroom.errors import one_line, place_of
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.plan import ModuleStatus, Outcome
from tdx_headroom.plan.tdmrs import TDMR_NR_WARN
from tdx_headroom.verdict import State, describe, hibernation_blocks
from tdx_headroom.verdict.check_model import Check, Result
from tdx_headroom.verdict.decode import describe_failure, describe_seamcall
from tdx_headroom.verdict.findings import Severity
from tdx_headroom.verdict.model import AT_RISK_HEADROOM
from tdx_headroom.verdict.next_boot_checks import next_boot_checks
from tdx_headroom.verdict.obstacles import failed, lasting, other_kernels, plan_fails, reserved_areas
from tdx_headroom.verdict.obstacles.contradictions import UNFORGEABLE
from tdx_headroom.verdict.signs import refused_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.assessment import Assessment


_OF_PLAN = (*reserved_areas.KINDS, *plan_fails.KINDS)
_CHECKED = {"hibernation", *failed.KINDS, *_OF_PLAN}
"""Findings that the checks of platform and plan tell."""


class Status(StrEnum):
    """All checks in one word, as monitoring plug-ins have it."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"

    @property
    def exit_status(self) -> int:
        """0 ok, 1 warning, 2 critical, 3 unknown."""
        return list(Status).index(self)


def status_of(assessment: Assessment, checks: list[Check]) -> Status:
    """The status that the verdict and the checks make together.

    Unknown where there is no verdict, and on a host without TDX: it is neither well nor ill.
    """
    state = assessment.verdict.state
    if state in (State.CANNOT_TELL, State.NOT_TDX):
        return Status.UNKNOWN
    results = {check.result for check in checks}
    if Result.FAIL in results:
        return Status.CRITICAL
    return Status.WARNING if Result.WARN in results else Status.OK


def run_checks(assessment: Assessment) -> list[Check]:
    """All checks, in the order in which things depend on each other; one that fails costs its group only."""
    verdict = assessment.verdict
    groups: list[tuple[str, Callable[[Assessment], Iterable[Check]]]] = [("platform", _platform)]
    if verdict.state is not State.NOT_TDX:
        groups += [("inputs", _inputs), ("plan", _plan), ("other kernels", _other_kernels)]
        groups.append(("next boot", next_boot_checks))
    checks = [check for group, make in groups for check in _guarded(group, make, assessment)]
    checks += _others(assessment)
    checks += [_broken("verdict", failure.part, failure.place) for failure in verdict.failures]
    return [*checks, _verdict(assessment)]


def _guarded(
    group: str, make: Callable[[Assessment], Iterable[Check]], assessment: Assessment
) -> Iterator[Check]:
    try:
        yield from make(assessment)
    except Exception as error:  # noqa: BLE001  whatever it is, the other groups must be shown
        yield _broken(group, repr(error), place_of(error))


def _broken(group: str, what: str, place: str) -> Check:
    text = f"left out: {one_line(what)}, by an error in the agent at {place}"
    return Check(group, "agent", Result.WARN, text, "please report it")


def _platform(assessment: Assessment) -> Iterator[Check]:
    group = "platform"
    facts = assessment.facts
    platform, log = facts.platform, facts.kernel_log
    flag = platform.tdx_host_platform if platform else None
    if assessment.verdict.state is State.NOT_TDX:
        yield Check(group, "tdx-host", Result.SKIP, assessment.verdict.told)
        return
    if flag is None:
        yield Check(group, "tdx-host", Result.SKIP, "no /proc/cpuinfo to look at")
    else:
        said = "tdx_host_platform is set" if flag else "tdx_host_platform is not set, but the log shows TDX"
        yield Check(group, "tdx-host", Result.PASS if flag else Result.WARN, said)
    if log is not None and log.keyids is not None:
        count = log.keyids[1] - log.keyids[0]
        yield Check(group, "keyids", Result.PASS, f"{count} private KeyIDs")
    else:
        yield Check(group, "keyids", Result.SKIP, "the log does not show the KeyIDs")
    if platform is None or platform.kvm_intel_tdx is None:
        yield Check(group, "kvm-intel", Result.SKIP, "kvm_intel.tdx is unknown")
    elif platform.kvm_intel_tdx:
        yield Check(group, "kvm-intel", Result.PASS, "kvm_intel.tdx is on")
    else:
        hint = "load kvm_intel with tdx=1; KVM also turns it off when TDX fails"
        yield Check(group, "kvm-intel", Result.WARN, "kvm_intel.tdx is off", hint)
    yield _hibernation(assessment, group)
    yield _module(assessment, group)


def _hint(assessment: Assessment, *kinds: str) -> str | None:
    """The first thing to do about findings of these kinds."""
    findings = assessment.verdict.findings
    return next((r.text for found in findings if found.kind in kinds for r in found.remedies), None)


def _hibernation(assessment: Assessment, group: str) -> Check:
    blocks = hibernation_blocks(assessment.facts)
    if blocks:
        return Check(group, "hibernation", Result.FAIL, "the kernel can hibernate", "boot with nohibernate")
    if blocks is None:
        return Check(group, "hibernation", Result.SKIP, "whether the kernel can hibernate is unknown")
    return Check(group, "hibernation", Result.PASS, "hibernation is no obstacle")


def _module(assessment: Assessment, group: str) -> Check:
    log = assessment.facts.kernel_log
    state = log.state if log is not None else ModuleState.UNKNOWN
    if log is not None and state is ModuleState.FAILED:
        hint = _hint(assessment, *failed.KINDS, *lasting.KINDS, "hibernation", *_OF_PLAN)
        return Check(group, "module", Result.FAIL, f"failed in this boot: {describe_failure(log)}", hint)
    call = refused_call(assessment.facts)
    if call is not None:
        text = f"it refused a call: {describe_seamcall(call)}"
        return Check(group, "module", Result.WARN, text, _hint(assessment, "call-refused"))
    if log is not None and log.package_offline:
        hint = "bring a CPU of each package online"
        return Check(group, "module", Result.WARN, "a CPU package has no online CPU", hint)
    if state is ModuleState.INITIALIZED:
        return Check(group, "module", Result.PASS, "initialized in this boot")
    return Check(group, "module", Result.SKIP, f"{state} in this boot, by the kernel's log")


def _inputs(assessment: Assessment) -> Iterator[Check]:
    group = "inputs"
    facts = assessment.facts
    if facts.memory_regions is None:
        hint = "run as root, or give a whole kernel log"
        yield Check(group, "memory-map", Result.WARN, "no source tells the memory regions", hint)
    elif facts.memory_source is None:
        yield Check(group, "memory-map", Result.PASS, "memory regions as given")
    elif facts.memory_source is MemorySource.MEMBLOCK:
        yield Check(group, "memory-map", Result.PASS, "the kernel's own memory regions")
    else:
        exact = facts.memory_source.exact
        text = f"from {facts.memory_source}, not from memblock itself"
        hint = "mount debugfs and run as root, to read memblock"
        yield Check(group, "memory-map", Result.PASS if exact else Result.WARN, text, None if exact else hint)
    known = "known" if facts.nodes_known else "unknown: PAMT places are less certain"
    yield Check(group, "nodes", Result.PASS if facts.nodes_known else Result.WARN, f"nodes are {known}")
    if facts.cmrs is not None:
        yield Check(group, "cmrs", Result.PASS, f"{sum(1 for _, size in facts.cmrs if size)} CMRs")
    else:
        needed = assessment.verdict.strategy.needs_cmrs
        text = "CMRs are unknown" + ("" if needed else ", and this kernel does not use them")
        mend = "keep the boot messages: the kernel prints CMRs when it initializes TDX" if needed else None
        yield Check(group, "cmrs", Result.WARN if needed else Result.SKIP, text, mend)
    if facts.disagreements:
        pairs = ", ".join(f"{d.a} and {d.b} by {show_size(d.bytes)}" for d in facts.disagreements)
        yield Check(group, "sources-agree", Result.WARN, f"differ: {pairs}", "see `tdx-headroom plan`")
    elif facts.memory_regions is not None:
        yield Check(group, "sources-agree", Result.PASS, "all sources show the same memory")
    if facts.log_health is not None and facts.log_health.untrusted:
        text = f"{facts.log_health.untrusted} log records are forged TDX lines"
        yield Check(group, "log", Result.WARN, text, "find out which process writes them to /dev/kmsg")
    for text in assessment.verdict.contradictions:
        yield Check(group, "log-contradicts", Result.WARN, text, UNFORGEABLE)


def _plan(assessment: Assessment) -> Iterator[Check]:
    group = "plan"
    plan = assessment.plans[assessment.verdict.strategy]
    if plan is None:
        yield Check(group, "reserved-areas", Result.SKIP, "no plan: memory regions or CMRs are unknown")
        return
    hint = _hint(assessment, *_OF_PLAN)
    left = assessment.facts.limits.max_tdmrs - plan.tdmrs_needed
    result = Result.FAIL if left < 0 else Result.WARN if left < TDMR_NR_WARN else Result.PASS
    yield Check(group, "tdmrs", result, f"{plan.tdmrs_needed} TDMRs, {left} left")
    yield from _areas(plan, group, hint)
    if plan.outcome is Outcome.NO_MEMORY:
        yield Check(group, "pamt-memory", Result.FAIL, describe(plan), hint)
    if plan.module is None:
        yield Check(group, "module-checks", Result.SKIP, "the CMRs are unknown, or the kernel fails before")
    elif plan.module.status is ModuleStatus.SUCCESS:
        yield Check(group, "module-checks", Result.PASS, "the TDX module accepts the plan")
    else:
        yield Check(group, "module-checks", Result.FAIL, describe(plan), hint)
    if plan.not_convertible_bytes:
        text = f"{show_size(plan.not_convertible_bytes)} of memory lie outside every CMR"
        yield Check(
            group, "convertible", Result.WARN, text, "keep guests off it, or have it made convertible"
        )
    elif plan.not_convertible_bytes is not None:
        yield Check(group, "convertible", Result.PASS, "all memory is convertible")
    check = assessment.verdict.cross_check
    details = " ".join(check.details)
    if check.matches is None:
        yield Check(group, "matches-kernel", Result.SKIP, "the log has nothing to compare with")
    elif check.matches:
        yield Check(group, "matches-kernel", Result.PASS, details)
    else:
        mend = "memory was added or removed since the boot; if it was not, please report it"
        yield Check(group, "matches-kernel", Result.WARN, details, mend)


def _areas(plan: Plan, group: str, hint: str | None) -> Iterator[Check]:
    known = [tdmr for tdmr in plan.tdmrs if tdmr.headroom is not None]
    if not known:
        yield Check(group, "reserved-areas", Result.SKIP, "the kernel does not come to them")
        return
    fullest = min(known, key=lambda t: t.headroom or 0)
    headroom, worst = fullest.headroom or 0, plan.headroom_worst or 0
    text = f"the fullest TDMR {show(fullest.base, fullest.end)} needs {fullest.needed} of {fullest.limit}"
    result = Result.FAIL if headroom < 0 else Result.WARN if headroom <= AT_RISK_HEADROOM else Result.PASS
    yield Check(group, "reserved-areas", result, text, hint if result is not Result.PASS else None)
    if headroom >= 0 > worst:
        text = f"{-worst} areas short if every PAMT that could land in one TDMR did"
        yield Check(group, "worst-case", Result.WARN, text, hint)


def _other_kernels(assessment: Assessment) -> Iterator[Check]:
    warnings = [found for found in assessment.verdict.findings if found.kind == other_kernels.KIND]
    for warning in warnings:
        hint = "stay on this kernel, or mend the memory map before the upgrade"
        yield Check("other kernels", "upgrade", Result.WARN, warning.text, hint)
    plan = assessment.plans[assessment.verdict.strategy]
    if warnings or plan is None:
        return
    if plan.outcome is not Outcome.OK or None in assessment.plans.values():
        text = "nothing works that could break" if plan.outcome is not Outcome.OK else "CMRs are unknown"
        yield Check("other kernels", "upgrade", Result.SKIP, text)
    else:
        yield Check("other kernels", "upgrade", Result.PASS, "no kernel in the table would break what works")


def _others(assessment: Assessment) -> Iterator[Check]:
    """What stands in the way and has no check of its own above."""
    log = assessment.facts.kernel_log
    told = log is not None and log.state is ModuleState.FAILED
    for found in assessment.verdict.findings:
        own = found.kind in _CHECKED or (told and found.kind in lasting.KINDS)
        if found.severity is not Severity.NOTE and not own:
            result = Result.FAIL if found.severity is Severity.FAILS else Result.WARN
            yield Check("obstacles", found.kind, result, found.text, *(r.text for r in found.remedies[:1]))


def _verdict(assessment: Assessment) -> Check:
    verdict = assessment.verdict
    results = {
        State.WILL_INITIALIZE: Result.PASS,
        State.INITIALIZED: Result.PASS,
        State.AT_RISK: Result.WARN,
        State.WILL_FAIL: Result.FAIL,
        State.FAILED: Result.FAIL,
        State.NOT_TDX: Result.SKIP,
        State.CANNOT_TELL: Result.SKIP,
    }
    result = results[verdict.state]
    following = assessment.expected
    text = f"{verdict.preface}{verdict.state}: {verdict.summary}"
    if following is not None:
        text += f" The next initialization: {following}."
        if verdict.state is State.INITIALIZED and results[following] is not Result.PASS:
            result = results[following]
    return Check("verdict", str(verdict.state), result, text)
