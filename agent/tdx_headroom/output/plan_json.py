# SPDX-License-Identifier: Apache-2.0
"""Plans as JSON: ``tdx-headroom/plan/1`` (docs/formats.md). Integers are bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.output.addresses import coarse, coarse_error, public
from tdx_headroom.output.remedy_steps import TAKE_BACK, lines_for
from tdx_headroom.verdict.findings import RemedyKind
from tdx_headroom.verdict.model import Sentence

if TYPE_CHECKING:
    from tdx_headroom.errors import AgentError
    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict import Verdict
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.boots import Boot
    from tdx_headroom.verdict.findings import Finding, Remedy

SCHEMA = "tdx-headroom/plan/1"
ERROR_SCHEMA = "tdx-headroom/error/1"


def to_json(assessment: Assessment, *, full_addresses: bool = True) -> dict[str, Any]:
    """One host's plans, what its log shows, and the verdict.

    Without ``full_addresses`` no address finer than a TDMR's bounds is in it: offsets of reserved areas,
    PAMT bases and CMRs are null, and so are sizes of areas, since the last one may end where its TDMR does.
    """
    facts = assessment.facts
    plans = {
        str(strategy): None if plan is None else plan_to_json(plan, full_addresses=full_addresses)
        for strategy, plan in assessment.plans.items()
    }
    return {
        "schema": SCHEMA,
        "host": facts.host,
        "nodes_known": facts.nodes_known,
        "strategies": plans,
        "observed": observed_to_json(facts.kernel_log, full_addresses=full_addresses),
        "verdict": {
            **verdict_to_json(assessment.verdict, full_addresses=full_addresses),
            **_next_boot(assessment, full_addresses=full_addresses),
        },
        "boots": None
        if assessment.boots is None
        else [boot_to_json(boot, full_addresses=full_addresses) for boot in assessment.boots],
    }


def _next_boot(assessment: Assessment, *, full_addresses: bool) -> dict[str, Any]:
    """What of the verdict is about the boot that comes next, where that is known."""
    coming = assessment.coming
    state = assessment.next_boot
    return {
        "next_boot": None if state is None else str(state),
        "boots_next": None if coming is None else coming.entry.release,
        "entry_next": None
        if coming is None or coming.entry.entry is None
        else public(coming.entry.entry, full_addresses=full_addresses),
        "boots_unknown": None
        if assessment.boots_unknown is None
        else public(assessment.boots_unknown, full_addresses=full_addresses),
    }


def boot_to_json(boot: Boot, *, full_addresses: bool = True) -> dict[str, Any]:
    """One boot entry and its verdict; without ``full_addresses`` no address and no id of the machine."""
    entry, verdict = boot.entry, boot.verdict
    arguments = entry.arguments
    if arguments is not None and not full_addresses:
        arguments = tuple(public(argument, full_addresses=False) for argument in arguments)
    return {
        "entry": None if entry.entry is None else public(entry.entry, full_addresses=full_addresses),
        "title": entry.title if full_addresses else None,
        "kernel_release": entry.release,
        "command_line": None if arguments is None else " ".join(arguments),
        "known_from": public(entry.known_from, full_addresses=full_addresses),
        "roles": [str(role) for role in entry.roles],
        "loader": None if entry.loader is None else str(entry.loader),
        "recovery": entry.recovery,
        "differs": None if entry.differs is None else [str(change) for change in entry.differs],
        "starts_tdx": str(boot.start.starts),
        "traits_from": None if boot.start.known_from is None else str(boot.start.known_from),
        "strategy": None if verdict is None else str(verdict.strategy),
        "strategy_from": None if verdict is None else str(verdict.finding.basis),
        "map_from": str(boot.staged.map_from),
        "verdict": str(boot.state),
        "why": public(boot.why, full_addresses=full_addresses),
        "findings": []
        if verdict is None
        else [_finding(found, full_addresses=full_addresses) for found in verdict.findings],
        "plan": None if boot.plan is None else plan_to_json(boot.plan, full_addresses=full_addresses),
    }


def error_to_json(line: int, host: str | None, error: AgentError) -> dict[str, Any]:
    """The answer for a facts line that cannot be read."""
    return {"schema": ERROR_SCHEMA, "line": line, "host": host, "error": error.message, "hint": error.hint}


def plan_to_json(plan: Plan, *, full_addresses: bool = True) -> dict[str, Any]:
    """One strategy's plan; without ``full_addresses`` without addresses of PAMTs and reserved areas."""
    module = plan.module
    return {
        "errno": plan.errno,
        "messages": list(plan.messages),
        "failed_tdmr": plan.failed_tdmr,
        "tdmrs_needed": plan.tdmrs_needed,
        "pamt_kib": plan.pamt_kib,
        "tdmrs": [_tdmr(tdmr, full_addresses=full_addresses) for tdmr in plan.tdmrs],
        "module": None if module is None else {"status": str(module.status), "tdmr": module.tdmr},
        "not_convertible_bytes": plan.not_convertible_bytes,
        "pamt_placement": str(plan.placement),
    }


