# SPDX-License-Identifier: Apache-2.0
"""Many hosts before a kernel upgrade: on which does TDX come up under which kernel?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.boot_record import StrategyAreas
from tdx_headroom.facts.boots import Role, TraitsFrom
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.plan import Strategy, plans_of
from tdx_headroom.verdict import State, describe, judge, predict
from tdx_headroom.verdict.boots import judge_boots, next_boot_of, why_none_comes
from tdx_headroom.verdict.history import areas_of, bios_of
from tdx_headroom.verdict.kernels import why_unknown
from tdx_headroom.verdict.late_memory import at_boot
from tdx_headroom.verdict.model import Basis, capitalized
from tdx_headroom.verdict.obstacles import doubt_of
from tdx_headroom.verdict.obstacles.module_checks import CMR_TABLE
from tdx_headroom.verdict.this_kernel import why_without_tdx
from tdx_headroom.verdict.what_if import WhatIf, apply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tdx_headroom.address import Range
    from tdx_headroom.facts.boot_record import Areas
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict import Verdict


class Fit(StrEnum):
    """What the next TDX initialization on a host does."""

    FITS = "fits"
    AT_RISK = "at-risk"
    WILL_FAIL = "will-fail"
    CANNOT_TELL = "cannot-tell"
    NO_TDX = "no-tdx"


_OF_STATE = {
    State.WILL_INITIALIZE: Fit.FITS,
    State.AT_RISK: Fit.AT_RISK,
    State.WILL_FAIL: Fit.WILL_FAIL,
}
_OF_BOOT = {**_OF_STATE, State.NOT_TDX: Fit.NO_TDX, State.CANNOT_TELL: Fit.CANNOT_TELL}


class Target(NamedTuple):
    """A kernel to boot: a label, and its release; None is each host's own, with all that it has shown."""

    label: str
    kernel: str | None


OWN = Target("own kernel", None)
NEXT = Target("own next boot", None)
"""What is staged on each host; a host whose boot configuration is not known has no result."""
MAINLINE = Target("mainline", "7.3.0")
"""The newest mainline kernel whose source has been read (verdict/kernels.py)."""


class TargetResult(NamedTuple):
    """One host under one kernel: which strategy that kernel uses, how it goes, and why in a sentence.

    Of a kernel that is not known the strategy is mainline's. ``release`` is of the kernel that is staged.
    ``now`` is how it goes as the host is, where the result is about the host with a canary's holes.
    """

    target: Target
    strategy: Strategy
    fit: Fit
    why: str
    kernel_known: bool
    release: str | None = None
    now: Fit | None = None


@dataclass(frozen=True, slots=True)
class HostAudit:
    """One host.

    Args:
        name: of the input that it comes from.
        line: of a stream of facts, from 1; None for other inputs.
        host: its own name, where that is known.
        kernel_release: what it runs.
        state: what happened, or would, under that kernel.
        targets: a result a target.
        strategies: how it goes by hole strategy, whatever kernel uses it.
        bios_version: of its firmware, where that is known.
        cpu_model: of its processors, where that is known.
        areas: of its fullest TDMR under its own kernel's strategy; None: unknown, or it is no TDX host.
    """

    name: str
    line: int | None
    host: str | None
    kernel_release: str | None
    state: State
    targets: tuple[TargetResult, ...]
    strategies: Mapping[Strategy, Fit]
    bios_version: str | None = None
    cpu_model: str | None = None
    areas: Areas | None = None


