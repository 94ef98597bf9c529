# SPDX-License-Identifier: Apache-2.0
"""The verdict of every boot entry: what TDX does with that kernel, on that command line, and on its map."""

from __future__ import annotations

from dataclasses import replace
from functools import cmp_to_key
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.systemd_boot.order import compare_versions
from tdx_headroom.facts.boots import BootEntry, Change, Role, Starts
from tdx_headroom.facts.host_facts import Placement
from tdx_headroom.facts.observations import Platform
from tdx_headroom.plan import plans_of
from tdx_headroom.verdict.judge import judge
from tdx_headroom.verdict.late_memory import at_boot
from tdx_headroom.verdict.model import State
from tdx_headroom.verdict.staged import Staged, as_it_runs
from tdx_headroom.verdict.this_boot import NOTHING, of_other_kernel, shown_by
from tdx_headroom.verdict.this_kernel import KnownStart, likely_start
from tdx_headroom.verdict.what_if import UNCHANGED, apply, facts_of_entry

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.model import Verdict
    from tdx_headroom.verdict.this_boot import Shown
    from tdx_headroom.verdict.what_if import WhatIf


_WORSE = (State.NOT_TDX, State.WILL_INITIALIZE, State.AT_RISK, State.CANNOT_TELL, State.WILL_FAIL)
"""What becomes of a boot, the worst last."""


class Boot(NamedTuple):
    """One boot entry and what becomes of TDX with it.

    Args:
        entry: as it is staged.
        start: when its kernel initializes TDX, and what tells it.
        staged: what is open about it.
        state: its verdict: will-initialize, at-risk, will-fail, cannot-tell or not-tdx.
        verdict: all of that verdict; None where release or command line are unknown, or whether the loader
            can start it.
        plan: of its kernel's strategy; None where there is none.
        why: the state in a sentence.
    """

    entry: BootEntry
    start: KnownStart
    staged: Staged
    state: State
    verdict: Verdict | None
    plan: Plan | None
    why: str

    @property
    def is_next(self) -> bool:
        """Whether it comes next."""
        return Role.NEXT in self.entry.roles


def judge_boots(
    facts: HostFacts, what_if: WhatIf = UNCHANGED, *, remedies: bool = True
) -> tuple[Boot, ...] | None:
    """Every boot entry judged, the running one first; None where nobody has looked for any.

    Args:
        facts: of the host as it runs.
        what_if: changes that the operator wants to try with each of them; no kernel and no command line.
        remedies: whether to compute what to do, too.

    Raises:
        FactsError: a change cannot be made to the running boot.
    """
    if facts.boots is None:
        return None
    known: dict[tuple[object, ...], Boot] = {}
    found = []
    shown = shown_by(facts) if facts.boots.entries and not what_if.changes_host else NOTHING
    for entry in facts.boots.entries:
        key = (
            *(entry.release, entry.arguments, entry.traits, entry.unknown, entry.hypervisor),
            *(Role.RUNNING in entry.roles, _is_rebuilt(entry)),
        )
        boot = known.get(key)
        if boot is None:
            boot = known[key] = _judge(facts, entry, what_if, shown, remedies=remedies)
        found.append(boot._replace(entry=entry))
    return tuple(found)


def next_boot_of(boots: tuple[Boot, ...] | None) -> Boot | None:
    """The one that comes next; None where that cannot be told."""
    return next((boot for boot in boots or () if boot.is_next), None)


def kernels_of(boots: tuple[Boot, ...]) -> tuple[Boot, ...]:
    """The worst boot of each kernel that an operator gets by default: the next one, then the newest.

    Args:
        boots: all of them; entries for recovery, and what kexec has loaded, are passed over.
    """
    worst: dict[str, Boot] = {}
    for boot in boots:
        release = boot.entry.release
        if release is None or boot.entry.recovery or Role.KEXEC in boot.entry.roles:
            continue
        worst[release] = max(worst.get(release, boot), boot, key=lambda one: _WORSE.index(one.state))
    coming = next_boot_of(boots)
    first = None if coming is None else coming.entry.release
    newest = sorted(worst, key=cmp_to_key(compare_versions), reverse=True)
    return tuple(worst[release] for release in sorted(newest, key=lambda release: release != first))


