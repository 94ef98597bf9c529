# SPDX-License-Identifier: Apache-2.0
"""What the next TDX initialisation on this host will do, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.address import show
from tdx_headroom.kernel_report import ModuleState
from tdx_headroom.plan import ModuleStatus, Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts import HostFacts
    from tdx_headroom.kernel_report import KernelReport
    from tdx_headroom.plan import Plan


class Outcome(StrEnum):
    """How a plan ends."""

    OK = "ok"
    RESERVED_AREAS = "reserved-areas-exhausted"
    TDMRS = "tdmrs-exhausted"
    NO_MEMORY = "no-memory"
    MISALIGNED = "misaligned-area"
    REJECTED = "rejected-by-module"


class State(StrEnum):
    """The verdict in one word."""

    WILL_INITIALIZE = "will-initialize"
    AT_RISK = "at-risk"
    WILL_FAIL = "will-fail"
    INITIALIZED = "initialized"
    FAILED = "failed"
    NOT_TDX = "not-tdx"
    CANNOT_TELL = "cannot-tell"


AT_RISK_HEADROOM = 2
"""With no more areas than this left over, a PAMT or one more hole may be the end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one host.

    Args:
        state: in one word; what happened, where something has happened in this boot.
        next_boot: what the next initialisation with this memory map would do; None when unknown.
        strategy: the hole strategy that this is said for.
        summary: the answer as a sentence.
        evidence: what it rests on.
        remedies: what to do about it.
    """

    state: State
    next_boot: State | None
    strategy: Strategy
    summary: str
    evidence: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()


def outcome_of(plan: Plan) -> Outcome:
    """How the initialisation ends under this plan, by the kernel's and the module's checks."""
    if plan.failed_tdmr is not None:
        return Outcome.RESERVED_AREAS
    if plan.errno == -28:
        return Outcome.TDMRS
    if plan.errno == -12:
        return Outcome.NO_MEMORY
    if plan.errno == -22:
        return Outcome.MISALIGNED
    if plan.module is not None and plan.module.status is not ModuleStatus.SUCCESS:
        return Outcome.REJECTED
    return Outcome.OK


def judge(facts: HostFacts, plans: Mapping[Strategy, Plan | None]) -> Verdict:
    """The verdict from a host's facts and plans."""
    strategy = Strategy.MEMORY_REGIONS
    evidence = ("mainline kernels look for holes between memory regions",)
    plan = plans[strategy]
    next_boot = None if plan is None else _predict(plan)
    log = facts.kernel_log
    if log is not None and log.state is ModuleState.INITIALIZED:
        return Verdict(State.INITIALIZED, next_boot, strategy, _initialized(log), evidence)
    if log is not None and log.state is ModuleState.FAILED:
        return Verdict(State.FAILED, next_boot, strategy, _failed(log), evidence)
    if not_a_tdx_host(facts):
        return Verdict(State.NOT_TDX, None, strategy, "This is not a TDX host.", evidence)
    if plan is None or next_boot is None:
        why = "No source tells this host's memory regions, so there is no plan."
        return Verdict(State.CANNOT_TELL, None, strategy, why, evidence)
    return Verdict(next_boot, next_boot, strategy, describe(plan), evidence)


def not_a_tdx_host(facts: HostFacts) -> bool:
    """Whether kernel or CPU say that TDX is not to be had here."""
    log, platform = facts.kernel_log, facts.platform
    if log is not None and log.state is ModuleState.UNSUPPORTED:
        return True
    if log is not None and (log.keyids is not None or log.cmrs is not None):
        return False
    return platform is not None and platform.tdx_host_platform is False


def describe(plan: Plan) -> str:
    """A plan's outcome as a sentence."""
    outcome = outcome_of(plan)
    if outcome is Outcome.RESERVED_AREAS and plan.failed_tdmr is not None:
        tdmr = plan.tdmrs[plan.failed_tdmr]
        return f"TDMR {show(tdmr.base, tdmr.end)} needs {tdmr.needed} reserved areas of {tdmr.limit}."
    if outcome is Outcome.TDMRS:
        return f"The memory map needs {plan.tdmrs_needed} TDMRs of {len(plan.tdmrs)}."
    if outcome is Outcome.NO_MEMORY:
        return "There is no memory above 1 MiB."
    if outcome is Outcome.MISALIGNED:
        return "A reserved area is not page aligned."
    if outcome is Outcome.REJECTED and plan.module is not None:
        return f"The TDX module rejects the plan: {plan.module.status} for TDMR {plan.module.tdmr}."
    return f"All {len(plan.tdmrs)} TDMRs fit; the fullest has {plan.headroom} reserved areas left."


def _predict(plan: Plan) -> State:
    if not plan.fits:
        return State.WILL_FAIL
    headroom = plan.headroom
    return State.AT_RISK if headroom is not None and headroom <= AT_RISK_HEADROOM else State.WILL_INITIALIZE


def _initialized(log: KernelReport) -> str:
    pamt = f" with {log.pamt_kib} KiB of PAMT" if log.pamt_kib is not None else ""
    return f"TDX is up in this boot{pamt}."


def _failed(log: KernelReport) -> str:
    errno = f" (errno {log.errno})" if log.errno is not None else ""
    return f"TDX failed to initialise in this boot: {log.reason or 'no reason given'}{errno}."
