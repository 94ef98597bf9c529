# SPDX-License-Identifier: Apache-2.0
"""What a firmware update would do to a fleet, by what it has done to one host of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import Range, intersect, subtract
from tdx_headroom.errors import AgentError
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict.fleet import Fit, HostAudit, audit_host
from tdx_headroom.verdict.history import between, holes_of
from tdx_headroom.verdict.staged import forget_this_boot
from tdx_headroom.verdict.what_if import WhatIf, without_effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.verdict.fleet import Target, TargetResult
    from tdx_headroom.verdict.history import BootChange


class Shown(NamedTuple):
    """The canary in one boot.

    Args:
        facts: of it.
        record: of the same boot.
    """

    facts: HostFacts
    record: BootRecord


class Why(StrEnum):
    """Why a host is left out."""

    OTHER_MODEL = "another model"
    UNKNOWN_MODEL = "unknown model"
    UPDATED = "updated already"


class LeftOut(NamedTuple):
    """A host to which what the canary shows does not apply.

    Args:
        name, line, host: as in an audit.
        why: it does not.
    """

    name: str
    line: int | None
    host: str | None
    why: Why


@dataclass(frozen=True, slots=True)
class Canary:
    """One host before and after an update of its firmware.

    Args:
        cpu_model, product: of it, where they are known.
        bios_before, bios_after: versions of its firmware, where they are known.
        change: what is different after it.
        holes: memory that it has no more.
        went: holes that it has no more; they are filled in nowhere.
        cmr_holes: what was convertible and is no more; None: unknown.
    """

    cpu_model: str | None
    product: str | None
    bios_before: str | None
    bios_after: str | None
    change: BootChange
    holes: tuple[Range, ...]
    went: int
    cmr_holes: tuple[Range, ...] | None

    @property
    def beside(self) -> tuple[str, ...]:
        """What is different beside the firmware, a word each."""
        return tuple(mark for mark in self.change.marks if mark != "BIOS")

    @property
    def unknown(self) -> tuple[str, ...]:
        """Of what it cannot be told whether it is different, a word each."""
        change = self.change
        what = {"BIOS": change.bios, "kernel": change.kernel, "command line": change.line}
        found = [name for name, differs in what.items() if differs is None]
        return (*found, *(["CMRs"] if self.cmr_holes is None else []))


def canary_of(before: Shown, after: Shown) -> Canary:
    """What an update has changed.

    Args:
        before: the host as it was.
        after: the same host since.

    Raises:
        AgentError: they are different machines, or the memory map of one is unknown.
    """
    for when, shown in (("before", before), ("after", after)):
        if not shown.record.regions:
            hint = "give the kernel log from its beginning, or a capture"
            raise AgentError(f"the canary's memory map {when} the update is unknown", hint=hint)
    if is_other_model(before.facts, after.facts):
        raise AgentError("the canary is of another model after the update: give one host twice")
    change = between(before.record, after.record)
    known = [shown.facts.platform for shown in (after, before) if shown.facts.platform is not None]
    return Canary(
        cpu_model=next((p.cpu_model for p in known if p.cpu_model), None),
        product=next((p.product for p in known if p.product), None),
        bios_before=before.record.bios_version,
        bios_after=after.record.bios_version,
        change=change,
        holes=_holes_that_came(before.record, after.record, same_size=change.memory == 0),
        went=sum(1 for hole in change.holes or () if hole.after is None),
        cmr_holes=_less(before.facts.cmrs, after.facts.cmrs),
    )


def is_other_model(one: HostFacts, other: HostFacts) -> bool | None:
    """Whether two hosts are of different models; None: nothing that tells is known of both."""
    if one.platform is None or other.platform is None:
        return None
    pairs = [
        (one.platform.cpu_model, other.platform.cpu_model),
        (one.platform.product, other.platform.product),
    ]
    known = [a != b for a, b in pairs if a and b]
    return any(known) if known else None


def audit_after(
    canary: Canary,
    as_before: Shown,
    facts: HostFacts,
    now: HostAudit,
    targets: Sequence[Target],
    command_line: tuple[str, ...] | None = None,
) -> HostAudit | LeftOut:
    """One host as it would be with the holes that came on the canary, at the same places.

    What comes up then is no better than it is now, nor than what is known: where a hole has no place on this
    host, or CMRs matter and the canary does not show them, nobody can tell that it fits.

    Args:
        canary: what the update has changed there.
        as_before: the canary before the update.
        facts: of the host.
        now: the host as it is.
        targets: kernels to look at.
        command_line: as for :func:`~.fleet.audit_host`.

    Raises:
        FactsError: the facts contradict themselves.
    """
    other = is_other_model(as_before.facts, facts)
    if other is not False:
        why = Why.OTHER_MODEL if other else Why.UNKNOWN_MODEL
        return LeftOut(now.name, now.line, now.host, why)
    if canary.change.bios and now.bios_version == canary.bios_after:
        return LeftOut(now.name, now.line, now.host, Why.UPDATED)
    changed = facts
    if canary.cmr_holes and facts.cmrs is not None:
        changed = forget_this_boot(replace(facts, cmrs=_without(facts.cmrs, canary.cmr_holes)))
    holes = canary.holes if facts.memory_regions is not None else ()
    then = audit_host(changed, now.name, now.line, targets, command_line, now.bios_version, holes)
    doubt = _doubt(canary, facts, now)
    results = tuple(
        _no_better(result, was, doubt or _doubt_of_cmrs(canary, result.strategy))
        for result, was in zip(then.targets, now.targets, strict=True)
    )
    return replace(then, targets=results)


def _doubt(canary: Canary, facts: HostFacts, now: HostAudit) -> str | None:
    """Why what has come on the canary may not be all that comes on this host; None where nothing is known."""
    if facts.memory_regions is None:
        return "The memory regions are unknown, and so is what holes in them would do."
    if canary.bios_before is not None and now.bios_version != canary.bios_before:
        had = "is unknown" if now.bios_version is None else f"is {now.bios_version}"
        return f"Its BIOS {had}, the canary's was {canary.bios_before}: what else would change is unknown."
    if placeless := len(without_effect(WhatIf(holes=canary.holes), facts)):
        which = f"{placeless} of the canary's {len(canary.holes)} holes"
        return f"At the place of {which} this host has no memory: where they would come is unknown."
    return None


def _doubt_of_cmrs(canary: Canary, strategy: Strategy) -> str | None:
    if canary.cmr_holes is None and strategy is not Strategy.MEMORY_REGIONS:
        return "The canary does not show what becomes of the CMRs, by which this kernel goes."
    return None


def _no_better(result: TargetResult, now: TargetResult, doubt: str | None) -> TargetResult:
    """A result that promises nothing which the host as it is, or what is known, does not hold."""
    result = result._replace(now=now.fit)
    if doubt is not None and result.fit in (Fit.FITS, Fit.AT_RISK):
        # What is at risk already can be told; that it is no worse cannot.
        fit = Fit.CANNOT_TELL if result.fit is Fit.FITS else result.fit
        result = result._replace(fit=fit, why=f"{doubt} {result.why}")
    if _RANK[result.fit] < _RANK[now.fit]:
        return result._replace(fit=now.fit, why=now.why)
    return result


_RANK = {Fit.NO_TDX: 0, Fit.FITS: 0, Fit.CANNOT_TELL: 1, Fit.AT_RISK: 2, Fit.WILL_FAIL: 3}


def _holes_that_came(before: BootRecord, after: BootRecord, *, same_size: bool) -> tuple[Range, ...]:
    """Memory that is gone; behind the end of it only where it is no DIMM that is missing."""
    had = [(r.start, r.end) for r in before.regions or ()]
    has = [(r.start, r.end) for r in after.regions or ()]
    gone = subtract(had, has)
    return tuple(gone if same_size else intersect(gone, holes_of(after.regions or ())))


def _less(
    before: Sequence[tuple[int, int]] | None, after: Sequence[tuple[int, int]] | None
) -> tuple[Range, ...] | None:
    """What was convertible and is no more."""
    if before is None or after is None:
        return None
    had, has = (sorted((base, base + size) for base, size in cmrs if size) for cmrs in (before, after))
    return tuple(subtract(had, has))


def _without(cmrs: Sequence[tuple[int, int]], holes: Sequence[Range]) -> tuple[tuple[int, int], ...]:
    """CMRs with holes in them, in their order; empty entries stay."""
    return tuple(
        piece
        for base, size in cmrs
        for piece in (
            [(r.start, r.size) for r in subtract([(base, base + size)], holes)] if size else [(base, 0)]
        )
    )