def why_none_comes(facts: HostFacts) -> str:
    """Why it cannot be told which boot comes next, a clause."""
    why = None if facts.boots is None else facts.boots.unknown
    return why or "no entry of the boot configuration comes next"


def doubt_of(entry: BootEntry) -> str:
    """Why nothing good can be said of an entry, and what to do about it, in sentences."""
    if entry.release is None or entry.arguments is None:
        what = "the kernel" if entry.release is None else "the command line"
        return f"{what} is unknown" + (f", {entry.unknown}." if entry.unknown else ".")
    return f"{entry.unknown}. Mend that, or choose another entry before the reboot."


def _is_rebuilt(entry: BootEntry) -> bool:
    """Whether it is the running kernel's release with another image."""
    return Change.IMAGE in (entry.differs or ())


def _is_alike(facts: HostFacts, entry: BootEntry) -> bool:
    """Whether an entry differs from the running boot in nothing that TDX depends on."""
    same = (entry.release, entry.arguments) == (facts.kernel_release, facts.command_line)
    return same and entry.traits in (None, facts.traits) and not _is_other_machine(entry)


def _is_other_machine(entry: BootEntry) -> bool:
    """Whether the running kernel's release is there in another image, or above a hypervisor."""
    return _is_rebuilt(entry) or Change.HYPERVISOR in (entry.differs or ()) or entry.hypervisor is not None


def _judge(facts: HostFacts, entry: BootEntry, what_if: WhatIf, shown: Shown, *, remedies: bool) -> Boot:
    running = Role.RUNNING in entry.roles
    if not running and (entry.release is None or entry.arguments is None):
        why = f"It cannot be told: {doubt_of(entry)}"
        start = KnownStart(Starts.UNKNOWN, None)
        return Boot(entry, start, Staged(), State.CANNOT_TELL, None, None, why)
    # With nothing but another initial RAM disk, say, what became of TDX in this boot becomes of it again.
    running = running or _is_alike(facts, entry)
    if running:
        changed, staged = apply(what_if, facts)[0], as_it_runs(facts)._replace(shown=shown)
    else:
        if _is_rebuilt(entry):
            shown = of_other_kernel(shown, facts, entry.release)
        changed, staged = facts_of_entry(
            what_if, facts, entry.release, entry.arguments or (), entry.traits, shown
        )
    changed = _above(entry.hypervisor, _with_own_places(at_boot(changed), facts))
    plans = plans_of(changed)
    tried = not running or what_if.changes_host
    verdict = judge(changed, plans, assume=what_if.strategy, what_if=tried, staged=staged, remedies=remedies)
    state = State.NOT_TDX if verdict.state is State.NOT_TDX else verdict.next_boot or State.CANNOT_TELL
    start = likely_start(changed)
    if entry.unknown is not None and state in (State.WILL_INITIALIZE, State.AT_RISK):
        # What becomes of TDX under a kernel that may not be started is no promise; a failure stays one.
        why = f"It cannot be told: {doubt_of(entry)}"
        return Boot(entry, start, staged, State.CANNOT_TELL, None, None, why)
    return Boot(entry, start, staged, state, verdict, plans[verdict.strategy], _why(verdict))


def _above(hypervisor: str | None, facts: HostFacts) -> HostFacts:
    """The facts as of a boot above a hypervisor."""
    if hypervisor is None:
        return facts
    return replace(facts, platform=replace(facts.platform or Platform(), hypervisor=hypervisor))


def _with_own_places(changed: HostFacts, facts: HostFacts) -> HostFacts:
    """The facts without PAMT bases that were given for another memory map, and so for other TDMRs."""
    if isinstance(changed.pamt_placement, Placement) or changed.memory_regions == facts.memory_regions:
        return changed
    return replace(changed, pamt_placement=Placement.PREDICTED)


def _why(verdict: Verdict) -> str:
    """What decides about the next boot; the verdict's own summary is about what happened, where it did."""
    return verdict.decides or verdict.told
