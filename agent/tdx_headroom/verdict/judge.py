# SPDX-License-Identifier: Apache-2.0
"""The verdict: what happened in this boot, what the next initialisation does, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.host_facts import Placement
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.sources import PlacementSource
from tdx_headroom.verdict import advice, blockers, contradictions, crosscheck, partial
from tdx_headroom.verdict.decode import describe_failure, describe_seamcall, why_no_tdx
from tdx_headroom.verdict.evidence import find_strategy
from tdx_headroom.verdict.guard import Guard
from tdx_headroom.verdict.missing import missing
from tdx_headroom.verdict.model import CrossCheck, State, Verdict, describe, predict
from tdx_headroom.verdict.signs import no_keyids, not_a_tdx_host, refused_call, shows_no_tdx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.model import Estimate

_HIDDEN = "An error in the agent hides whether more than the memory map stops TDX: see the warnings."


def judge(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    *,
    assume: Strategy | None = None,
    what_if: bool = False,
) -> Verdict:
    """The verdict from a host's facts and plans.

    A part that fails by an error of the agent's own is left out and named; where it could have made the
    verdict worse, the verdict is no better than unknown.

    Args:
        facts: of the host.
        plans: one a strategy.
        assume: the strategy that the operator says this kernel uses.
        what_if: the facts are not the host's own any more, so what happened on it does not count.
    """
    guard = Guard()
    finding = find_strategy(facts, plans, assume)
    strategy = finding.strategy
    plan = plans[strategy]
    not_tdx = not_a_tdx_host(facts)
    next_boot = None if plan is None or not_tdx else predict(plan)
    name = "whether log and hardware agree"
    against_hardware = guard.part(name, lambda: contradictions.contradicts_hardware(facts), False)
    blocked = None if not_tdx else guard.part("what stops TDX", lambda: blockers.blocker(facts), None)
    if blocked is not None:
        # Whatever the memory map, known or not.
        next_boot = State.WILL_FAIL
    elif next_boot is State.WILL_INITIALIZE and assume is None and _failed(facts):
        # The plan fits and yet TDX failed: something that the plan does not show went wrong.
        next_boot = State.AT_RISK
    beyond = None
    if blocked is None:
        name = "whether the log shows all memory"
        beyond = guard.part(name, lambda: partial.beyond_the_map(facts, plan), None)
    hidden = bool(guard.failures)
    if beyond is not None or hidden:
        next_boot = partial.still_sure(next_boot, plan)
    unsure = shows_no_tdx(facts) or refused_call(facts) is not None or against_hardware
    if next_boot is not State.WILL_FAIL and unsure:
        next_boot = None
    compared = None if what_if else plan
    name = "the comparison with the kernel's log"
    check = guard.part(name, lambda: crosscheck.cross_check(facts, compared), CrossCheck(None, ()))
    if (
        check.matches is not True
        and blocked is None
        and partial.kernel_not_shown(facts, finding, plans, next_boot)
    ):
        next_boot = None
    if against_hardware and not not_tdx and not what_if:
        state, summary = State.CANNOT_TELL, "The log says that TDX is up, and the CPU shows no TDX."
    else:
        state, summary = _state(facts, plan, next_boot, _HIDDEN if hidden else None, blocked, what_if=what_if)
    guess = guard.part("the estimate from the CMRs", lambda: crosscheck.estimate(facts), None)
    evidence = [*finding.evidence, *check.details]
    evidence += guard.part("what the plan rests on", lambda: _rests_on(facts, plan, guess), list[str]())
    doubts = guard.part("what is doubtful", lambda: advice.doubts(facts, state, beyond), list[str]())
    warnings = advice.warnings(facts, plans, strategy, state, guard)
    remedies = advice.remedies_of(facts, plans, strategy, state, guard, what_if=what_if)
    lacking = guard.part("what is missing", lambda: missing(facts, plan, state), list[str]())
    told = guard.part(
        "what the log contradicts", lambda: contradictions.contradictions_of(facts), list[str]()
    )
    return Verdict(
        state=state,
        next_boot=next_boot,
        strategy=strategy,
        summary=summary,
        evidence=tuple(evidence),
        remedies=tuple(remedies),
        warnings=(*doubts, *warnings, *guard.warnings),
        finding=finding,
        cross_check=check,
        estimate=guess,
        missing=tuple(lacking),
        contradictions=tuple(told),
        failures=tuple(guard.failures),
    )


def _rests_on(facts: HostFacts, plan: Plan | None, guess: Estimate | None) -> list[str]:
    found = []
    if plan is not None and any(tdmr.pamt.size for tdmr in plan.tdmrs):
        found.append(f"PAMT places are {_placement(facts, plan)}")
    if facts.cmr_source is not None and facts.cmr_source.last_seen:
        found.append(f"the CMRs are not from this boot: {facts.cmr_source}")
    if guess is not None:
        found.append(_estimated(guess, facts))
    return found


def _failed(facts: HostFacts) -> bool:
    return facts.kernel_log is not None and facts.kernel_log.state is ModuleState.FAILED


def _state(
    facts: HostFacts,
    plan: Plan | None,
    next_boot: State | None,
    hidden: str | None,
    blocked: str | None,
    *,
    what_if: bool,
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
        return State.CANNOT_TELL, hidden or _missing(facts, plan)
    return next_boot, describe(plan)


def _why_not_tdx(facts: HostFacts) -> str:
    if said := why_no_tdx(facts):
        return said
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
        return f"{advice.NO_SIGN} The memory map alone: {describe(plan)}"
    if plan is not None and facts.kernel_release is None and predict(plan) is not State.WILL_INITIALIZE:
        return (
            f"The log does not show which kernel it is. Mainline: {describe(plan)} Another may do with less."
        )
    if plan is not None:
        return "The log shows only a part of the memory map: give the whole log (`journalctl -k -b`)."
    return "The CMRs are unknown: give the kernel log of the TDX initialization, if this kernel prints them."


def _placement(facts: HostFacts, plan: Plan) -> str:
    if plan.placement is Placement.PREDICTED:
        return f"predicted from {facts.placement_source or PlacementSource()}"
    return "as given" if plan.placement is Placement.GIVEN else "taken to be outside every TDMR"


def _estimated(guess: Estimate, facts: HostFacts) -> str:
    text = f"estimated from the CMRs: {len(guess.tdmrs)} TDMRs, {guess.pamt_kib} KiB of PAMT"
    logged = facts.kernel_log.pamt_kib if facts.kernel_log else None
    return text if logged is None else f"{text}; the kernel allocated {logged} KiB"
