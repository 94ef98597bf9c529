# SPDX-License-Identifier: Apache-2.0
"""The verdict: what happened in this boot, what the next initialisation does, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.host_facts import Placement
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.sources import PlacementSource
from tdx_headroom.verdict.crosscheck import estimate
from tdx_headroom.verdict.decode import failed_in_words, why_no_tdx
from tdx_headroom.verdict.findings import FAILS, RISK, Certainty
from tdx_headroom.verdict.guard import Guard
from tdx_headroom.verdict.model import State, Verdict, describe
from tdx_headroom.verdict.obstacles import (
    Told,
    ask,
    came_up,
    kernel_not_shown,
    no_sign,
    part_of_the_map,
    refused_call,
)
from tdx_headroom.verdict.obstacles.contradictions import HARDWARE
from tdx_headroom.verdict.obstacles.log_limits import MAY_HIDE
from tdx_headroom.verdict.obstacles.module_checks import DYNAMIC_PAMT
from tdx_headroom.verdict.obstacles.unknown import EVERYTHING
from tdx_headroom.verdict.signs import hints_of_tdx, is_meant_for_tdx, no_keyids, read_signs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan, Strategy
    from tdx_headroom.verdict.findings import Finding, Signs
    from tdx_headroom.verdict.model import Estimate
    from tdx_headroom.verdict.obstacles import Found
    from tdx_headroom.verdict.staged import Staged

_EXCERPT = "Only a few lines in other text tell of TDX, and nobody can tell whose they are. "
_HIDDEN = "An error in the agent hides whether more than the memory map stops TDX: see the warnings."


def judge(
    facts: HostFacts,
    plans: Mapping[Strategy, Plan | None],
    *,
    assume: Strategy | None = None,
    what_if: bool = False,
    staged: Staged | None = None,
    remedies: bool = True,
) -> Verdict:
    """The verdict from a host's facts and plans.

    A part that fails by an error of the agent's own is left out and named; where it could have made the
    verdict worse, the verdict is no better than unknown.

    Args:
        facts: of the host.
        plans: one a strategy.
        assume: the strategy that the operator says this kernel uses.
        what_if: the facts are not the host's own any more, so what happened on it does not count.
        staged: what is open about the boot that is judged; None where it is an initialization, whichever
            kernel tries it.
        remedies: whether to compute what to do, too.
    """
    guard = Guard()
    signs = read_signs(facts, plans, assume, guard, what_if=what_if, staged=staged, remedies=remedies)
    plan, check = signs.plan, signs.check
    found = ask(signs)
    next_boot, worst = _decide(signs, found)
    decides = _what_decides(signs, found, next_boot, worst)
    state, summary = _state(signs, found, next_boot, decides)
    guess = guard.part("the estimate from the CMRs", lambda: estimate(facts), None)
    rests_on = guard.part("what the plan rests on", lambda: _rests_on(facts, plan, guess), list[str]())
    told: dict[Told | None, list[str]] = {where: [] for where in (*Told, None)}
    for row, finding in found.findings:
        if finding.text != summary and (not row.told_in or state in row.told_in):
            told[row.told].append(finding.text)
    findings = (*(finding for _, finding in found.findings), *guard.findings)
    missing = told[Told.MISSING]
    return Verdict(
        state=state,
        next_boot=next_boot,
        strategy=signs.strategy.strategy,
        summary=summary,
        evidence=(*signs.strategy.evidence, *check.details, *rests_on),
        remedies=tuple(dict.fromkeys(remedy.text for finding in findings for remedy in finding.remedies)),
        warnings=(*told[Told.WARNINGS], *(finding.text for finding in guard.findings)),
        finding=signs.strategy,
        cross_check=check,
        estimate=guess,
        missing=(*missing, EVERYTHING) if missing else (),
        contradictions=tuple(told[Told.CONTRADICTIONS]),
        findings=findings,
        failures=tuple(guard.failures),
        decides=decides,
        preface=_EXCERPT if facts.log_health is not None and facts.log_health.excerpt else "",
    )


def _decide(signs: Signs, found: Found) -> tuple[State | None, Finding | None]:
    """What the next initialisation does, None when that cannot be told, and the finding that decides it."""
    fails = [finding for _, finding in found.findings if finding.severity is FAILS]
    risks = [finding for _, finding in found.findings if finding.severity is RISK]
    # Of several that are equally certain, the last: hibernation says more than what the log made of it.
    worst = max(reversed(fails) if fails else risks, key=lambda finding: finding.certainty, default=None)
    # A risk is no promise, and outweighs a doubt only where it is surer than a plan.
    sure = worst is not None and (bool(fails) or worst.certainty > Certainty.PLAN)
    certainty = worst.certainty if worst is not None and sure else Certainty.FITS
    if signs.not_tdx or (found.doubt is not None and found.doubt >= certainty):
        return None, worst
    if fails:
        return State.WILL_FAIL, worst
    if signs.plan is None and not any(finding.kind == came_up.KIND for _, finding in found.findings):
        return None, worst
    return (State.WILL_INITIALIZE if worst is None else State.AT_RISK), worst


def _what_decides(signs: Signs, found: Found, next_boot: State | None, worst: Finding | None) -> str | None:
    """What the next initialization comes to, and why, in a sentence; None where that cannot be told."""
    if next_boot is None:
        return None
    if worst is not None:
        return worst.text
    if signs.plan is not None:
        return describe(signs.plan)
    return next((finding.text for _, finding in found.findings if finding.kind == came_up.KIND), None)


def _rests_on(facts: HostFacts, plan: Plan | None, guess: Estimate | None) -> list[str]:
    found = []
    if plan is not None and any(tdmr.pamt.size for tdmr in plan.tdmrs):
        found.append(_placement(facts, plan))
    if facts.cmr_source is not None and facts.cmr_source.last_seen:
        found.append(f"The CMRs are not from this boot: {facts.cmr_source}.")
    if guess is not None:
        found.append(_estimated(guess, facts))
    return found


def _state(signs: Signs, found: Found, next_boot: State | None, decides: str | None) -> tuple[State, str]:
    facts = signs.facts
    log, platform = facts.kernel_log, facts.platform
    if signs.not_tdx:
        return State.NOT_TDX, _why_not_tdx(facts)
    if not signs.what_if:
        if any(finding.kind == HARDWARE for _, finding in found.findings):
            return State.CANNOT_TELL, "The log says that TDX is up, and the CPU shows no TDX."
        if signs.failed is not None:
            return State.FAILED, failed_in_words(signs.failed)
        if log is not None and log.state is ModuleState.INITIALIZED:
            pamt = f" with {log.pamt_kib} KiB of PAMT" if log.pamt_kib is not None else ""
            return State.INITIALIZED, f"TDX is up in this boot{pamt}."
        if platform is not None and platform.tdx_module_version is not None:
            return State.INITIALIZED, f"TDX is up: module {platform.tdx_module_version}."
    if next_boot is None:
        return State.CANNOT_TELL, _HIDDEN if found.hidden else _missing(signs, found)
    return next_boot, decides or ""


def _why_not_tdx(facts: HostFacts) -> str:
    if said := why_no_tdx(facts):
        return said
    if facts.platform is None or facts.platform.tdx_host_platform is None:
        return (
            "The log shows the start of this boot, and no KeyIDs of TDX: CPU or kernel do not have it, or"
            " the BIOS has not enabled it."
        )
    text = "This is not a TDX host: the CPU does not show tdx_host_platform."
    if is_meant_for_tdx(facts):
        # Then something is missing.
        hints = " and ".join(hints_of_tdx(facts))
        text += f" But {hints}: in the BIOS, enable TME, TME-MT, TDX and the SEAM loader."
    if facts.platform.hibernation and not no_keyids(facts):
        # It is not set either when hibernation stops TDX, and the line that says so may be gone.
        text += " Should it be one, hibernation may be in the way: boot with nohibernate."
    return text


def _missing(signs: Signs, found: Found) -> str:
    facts, plan = signs.facts, signs.plan
    told = {finding.kind: finding.text for _, finding in found.findings}
    if signs.refused is not None:
        alone = "" if plan is None else f" The memory map alone: {describe(plan)}"
        return f"{refused_call.in_words(signs.refused)}{alone}"
    if part := told.get(part_of_the_map.KIND):
        return part
    if signs.no_sign and (plan is not None or hints_of_tdx(facts)):
        alone = "" if plan is None else f" The memory map alone: {describe(plan)}"
        return f"{no_sign.in_words(facts)}{alone}"
    if facts.memory_regions is None:
        return (
            "No source tells the memory regions. Run as root, or give the kernel log from its beginning"
            " (`journalctl -k -b`), or /proc/iomem and /sys/firmware/memmap."
        )
    if plan is not None and kernel_not_shown.KIND in told:
        return told[kernel_not_shown.KIND]
    if dynamic := told.get(DYNAMIC_PAMT):
        return dynamic
    if MAY_HIDE in told:
        return "A line that could not be read may tell of a failure: see the warnings."
    return "The CMRs are unknown: give the kernel log of the TDX initialization, if this kernel prints them."


def _placement(facts: HostFacts, plan: Plan) -> str:
    if plan.placement is Placement.PREDICTED:
        return f"Where the PAMTs lie is predicted: {facts.placement_source or PlacementSource()}."
    known = "as given" if plan.placement is Placement.GIVEN else "taken to be outside every TDMR"
    return f"Where the PAMTs lie is {known}."


def _estimated(guess: Estimate, facts: HostFacts) -> str:
    text = f"Estimated from the CMRs: {len(guess.tdmrs)} TDMRs, {guess.pamt_kib} KiB of PAMT"
    logged = facts.kernel_log.pamt_kib if facts.kernel_log else None
    return f"{text}." if logged is None else f"{text}; the kernel allocated {logged} KiB."
