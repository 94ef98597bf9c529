# SPDX-License-Identifier: Apache-2.0
"""What obstacles look at, computed once; and whether a host has TDX at all, as far as log and CPU show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line
from tdx_headroom.facts.command_line import asks_for_tdx
from tdx_headroom.facts.kernel_report import KVM_REASONS, ModuleState
from tdx_headroom.facts.observations import TdxSeen
from tdx_headroom.verdict.crosscheck import cross_check
from tdx_headroom.verdict.evidence import find_strategy
from tdx_headroom.verdict.findings import Signs
from tdx_headroom.verdict.model import CrossCheck, predict
from tdx_headroom.verdict.this_kernel import would_show_tdx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import SeamcallFailure
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.guard import Guard
    from tdx_headroom.verdict.staged import Staged


def read_signs(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    assume: Strategy | None,
    guard: Guard,
    *,
    what_if: bool,
    staged: Staged | None = None,
    remedies: bool = True,
) -> Signs:
    """The signs in a host's facts and plans; the arguments are those of :func:`~.judge.judge`."""
    shown = None if staged is None or assume is not None else staged.shown.strategy
    strategy = shown or find_strategy(facts, plans, assume)
    plan = plans[strategy.strategy]
    name = "the comparison with the kernel's log"
    check = CrossCheck(None, ())
    if not what_if:
        check = guard.part(name, lambda: cross_check(facts, plan), check)
    log = facts.kernel_log
    return Signs(
        facts=facts,
        plans=plans,
        strategy=strategy,
        plan=plan,
        predicted=None if plan is None else predict(plan),
        check=check,
        what_if=what_if,
        not_tdx=not_a_tdx_host(facts),
        failed=log if log is not None and log.state is ModuleState.FAILED and not what_if else None,
        no_sign=shows_no_tdx(facts),
        refused=refused_call(facts),
        guard=guard,
        staged=staged,
        asks_what_to_do=remedies,
    )


def not_a_tdx_host(facts: HostFacts) -> bool:
    """Whether kernel or CPU say that TDX is not available here."""
    log, platform = facts.kernel_log, facts.platform
    if log is not None and log.state is ModuleState.UNSUPPORTED:
        return True
    if platform is not None and platform.tdx_guest:
        return True
    if log is not None and (log.keyids is not None or log.cmrs is not None):
        return False
    if log is not None and log.state is not ModuleState.UNKNOWN and log.reason not in KVM_REASONS:
        return False
    if platform is not None and platform.tdx_host_platform:
        return False
    if platform is not None and (platform.cpu_can_tdx is False or platform.virtual_machine):
        return True
    if not would_show_tdx(facts):
        return False
    return no_keyids(facts) or (platform is not None and platform.tdx_host_platform is False)


def no_keyids(facts: HostFacts) -> bool:
    """Whether the log shows the whole start of a boot, and nothing of TDX in it."""
    health = facts.log_health
    return health is not None and health.whole_start and not shows_tdx(facts)


def shows_tdx(facts: HostFacts) -> bool:
    """Whether any line of the log is one that only a host with TDX has."""
    return facts.kernel_log is not None and not facts.kernel_log.shows_nothing


def refused_call(facts: HostFacts) -> SeamcallFailure | None:
    """The call that the module has refused, when nothing shows what came of it.

    Some kernels give TDX up after it and say no more.
    """
    log, platform = facts.kernel_log, facts.platform
    if log is None or log.state is not ModuleState.UNKNOWN:
        return None
    return None if platform is not None and platform.tdx_module_version is not None else log.seamcall


def shows_no_tdx(facts: HostFacts) -> bool:
    """Whether neither log nor CPU show TDX: it may be any server's.

    The log may also be missing, or cut before the line that would tell, or the kernel be one that tells
    nothing. That a map does not fit is sure all the same. Facts that were given without their sources are
    about the memory map alone.
    """
    platform = facts.platform
    flag = None if platform is None else platform.tdx_host_platform
    up = platform is not None and platform.tdx_module_version is not None
    looked = facts.kernel_log is not None or flag is False or bool(facts.sources)
    return looked and not flag and not up and not shows_tdx(facts)


def hints_of_tdx(facts: HostFacts) -> list[str]:
    """What speaks for a TDX host where kernel and log show nothing of it, each a clause."""
    hints = []
    if facts.tdx_before is not None and facts.tdx_before is not TdxSeen.NONE:
        was = (
            "TDX was up in the boot before"
            if facts.tdx_before is TdxSeen.UP
            else "the boot before showed TDX"
        )
        hints.append(was)
    platform = facts.platform
    if platform is not None and platform.cpu_can_tdx:
        model = "" if platform.cpu_model is None else f" ({one_line(platform.cpu_model, 60)})"
        hints.append(f"its CPU{model} is of a model that can have TDX")
    if platform is not None and platform.guest_keyids:
        hints.append(f"it has {platform.guest_keyids} private KeyIDs for guests")
    if asks_for_tdx(facts.command_line or ()):
        hints.append("the command line asks for TDX")
    return hints


def is_meant_for_tdx(facts: HostFacts) -> bool:
    """Whether somebody wants TDX here, or had it: a CPU that can have it is in many a server without."""
    had = facts.tdx_before is not None and facts.tdx_before is not TdxSeen.NONE
    keyids = facts.platform is not None and bool(facts.platform.guest_keyids)
    return had or keyids or asks_for_tdx(facts.command_line or ()) is True


def tdx_seen(facts: HostFacts) -> TdxSeen | None:
    """What this boot has shown of TDX so far; None where there is nothing to look at."""
    log, platform = facts.kernel_log, facts.platform
    state = ModuleState.UNKNOWN if log is None else log.state
    if state is ModuleState.INITIALIZED or (platform is not None and platform.tdx_module_version is not None):
        return TdxSeen.UP
    if state is ModuleState.FAILED:
        return TdxSeen.FAILED
    if state is ModuleState.NOT_ATTEMPTED and facts.log_health is not None and not facts.log_health.lost:
        return TdxSeen.NOT_TRIED
    # A failure turns the parameter off as well; the log that has lost it tells of no other.
    if state is ModuleState.UNKNOWN and platform is not None and platform.kvm_intel_tdx is False:
        return TdxSeen.NOT_TRIED if platform.tdx_host_platform or shows_tdx(facts) else TdxSeen.NONE
    if state is not ModuleState.UNSUPPORTED and shows_tdx(facts):
        return TdxSeen.SHOWN
    flag = None if platform is None else platform.tdx_host_platform
    return None if flag is None else TdxSeen.SHOWN if flag else TdxSeen.NONE


def tdx_gone(before: TdxSeen | None, now: TdxSeen | None) -> bool | None:
    """Whether a boot with TDX up is followed by one that does not try it; None where that cannot be told."""
    if before is None or now is None or (before is TdxSeen.UP and now is TdxSeen.SHOWN):
        return None
    return before is TdxSeen.UP and now in (TdxSeen.NONE, TdxSeen.NOT_TRIED)