@dataclass(slots=True)
class Totals:
    """How many hosts go how, so far.

    Args:
        hosts: hosts audited.
        unreadable: inputs, or lines of them, that gave no host.
        targets: how many by the target's label and fit.
        now: the same of the hosts as they are, where ``targets`` are with a canary's holes.
        strategies: how many by strategy and fit.
        unknown: by the target's label, hosts whose kernel nobody knows, so that they are judged as mainline.
    """

    hosts: int = 0
    unreadable: int = 0
    targets: dict[str, Counter[Fit]] = field(default_factory=dict)
    now: dict[str, Counter[Fit]] = field(default_factory=dict)
    strategies: dict[Strategy, Counter[Fit]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, audit: HostAudit) -> None:
        """Count one host in."""
        self.hosts += 1
        for result in audit.targets:
            self.targets.setdefault(result.target.label, Counter())[result.fit] += 1
            if not result.kernel_known and result.fit is not Fit.NO_TDX:
                self.unknown[result.target.label] += 1
            if result.now is not None:
                self.now.setdefault(result.target.label, Counter())[result.now] += 1
        for strategy, fit in audit.strategies.items():
            self.strategies.setdefault(strategy, Counter())[fit] += 1

    def any_as_bad_as(self, fit: Fit) -> bool:
        """Whether a host goes so under a target, or worse; what cannot be told is neither."""
        bad = (Fit.WILL_FAIL,) if fit is Fit.WILL_FAIL else (Fit.WILL_FAIL, Fit.AT_RISK)
        return any(count[one] for count in self.targets.values() for one in bad)


def targets_of(kernels: Sequence[str], *, next_boot: bool = False) -> tuple[Target, ...]:
    """The targets that are asked for; each host's own kernel, its next boot and mainline when none is.

    Args:
        kernels: releases.
        next_boot: whether it is only what is staged on each host.
    """
    if next_boot:
        return (NEXT,)
    return tuple(Target(kernel, kernel) for kernel in dict.fromkeys(kernels)) or (OWN, NEXT, MAINLINE)


def notes_of(targets: Sequence[Target]) -> list[str]:
    """What to know of targets, whatever the host: TDX is not even tried, or nobody knows the kernel."""
    found = [
        why_without_tdx(HostFacts(kernel_release=target.kernel)) or why_unknown(target.kernel)
        for target in targets
    ]
    return [capitalized(note) for note in found if note is not None]


def audit_host(
    facts: HostFacts,
    name: str,
    line: int | None,
    targets: Sequence[Target],
    command_line: tuple[str, ...] | None = None,
    bios_version: str | None = None,
    holes: tuple[Range, ...] = (),
) -> HostAudit:
    """One host under every target.

    Args:
        facts: of the host.
        name: of the input that it comes from.
        line: of that input, where it is a stream.
        targets: kernels to look at.
        command_line: what every one of them is booted with; None: as the host runs, or has staged.
        bios_version: of its firmware, where the facts do not tell it.
        holes: memory to take away.

    Raises:
        FactsError: the facts contradict themselves.
    """
    # A kernel changes the strategy, not the plans: they are made once, but for one that starts TDX at boot.
    with_holes = WhatIf(holes=holes)
    own_facts = at_boot(apply(with_holes, facts)[0])
    own_plans = plans_of(own_facts)
    own = judge(own_facts, own_plans, what_if=with_holes.changes_host, remedies=False)
    # A fleet has many hosts without TDX: they are told by how they run now, not doubted for each kernel.
    no_tdx = own.state is State.NOT_TDX
    results = []
    for target in targets:
        if target is NEXT:
            # Beside others, a host of which nobody knows what is staged is no news; asked for alone, it is.
            if (facts.boots is not None and facts.boots.configured) or len(targets) == 1:
                results.append(_next_boot(facts, own, command_line, with_holes, no_tdx=no_tdx))
            continue
        verdict, plans = own, own_plans
        what_if = replace(with_holes, kernel=target.kernel, command_line=command_line)
        if what_if != with_holes and not no_tdx:
            applied, staged = apply(what_if, facts)
            changed = at_boot(applied)
            if staged is not None or changed.memory_regions != own_facts.memory_regions:
                plans = plans_of(changed)
            verdict = judge(changed, plans, what_if=True, staged=staged, remedies=False)
        plan = plans[verdict.strategy]
        fit = _fit(verdict)
        why = _unknown(facts, verdict, plan) if fit is Fit.CANNOT_TELL else _why(verdict, plan)
        why = " ".join([why, *verdict.contradictions[:1]])
        known = verdict.finding.basis is not Basis.MAINLINE
        results.append(TargetResult(target, verdict.strategy, fit, why, known))
    # No kernel comes up with a CMR table that the module refuses.
    refused = any(finding.kind == CMR_TABLE for finding in own.findings)
    same = Fit.NO_TDX if no_tdx else Fit.WILL_FAIL if refused else None
    return HostAudit(
        name=name,
        line=line,
        host=facts.host,
        kernel_release=facts.kernel_release,
        state=own.state,
        targets=tuple(results),
        strategies={s: same or _of_plan(plan) for s, plan in own_plans.items()},
        bios_version=bios_of(facts) or bios_version,
        cpu_model=None if facts.platform is None else facts.platform.cpu_model,
        areas=None if no_tdx else _fullest(own.strategy, own_plans[own.strategy]),
    )


