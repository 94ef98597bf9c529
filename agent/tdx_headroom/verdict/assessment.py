# SPDX-License-Identifier: Apache-2.0
"""Facts, plans and verdict of one host at one time: what every output renders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.facts.boots import BootEntry, Change, Role
from tdx_headroom.plan import plans_of
from tdx_headroom.verdict import State, describe, judge, predict
from tdx_headroom.verdict.boots import judge_boots, next_boot_of
from tdx_headroom.verdict.late_memory import at_boot
from tdx_headroom.verdict.model import FORETOLD
from tdx_headroom.verdict.obstacles import doubt_of
from tdx_headroom.verdict.what_if import UNCHANGED, apply, traits_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict import Verdict
    from tdx_headroom.verdict.boots import Boot
    from tdx_headroom.verdict.what_if import WhatIf


@dataclass(frozen=True, slots=True)
class Assessment:
    """One host, assessed.

    Args:
        facts: of the host, after any what-if.
        plans: one a strategy, of its memory map.
        verdict: about an initialization with that map.
        boots: every boot entry judged, the running one first; None where nobody has looked for any.
    """

    facts: HostFacts
    plans: Mapping[Strategy, Plan | None]
    verdict: Verdict
    boots: tuple[Boot, ...] | None = None

    @property
    def coming(self) -> Boot | None:
        """The boot that comes next; None where that cannot be told, or nobody has looked."""
        return next_boot_of(self.boots)

    @property
    def deciding(self) -> Verdict:
        """That of the boot that comes next; where that cannot be told, of the running kernel's next try."""
        coming = self.coming
        return self.verdict if coming is None or coming.verdict is None else coming.verdict

    @property
    def expected(self) -> State | None:
        """What this kernel's next initialization does; None where the verdict is about nothing else."""
        verdict = self.verdict
        if verdict.state in (State.INITIALIZED, State.FAILED):
            return State.CANNOT_TELL if verdict.next_boot is None else verdict.next_boot
        return None if verdict.next_boot is verdict.state else verdict.next_boot

    @property
    def why_expected(self) -> str | None:
        """Why it does that: the memory map, or what else decides, or what makes it unknown."""
        verdict = self.verdict
        plan = self.plans[verdict.strategy]
        if plan is not None and predict(plan) is verdict.next_boot:
            return describe(plan)
        if self.expected is State.CANNOT_TELL:
            return doubt_of(verdict.findings) or "The memory map is not known well enough."
        return verdict.decides

    @property
    def warnings(self) -> list[str]:
        """The verdict's warnings, but for what is said as the reason already."""
        return [text for text in self.verdict.warnings if text != self.why_expected]

    @property
    def next_boot(self) -> State | None:
        """What TDX does in the boot that comes next; None where that cannot be told."""
        if self.boots is None:
            return self.verdict.next_boot
        return None if self.coming is None or self.coming.state not in FORETOLD else self.coming.state

    @property
    def pending(self) -> bool | None:
        """Whether another kernel, command line or RAM disk is staged; None where that cannot be told."""
        coming = self.coming
        if coming is None:
            return None
        if Role.RUNNING in coming.entry.roles:
            return False
        return None if coming.entry.differs is None else bool(coming.entry.differs)

    @property
    def boots_unknown(self) -> str | None:
        """Why it cannot be told which boot comes next, a clause; None where it can, or nobody has looked."""
        return None if self.facts.boots is None else self.facts.boots.unknown


def assess(facts: HostFacts, what_if: WhatIf = UNCHANGED) -> Assessment:
    """Plan and judge, after the changes that the operator wants to try.

    Raises:
        FactsError: the facts contradict themselves (PAMT bases that do not go with the TDMRs), or a change
            cannot be made to them.
    """
    applied, staged = apply(what_if, facts)
    changed = at_boot(applied)
    plans = plans_of(changed)
    verdict = judge(changed, plans, assume=what_if.strategy, what_if=what_if.changes_host, staged=staged)
    return Assessment(changed, plans, verdict, _boots(facts, what_if))


def _differences(facts: HostFacts, what_if: WhatIf) -> tuple[Change, ...]:
    changed = []
    if what_if.kernel not in (None, facts.kernel_release):
        changed.append(Change.KERNEL)
    if what_if.command_line not in (None, facts.command_line):
        changed.append(Change.COMMAND_LINE)
    return tuple(changed)


def _boots(facts: HostFacts, what_if: WhatIf) -> tuple[Boot, ...] | None:
    """The boots, or the one that the operator asks about in place of the one that comes next."""
    if facts.boots is None:
        return None
    if what_if.kernel is None and what_if.command_line is None:
        return judge_boots(facts, what_if)
    release = what_if.kernel or facts.kernel_release
    arguments = facts.command_line if what_if.command_line is None else what_if.command_line
    asked = BootEntry(
        release=release,
        arguments=arguments,
        roles=(Role.NEXT,),
        known_from="what if",
        differs=_differences(facts, what_if),
        traits=traits_of(facts, release),
    )
    left = replace(what_if, kernel=None, command_line=None)
    only = replace(facts.boots, entries=(asked,), unknown=None)
    return judge_boots(replace(facts, boots=only), left)
