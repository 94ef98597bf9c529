# SPDX-License-Identifier: Apache-2.0
"""What obstacles look at, computed once; and whether a host has TDX at all, as far as log and CPU show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.verdict.crosscheck import cross_check
from tdx_headroom.verdict.evidence import find_strategy
from tdx_headroom.verdict.findings import Signs
from tdx_headroom.verdict.model import CrossCheck, predict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import SeamcallFailure
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.guard import Guard


def read_signs(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    assume: Strategy | None,
    guard: Guard,
    *,
    what_if: bool,
) -> Signs:
    """The signs in a host's facts and plans; the arguments are those of :func:`~.judge.judge`."""
    strategy = find_strategy(facts, plans, assume)
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
    if log is not None and log.state is not ModuleState.UNKNOWN:
        return False
    if platform is not None and platform.tdx_host_platform is not None:
        return not platform.tdx_host_platform
    return no_keyids(facts)


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
    """Whether there is a log, and neither it nor the CPU shows TDX: it may be any server's.

    It may also have been cut before the line that would tell. That a map does not fit is sure all the same.
    """
    flag = facts.platform is not None and facts.platform.tdx_host_platform
    return facts.kernel_log is not None and not flag and not shows_tdx(facts)