def _fullest(strategy: Strategy, plan: Plan | None) -> Areas | None:
    return None if plan is None else StrategyAreas(strategy, areas_of(plan)).fullest


def _next_boot(
    facts: HostFacts, own: Verdict, command_line: tuple[str, ...] | None, what_if: WhatIf, *, no_tdx: bool
) -> TargetResult:
    """The boot that is staged, be it the running one again; with another command line, where one is given."""
    configured = facts.boots is not None and facts.boots.configured
    coming = (
        next_boot_of(judge_boots(_with_line(facts, command_line), what_if, remedies=False))
        if configured
        else None
    )
    # Where nothing is judged, nothing is judged as an unknown kernel's.
    known = (
        coming is None or coming.verdict is None or coming.start.known_from not in (None, TraitsFrom.MAINLINE)
    )
    if no_tdx:
        return TargetResult(NEXT, own.strategy, Fit.NO_TDX, own.told, known)
    if coming is None or coming.verdict is None:
        why_none = why_none_comes(facts) if configured else "the input has no boot configuration"
        unknown = f"Which boots next cannot be told: {why_none}."
        why = unknown if coming is None else coming.why
        return TargetResult(NEXT, own.strategy, Fit.CANNOT_TELL, why, known)
    fit = _OF_BOOT[coming.state]
    return TargetResult(NEXT, coming.verdict.strategy, fit, coming.why, known, coming.entry.release)


def _with_line(facts: HostFacts, command_line: tuple[str, ...] | None) -> HostFacts:
    if command_line is None or facts.boots is None:
        return facts
    entries = tuple(
        replace(entry, arguments=command_line, roles=tuple(r for r in entry.roles if r is not Role.RUNNING))
        for entry in facts.boots.entries
    )
    return replace(facts, boots=replace(facts.boots, entries=entries))


def _fit(verdict: Verdict) -> Fit:
    if verdict.state is State.NOT_TDX:
        return Fit.NO_TDX
    return Fit.CANNOT_TELL if verdict.next_boot is None else _OF_STATE[verdict.next_boot]


def _of_plan(plan: Plan | None) -> Fit:
    return Fit.CANNOT_TELL if plan is None else _OF_STATE[predict(plan)]


def _unknown(facts: HostFacts, verdict: Verdict, plan: Plan | None) -> str:
    """Why it cannot be told; what happened in this boot is no answer to that."""
    doubt = None if verdict.state is State.CANNOT_TELL else doubt_of(verdict.findings)
    if doubt is not None or verdict.state is State.CANNOT_TELL or plan is not None:
        return doubt or verdict.told
    what = "memory regions" if facts.memory_regions is None else "CMRs"
    return f"The {what} are unknown: give the kernel log from its beginning (`journalctl -k -b`)."


def _why(verdict: Verdict, plan: Plan | None) -> str:
    if plan is not None and verdict.next_boot is not None and predict(plan) is verdict.next_boot:
        return describe(plan)
    return verdict.decides or verdict.told
