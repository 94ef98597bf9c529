# SPDX-License-Identifier: Apache-2.0
"""The verdict: what happened in this boot, what the next initialisation does, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show_size, total
from tdx_headroom.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.plan.tdmrs import TDMR_NR_WARN
from tdx_headroom.verdict.crosscheck import cross_check, estimate
from tdx_headroom.verdict.decode import (
    NO_HIBERNATE,
    describe_failure,
    describe_seamcall,
    is_persistent,
    remedies_for,
)
from tdx_headroom.verdict.evidence import find_strategy
from tdx_headroom.verdict.kernels import InitTime, look_up, names_with, why_not_tried
from tdx_headroom.verdict.missing import missing
from tdx_headroom.verdict.model import Outcome, State, Verdict, describe, outcome_of, predict
from tdx_headroom.verdict.partial import beyond_the_map, kernel_not_shown, still_sure
from tdx_headroom.verdict.remedies import remedies
from tdx_headroom.verdict.signs import no_keyids, not_a_tdx_host, refused_call, shows_no_tdx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.model import Estimate

_NO_SIGN = "Nothing shows that this host can do TDX: the log has no line with its private KeyIDs."
_MAP_REASONS = (FailureReason.RESERVED_AREAS, FailureReason.TDMRS, FailureReason.AREAS_OR_TDMRS)


_LATE_REASONS = (
    *_MAP_REASONS,
    FailureReason.NO_MEMORY,
    FailureReason.NOT_CONVERTIBLE,
    FailureReason.RBP_BUG,
    FailureReason.METADATA,
    FailureReason.SEAMCALL,
)
"""Failures that a kernel comes to only after it has looked at hibernation."""


def judge(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    *,
    assume: Strategy | None = None,
    what_if: bool = False,
) -> Verdict:
    """The verdict from a host's facts and plans.

    Args:
        facts: of the host.
        plans: one a strategy.
        assume: the strategy that the operator says this kernel uses.
        what_if: the facts are not the host's own any more, so what happened on it does not count.
    """
    finding = find_strategy(facts, plans, assume)
    plan = plans[finding.strategy]
    guess = estimate(facts)
    next_boot = None if plan is None or not_a_tdx_host(facts) else predict(plan)
    blocked = None if not_a_tdx_host(facts) else _blocker(facts)
    if blocked is not None:
        # Whatever the memory map, known or not.
        next_boot = State.WILL_FAIL
    elif next_boot is State.WILL_INITIALIZE and assume is None and _failed(facts):
        # The plan fits and yet TDX failed: something that the plan does not show went wrong.
        next_boot = State.AT_RISK
    beyond = None if blocked else beyond_the_map(facts, plan)
    if beyond is not None:
        next_boot = still_sure(next_boot, plan)
    if next_boot is not State.WILL_FAIL and (shows_no_tdx(facts) or refused_call(facts) is not None):
        next_boot = None
    check = cross_check(facts, None if what_if else plan)
    if check.matches is not True and blocked is None and kernel_not_shown(facts, finding, plans, next_boot):
        next_boot = None
    state, summary = _state(facts, plan, next_boot, blocked, what_if=what_if)
    evidence = [*finding.evidence]
    evidence += check.details
    if plan is not None and any(tdmr.pamt.size for tdmr in plan.tdmrs):
        evidence.append(f"PAMT places are {_placement(facts, plan)}")
    if facts.cmr_source is not None and facts.cmr_source.startswith("last seen"):
        evidence.append(f"the CMRs are not from this boot: {facts.cmr_source}")
    if guess is not None:
        evidence.append(_estimated(guess, facts))
    return Verdict(
        state=state,
        next_boot=next_boot,
        strategy=finding.strategy,
        summary=summary,
        evidence=tuple(evidence),
        remedies=tuple(_remedies(facts, plans, finding.strategy, state, what_if=what_if)),
        warnings=(*_doubts(facts, state, beyond), *_warnings(facts, plans, finding.strategy, state)),
        finding=finding,
        cross_check=check,
        estimate=guess,
        missing=tuple(missing(facts, plan, state)),
    )


def _failed(facts: HostFacts) -> bool:
    return facts.kernel_log is not None and facts.kernel_log.state is ModuleState.FAILED


def _state(
    facts: HostFacts, plan: Plan | None, next_boot: State | None, blocked: str | None, *, what_if: bool
) -> tuple[State, str]:
    log, platform = facts.kernel_log, facts.platform
    if not_a_tdx_host(facts):
        return State.NOT_TDX, _why_not_tdx(facts)
    if log is not None and not what_if:
        if log.state is ModuleState.INITIALIZED:
            pamt = f" with {log.pamt_kib} KiB of PAMT" if log.pamt_kib is not None else ""
            return State.INITIALIZED, f"TDX is up in this boot{pamt}."
        if log.state is ModuleState.FAILED:
            return State.FAILED, f"TDX failed to initialize in this boot: {describe_failure(log)}."
    if platform is not None and platform.tdx_module_version is not None and not what_if:
        return State.INITIALIZED, f"TDX is up: module {platform.tdx_module_version}."
    if blocked is not None:
        return State.WILL_FAIL, blocked
    if plan is None or next_boot is None:
        return State.CANNOT_TELL, _missing(facts, plan)
    return next_boot, describe(plan)


def _why_not_tdx(facts: HostFacts) -> str:
    log = facts.kernel_log
    if log is not None and log.reason is FailureReason.CPU_FEATURE and log.message:
        return f"TDX is not to be had: {log.message}."
    if log is not None and log.state is ModuleState.UNSUPPORTED:
        return "The kernel says that this platform does not support TDX."
    if facts.platform is None or facts.platform.tdx_host_platform is None:
        return (
            "The log shows the start of this boot, and no KeyIDs of TDX: CPU or kernel do not have it, or"
            " the BIOS has not enabled it."
        )
    text = "This is not a TDX host: the CPU does not show tdx_host_platform."
    if facts.platform.hibernation and not no_keyids(facts):
        # It is not set either when hibernation stops TDX, and the line that says so may be gone.
        text += " Should it be one, hibernation may be in the way: boot with nohibernate."
    return text


def _doubts(facts: HostFacts, state: State, beyond: str | None) -> list[str]:
    """What the verdict takes for granted and the sources do not show."""
    found = []
    if beyond is not None:
        found.append(f"The log shows only a part of the memory map: {beyond}. Give the whole log.")
    if state is State.WILL_FAIL and shows_no_tdx(facts):
        found.append(f"{_NO_SIGN} The verdict is about the memory map alone.")
    return found


def _missing(facts: HostFacts, plan: Plan | None) -> str:
    call = refused_call(facts)
    if call is not None:
        alone = "" if plan is None else f" The memory map alone: {describe(plan)}"
        return (
            f"The TDX module refused a call ({describe_seamcall(call)}), and the log does not show what came"
            f" of it.{alone}"
        )
    if facts.memory_regions is None:
        return (
            "No source tells the memory regions. Run as root, or give the kernel log from its beginning"
            " (`journalctl -k -b`), or /proc/iomem and /sys/firmware/memmap."
        )
    if plan is not None and shows_no_tdx(facts):
        return f"{_NO_SIGN} The memory map alone: {describe(plan)}"
    if plan is not None and facts.kernel_release is None and predict(plan) is not State.WILL_INITIALIZE:
        return (
            f"The log does not show which kernel it is. Mainline: {describe(plan)} Another may do with less."
        )
    if plan is not None:
        return "The log shows only a part of the memory map: give the whole log (`journalctl -k -b`)."
    return "The CMRs are unknown: give the kernel log of the TDX initialization, if this kernel prints them."


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


def _blocker(facts: HostFacts) -> str | None:
    """What stops TDX whatever the memory map, as far as it can be seen."""
    if hibernation_blocks(facts):
        return "The kernel can hibernate, and TDX does not initialize on such a kernel."
    log = facts.kernel_log
    if log is None or not is_persistent(log):
        return None
    return f"What stopped TDX in this boot is still there: {describe_failure(log)}."


def _placement(facts: HostFacts, plan: Plan) -> str:
    if plan.placement != "predicted":
        return {"given": "as given", "none": "taken to be outside every TDMR"}[plan.placement]
    source = facts.placement_source or "zones from the memory regions, reserved memory unknown"
    return f"predicted from {source}"


def _estimated(guess: Estimate, facts: HostFacts) -> str:
    text = f"estimated from the CMRs: {len(guess.tdmrs)} TDMRs, {guess.pamt_kib} KiB of PAMT"
    logged = facts.kernel_log.pamt_kib if facts.kernel_log else None
    return text if logged is None else f"{text}; the kernel allocated {logged} KiB"


def _remedies(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    strategy: Strategy,
    state: State,
    *,
    what_if: bool,
) -> list[str]:
    log = facts.kernel_log
    if state is State.NOT_TDX:
        # What the CPU lacks may only be switched off.
        switched_off = log is not None and log.reason is FailureReason.CPU_FEATURE
        return remedies_for(log) if log is not None and switched_off else []
    found: list[str] = []
    if (log is not None and state is State.FAILED) or (log is not None and is_persistent(log)):
        found += remedies_for(log)
    if refused_call(facts) is not None:
        found += remedies_for(KernelReport(reason=FailureReason.SEAMCALL, seamcall=refused_call(facts)))
    if hibernation_blocks(facts):
        found.append(NO_HIBERNATE)
    if state is State.FAILED and log is not None and log.reason not in _MAP_REASONS and found:
        return list(dict.fromkeys(found))
    found += remedies(facts, plans, strategy)
    if plans[strategy] is None and state is State.FAILED:
        found.append(
            "Run tdx-headroom on this host as root, or give it the kernel log from its beginning"
            " (`journalctl -k -b`): it then says which holes to remove."
        )
    elif not found and state is State.FAILED:
        found.append(
            "The recomputed plan does not show this failure: memory may have changed since, or a source be"
            " incomplete. The kernel tries again at the next boot, not when kvm_intel is loaded again."
        )
    if not what_if:
        found += _why_silent(facts, state)
    return list(dict.fromkeys(found))


def _why_silent(facts: HostFacts, state: State) -> list[str]:
    """Why a TDX host shows no attempt at all."""
    log, platform = facts.kernel_log, facts.platform
    if log is None or log.state is not ModuleState.NOT_ATTEMPTED or state is State.NOT_TDX:
        return []
    row = look_up(facts.kernel_release)
    if row is not None and row.init is InitTime.NEVER:
        return [f"TDX was not tried: {row.name} does not; boot 6.16 or later, or a vendor's TDX kernel."]
    if row is not None and row.init is InitTime.BOOT:
        return [
            (
                "This kernel initializes TDX at boot, and the log shows no attempt: see that the SEAM loader"
                " is enabled in the BIOS, and look for what the kernel says of tdx (`journalctl -k -b`)."
            )
        ]
    if platform is not None and platform.enable_virt_at_load is False:
        return ["TDX was not tried: KVM does not without kvm.enable_virt_at_load=1; take the 0 away."]
    if platform is not None and platform.kvm_intel_tdx is False:
        return [
            "TDX was not tried, or KVM gave up: load kvm_intel with tdx=1, and look for kvm lines in the log."
        ]
    arguments = facts.command_line or ()
    if any(arg in ("kvm_intel.tdx=1", "kvm_intel.tdx=on", "kvm_intel.tdx=Y") for arg in arguments):
        return [
            (
                "kvm_intel.tdx=1 is given but nothing happened: see that kvm_intel is loaded, that"
                " virtualization and the SEAM loader are enabled in the BIOS, and that the BIOS leaves memory"
                " below 1 MiB out of the CMRs."
            )
        ]
    return ["TDX was not tried in this boot: load kvm_intel with tdx=1."]


def _overclaims(facts: HostFacts, plan: Plan | None, state: State) -> list[str]:
    """What a good plan does not say."""
    if plan is None or state not in (State.WILL_INITIALIZE, State.AT_RISK):
        return []
    why = why_not_tried(facts.kernel_release)
    return [] if why is None else [why]


def _warnings(
    facts: HostFacts, plans: Mapping[Strategy, Plan | None], strategy: Strategy, state: State
) -> list[str]:
    if state is State.NOT_TDX:
        return []
    found = _overclaims(facts, plans[strategy], state)
    plan = plans[strategy]
    if plan is None or outcome_of(plan) is Outcome.OK:
        found += [
            f"Under {other} ({', '.join(names_with({other}))}) this host would fail: {describe(failing)}"
            for other, failing in plans.items()
            if other is not strategy
            and failing is not None
            and names_with({other})
            and outcome_of(failing) is not Outcome.OK
        ]
    if plan is not None and plan.not_convertible_bytes:
        size = show_size(plan.not_convertible_bytes)
        effect = (
            "the TDX module rejects the plan"
            if outcome_of(plan) is Outcome.REJECTED
            else "a guest that gets such a page fails later"
        )
        found.append(f"{size} of memory lie outside every CMR: {effect}.")
    if plan is not None and 0 <= facts.limits.max_tdmrs - plan.tdmrs_needed < TDMR_NR_WARN:
        found.append(f"{plan.tdmrs_needed} TDMRs of {facts.limits.max_tdmrs} are in use.")
    if facts.offline:
        size = show_size(total(facts.offline))
        found.append(f"{size} of memory, added since the boot, are offline: TDX refuses memory added late.")
    if facts.kernel_log is not None and facts.kernel_log.package_offline:
        found.append(
            "A CPU package has no online CPU, or was to lose its last one: TDX needs one in each to make and"
            " remove guests."
        )
    return found
