# SPDX-License-Identifier: Apache-2.0
"""What outlives the ring buffer and the agent: this boot's log, the boot before, records of earlier ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.address import MIB, page_round, subtract
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.observations import TdxSeen
from tdx_headroom.facts.sources import CmrSource, LastCmrs
from tdx_headroom.sources.kernel_log.records import LogRecord  # noqa: TC001  the codec reads the annotation
from tdx_headroom.verdict.history import by_clock, merged, of_facts, tells, with_plans
from tdx_headroom.verdict.signs import tdx_seen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.facts.observations import Platform
    from tdx_headroom.verdict.assessment import Assessment

SEQ_STEP = 256
"""The file is written after so many records that are not kept; the smallest ring buffer holds about ten times
as many."""


MAX_BOOTS = 64
"""Boots before this one that are kept."""

SETTLED = 900.0
"""Seconds after which a boot has tried TDX if it ever will; TDXGoneSinceLastBoot waits for less."""


@dataclass(frozen=True, slots=True)
class BootState:
    """What is kept of one boot.

    Args:
        boot_id: the kernel's id of it.
        records: what mattered of its log.
        last_seq: sequence number of the newest record seen.
        cmrs: ``(base, size)``, when the log showed the whole list.
        bios_version, memory_total: what the CMRs depend on.
        map_digest: of the memory regions.
        headroom: least headroom by strategy.
        tdx: the most that it has shown of TDX.
        settled: whether it has lasted long enough for what was not tried to count.
        record: for the history.
    """

    boot_id: str
    records: tuple[LogRecord, ...] = ()
    last_seq: int | None = None
    cmrs: tuple[tuple[int, int], ...] | None = None
    bios_version: str | None = None
    memory_total: int | None = None
    map_digest: str | None = None
    headroom: tuple[tuple[str, int], ...] = ()
    tdx: TdxSeen | None = None
    settled: bool = False
    record: BootRecord | None = None

    def with_log(
        self, records: tuple[LogRecord, ...], last_seq: int | None, *, exact: bool = False
    ) -> BootState:
        """The same with what is kept of the log now.

        Sequence numbers grow with every record: a few of them alone are not worth a write, unless ``exact``.
        But what was read must not look lost after a restart, when the ring buffer has forgotten it.
        """
        grown = (last_seq or 0) - (self.last_seq or 0)
        if records == self.records and grown < (1 if exact else SEQ_STEP):
            return self
        return replace(self, records=records, last_seq=last_seq)


@dataclass(frozen=True, slots=True)
class State:
    """This boot and the one before, as far as they are known, and the newest CMRs of those before these.

    ``tdx_before`` is what was shown of TDX before this boot. A boot that is over before it could bring TDX up
    changes nothing: TDX that has gone is still missed in the next one.

    ``history`` are the boots before this one, the oldest first. ``machine`` are marks of the machine that it
    is of: a state that came along with a disk image is another's.
    """

    current: BootState | None = None
    previous: BootState | None = None
    older_cmrs: LastCmrs | None = None
    tdx_before: TdxSeen | None = None
    history: tuple[BootRecord, ...] = ()
    machine: tuple[str, ...] = ()

    def for_boot(self, boot_id: str) -> State:
        """The state as this boot begins with it: what was the current boot may be the previous one now."""
        if self.current is not None and self.current.boot_id == boot_id:
            return self
        # A boot in which the agent learnt nothing says nothing about the memory map either.
        known = self.current if self.current is not None and self.current.map_digest else None
        cmrs = _cmrs_of(self.current) or self.last_cmrs
        ended = None if self.current is None else self.current.record
        history = (*self.history, ended) if ended is not None and tells(ended) else self.history
        return State(
            BootState(boot_id),
            known or self.previous,
            cmrs,
            self._tdx_so_far(),
            merged(history)[-MAX_BOOTS:],
            self.machine,
        )

    @property
    def is_first_in_boot(self) -> bool:
        """Whether nothing is recorded of this boot: no agent was there, or what it kept is not believed."""
        return self.current is None or self.current.record is None

    @property
    def records(self) -> tuple[BootRecord, ...]:
        """The boots before this one, and this one, where it is recorded."""
        present = None if self.current is None else self.current.record
        return self.history if present is None else (*self.history, present)

    def on_machine(self, marks: Iterable[str]) -> State:
        """The state on a machine with these marks: one that shares none of them starts anew.

        Parts of a machine are replaced, so that one mark in common is enough. A machine without any, such as
        many a virtual one, cannot be told from another.
        """
        found = tuple(sorted(set(marks)))
        if found and self.machine and not set(found) & set(self.machine):
            return State(machine=found)
        return self if found in ((), self.machine) else replace(self, machine=found)

    def with_history(self, records: Iterable[BootRecord]) -> State:
        """The same with more boots before this one, such as the journal has; the order is that of the clock.

        Where the clock is not known, or was put back, the order is that in which they were found.
        """
        current = None if self.current is None else self.current.boot_id.replace("-", "")
        found = merged([*self.history, *records])
        earlier = by_clock([record for record in found if record.boot_id != current])
        return replace(self, history=earlier[-MAX_BOOTS:])

    def _tdx_so_far(self) -> TdxSeen | None:
        boot = self.current
        if boot is None or boot.tdx is None:
            return self.tdx_before
        done = boot.settled or boot.tdx in (TdxSeen.UP, TdxSeen.FAILED)
        return boot.tdx if done else self.tdx_before or boot.tdx

    @property
    def last_cmrs(self) -> LastCmrs | None:
        """CMRs of the last boot that showed them: not every kernel prints them."""
        return _cmrs_of(self.previous) or self.older_cmrs


def _cmrs_of(boot: BootState | None) -> LastCmrs | None:
    if boot is None or boot.cmrs is None:
        return None
    return LastCmrs(boot.cmrs, boot.boot_id, boot.bios_version, boot.memory_total)


def map_changed(before: BootState | None, current: BootState | None) -> bool | None:
    """Whether memory differs between two boots; None where that cannot be told."""
    old, new = before and before.map_digest, current and current.map_digest
    if not old or not new or old.partition(":")[0] != new.partition(":")[0]:
        return None
    return old != new


def remember(boot: BootState, assessment: Assessment, now: float = 0) -> BootState:
    """The boot's state after an assessment, at a time in seconds since the epoch."""
    facts = assessment.facts
    platform = facts.platform
    headroom = {
        str(strategy): plan.headroom
        for strategy, plan in assessment.plans.items()
        if plan is not None and plan.headroom is not None
    }
    own_cmrs = facts.cmrs if facts.cmr_source == CmrSource() else None
    return replace(
        boot,
        cmrs=own_cmrs or boot.cmrs,
        bios_version=platform.bios_version if platform else boot.bios_version,
        memory_total=platform.memory_total if platform else boot.memory_total,
        map_digest=map_digest(assessment) or boot.map_digest,
        headroom=tuple(headroom.items()) or boot.headroom,
        tdx=max(
            (seen for seen in (boot.tdx, tdx_seen(facts)) if seen), key=list(TdxSeen).index, default=None
        ),
        settled=boot.settled or _has_settled(platform, now),
        record=with_plans(of_facts(facts, RecordFrom.AGENT, boot.boot_id), assessment),
    )


def _has_settled(platform: Platform | None, now: float) -> bool:
    return platform is not None and platform.boot_time is not None and now >= platform.boot_time + SETTLED


def map_digest(assessment: Assessment) -> str | None:
    """A digest of the memory that TDMRs are made from, which reveals none of it.

    Where it is split does not count: memblock splits at more places than other sources. Before the colon is
    what digests have to have in common to be compared.
    """
    facts = assessment.facts
    if facts.memory_regions is None:
        return None
    known = facts.memory_source
    # Exact sources show one and the same memory; others differ from it without any change.
    source = "given" if known is None else "kernel" if known.exact else known
    text = json.dumps(subtract(page_round((r.start, r.end) for r in facts.memory_regions), [(0, MIB)]))
    return f"{source}:{hashlib.sha256(text.encode()).hexdigest()}"