def _tdmr(tdmr: Tdmr, *, full_addresses: bool) -> dict[str, Any]:
    pamt = tdmr.pamt
    return {
        "base": tdmr.base,
        "size": tdmr.size,
        "node": tdmr.node,
        "pamt": {
            "base": pamt.base if full_addresses else None,
            "size_4k": pamt.size_4k,
            "size_2m": pamt.size_2m,
            "size_1g": pamt.size_1g,
        },
        "reserved_areas": [
            {
                "offset": area.offset if full_addresses else None,
                "size": area.size if full_addresses else None,
                "kind": str(area.kind),
            }
            for area in tdmr.reserved_areas
        ],
        "needed": tdmr.needed,
        "needed_holes": tdmr.needed_holes,
        "needed_pamts": tdmr.needed_pamts,
        "needed_worst": tdmr.needed_worst,
        "limit": tdmr.limit,
        "headroom": tdmr.headroom,
        "headroom_worst": tdmr.headroom_worst,
    }


def observed_to_json(log: KernelReport | None, *, full_addresses: bool = True) -> dict[str, Any]:
    """What the kernel's log shows of TDX; without ``full_addresses`` no CMRs and no bounds of a TDMR."""
    if log is None:
        names = ("errno", "reason", "pamt_kib", "keyids", "module_version", "cmrs", "failed_tdmr")
        return {"module_state": "unknown", **dict.fromkeys(names)}
    return {
        "module_state": str(log.state),
        "errno": log.errno,
        "reason": None if log.reason is None else str(log.reason),
        "pamt_kib": log.pamt_kib,
        "keyids": None if log.keyids is None else list(log.keyids),
        "module_version": log.module_version,
        "cmrs": [[r.start, r.size] for r in log.cmrs] if log.cmrs is not None and full_addresses else None,
        "failed_tdmr": None if log.failed_tdmr is None else list(log.failed_tdmr),
    }


def verdict_to_json(verdict: Verdict, *, full_addresses: bool = True) -> dict[str, Any]:
    """The verdict with what it rests on; without ``full_addresses`` no text has a fine address in it."""

    def shown(text: str) -> str:
        return text if full_addresses else coarse(text)

    def texts(given: tuple[str, ...]) -> list[str]:
        return [shown(text) for text in given]

    guess = verdict.estimate
    return {
        "state": str(verdict.state),
        "next_boot": None if verdict.next_boot is None else str(verdict.next_boot),
        "strategy": str(verdict.strategy),
        "strategy_basis": str(verdict.finding.basis),
        "contradiction": shown(verdict.finding.contradiction) if verdict.finding.contradiction else None,
        "summary": shown(verdict.told),
        "contradictions": texts(verdict.contradictions),
        "evidence": texts(verdict.evidence),
        "remedies": texts(verdict.remedies),
        "warnings": texts(verdict.warnings),
        "missing": [text if full_addresses else coarse_error(text) for text in verdict.missing],
        "plan_matches_kernel": verdict.cross_check.matches,
        "estimate": None
        if guess is None
        else {"tdmrs": [[t.start, t.size] for t in guess.tdmrs], "pamt_kib": guess.pamt_kib},
        "findings": [_finding(found, full_addresses=full_addresses) for found in verdict.findings],
    }


def _finding(found: Finding, *, full_addresses: bool) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "severity": str(found.severity),
        "figures": dict(found.figures),
        # What a source could not be read for may quote an offending line.
        "text": public(found.text, full_addresses=full_addresses),
        "remedies": [remedy_to_json(remedy, full_addresses=full_addresses) for remedy in found.remedies],
    }


def remedy_to_json(remedy: Remedy, *, full_addresses: bool) -> dict[str, Any]:
    """One remedy; without ``full_addresses`` neither addresses nor what they follow from."""
    # Where a hole begins follows from the size of the memory before it.
    private = isinstance(remedy.text, Sentence) and not full_addresses
    adds = remedy.kind is RemedyKind.ADD_ARGUMENTS
    return {
        "kind": str(remedy.kind),
        "arguments": [] if private else list(remedy.arguments),
        "instead": [] if private else list(remedy.instead),
        "areas_freed": remedy.areas_freed,
        "bytes_given_up": None if private else remedy.bytes_given_up,
        "sure": "computed" if remedy.computed else "likely",
        "areas_left": remedy.left,
        "lines": lines_for(remedy.arguments) if adds and not private else {},
        "undo": TAKE_BACK if adds and not private else None,
        "text": remedy.text if full_addresses else coarse(remedy.text),
    }
