# SPDX-License-Identifier: Apache-2.0
"""What to do about a verdict, what would go wrong elsewhere, and what it takes for granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show_size, total
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.plan import Outcome
from tdx_headroom.plan.tdmrs import TDMR_NR_WARN
from tdx_headroom.verdict.blockers import MAP_REASONS, hibernation_blocks
from tdx_headroom.verdict.decode import NO_HIBERNATE, is_persistent, remedies_for
from tdx_headroom.verdict.kernels import InitTime, look_up, names_with, why_not_tried
from tdx_headroom.verdict.model import Sentence, State, describe
from tdx_headroom.verdict.remedies import remedies
from tdx_headroom.verdict.signs import refused_call, shows_no_tdx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.guard import Guard

NO_SIGN = "Nothing shows that this host can do TDX: the log has no line with its private KeyIDs."


def doubts(facts: HostFacts, state: State, beyond: str | None) -> list[str]:
    """What the verdict takes for granted and the sources do not show."""
    found: list[str] = []
    if beyond is not None:
        said = "The log shows only a part of the memory map: {}. Give the whole log."
        public = beyond.public if isinstance(beyond, Sentence) else beyond
        found.append(Sentence(said.format(beyond), public=said.format(public)))
    if state is State.WILL_FAIL and shows_no_tdx(facts):
        found.append(f"{NO_SIGN} The verdict is about the memory map alone.")
    return found


def remedies_of(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    strategy: Strategy,
    state: State,
    guard: Guard,
    *,
    what_if: bool,
) -> list[str]:
    """What to do, the surest first."""
    log = facts.kernel_log
    nothing: list[str] = []
    if state is State.NOT_TDX:
        # What the CPU lacks may only be switched off.
        switched_off = log is not None and log.reason is FailureReason.CPU_FEATURE
        return remedies_for(log) if log is not None and switched_off else nothing
    found = guard.part("remedies (what the kernel's log says)", lambda: _for_the_log(facts, state), nothing)
    if state is State.FAILED and log is not None and log.reason not in MAP_REASONS and found:
        return list(dict.fromkeys(found))
    before = len(guard.failures)
    found = [*found, *remedies(facts, plans, strategy, guard)]
    if plans[strategy] is None and state is State.FAILED:
        found.append(
            "Run tdx-headroom on this host as root, or give it the kernel log from its beginning"
            " (`journalctl -k -b`): it then says which holes to remove."
        )
    elif not found and state is State.FAILED and len(guard.failures) == before:
        found.append(
            "The recomputed plan does not show this failure: memory may have changed since, or a source be"
            " incomplete. The kernel tries again at the next boot, not when kvm_intel is loaded again."
        )
    if not what_if:
        found += guard.part("remedies (why TDX was not tried)", lambda: _why_silent(facts, state), nothing)
    return list(dict.fromkeys(found))


def _for_the_log(facts: HostFacts, state: State) -> list[str]:
    """What the failure itself asks for, whatever the memory map."""
    log = facts.kernel_log
    found: list[str] = []
    if (log is not None and state is State.FAILED) or (log is not None and is_persistent(log)):
        found += remedies_for(log)
    if refused_call(facts) is not None:
        found += remedies_for(KernelReport(reason=FailureReason.SEAMCALL, seamcall=refused_call(facts)))
    if hibernation_blocks(facts):
        found.append(NO_HIBERNATE)
    return found


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


def warnings(
    facts: HostFacts, plans: Mapping[Strategy, Plan | None], strategy: Strategy, state: State, guard: Guard
) -> list[str]:
    """What would go wrong elsewhere: another kernel, a guest's page, a full TDMR list."""
    if state is State.NOT_TDX:
        return []
    plan = plans[strategy]
    parts: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("what a good plan does not say", lambda: _overclaims(facts, plan, state)),
        ("other kernels", lambda: _other_kernels(plans, strategy)),
        ("memory that is not convertible", lambda: _not_convertible(plan)),
        ("TDMRs in use", lambda: _few_tdmrs(facts, plan)),
        ("memory that is offline", lambda: _offline(facts)),
    )
    return [text for name, make in parts for text in guard.part(f"warnings ({name})", make, list[str]())]


def _overclaims(facts: HostFacts, plan: Plan | None, state: State) -> list[str]:
    """What a good plan does not say."""
    if plan is None or state not in (State.WILL_INITIALIZE, State.AT_RISK):
        return []
    why = why_not_tried(facts.kernel_release)
    return [] if why is None else [why]


def _other_kernels(plans: Mapping[Strategy, Plan | None], strategy: Strategy) -> list[str]:
    plan = plans[strategy]
    if plan is not None and plan.outcome is not Outcome.OK:
        return []
    return [
        f"Under {other} ({', '.join(names_with({other}))}) this host would fail: {describe(failing)}"
        for other, failing in plans.items()
        if other is not strategy
        and failing is not None
        and names_with({other})
        and failing.outcome is not Outcome.OK
    ]


def _not_convertible(plan: Plan | None) -> list[str]:
    if plan is None or not plan.not_convertible_bytes:
        return []
    size = show_size(plan.not_convertible_bytes)
    rejected = plan.outcome is Outcome.REJECTED
    effect = "the TDX module rejects the plan" if rejected else "a guest that gets such a page fails later"
    return [f"{size} of memory lie outside every CMR: {effect}."]


def _few_tdmrs(facts: HostFacts, plan: Plan | None) -> list[str]:
    limit = facts.limits.max_tdmrs
    if plan is None or not 0 <= limit - plan.tdmrs_needed < TDMR_NR_WARN:
        return []
    return [f"{plan.tdmrs_needed} TDMRs of {limit} are in use."]


def _offline(facts: HostFacts) -> list[str]:
    found = []
    if facts.offline:
        size = show_size(total(facts.offline))
        found.append(f"{size} of memory, added since the boot, are offline: TDX refuses memory added late.")
    if facts.kernel_log is not None and facts.kernel_log.package_offline:
        found.append(
            "A CPU package has no online CPU, or was to lose its last one: TDX needs one in each to make and"
            " remove guests."
        )
    return found
