# SPDX-License-Identifier: Apache-2.0
"""The current view of the host: a refresh swaps it, a scrape renders it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_record import RecordFrom
from tdx_headroom.host.choose import read_facts
from tdx_headroom.output import metrics
from tdx_headroom.output.metric_families import ALL
from tdx_headroom.service.state import BootState, State, map_changed, remember
from tdx_headroom.service.state_writer import StateWriter
from tdx_headroom.verdict import State as VerdictState
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.boots import why_none_comes
from tdx_headroom.verdict.firmware_steps import newest_firmware_step
from tdx_headroom.verdict.history import headroom_range, holes_before, of_facts, with_plans
from tdx_headroom.verdict.signs import tdx_gone
from tdx_headroom.verdict.what_if import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.observations import TdxSeen
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.output.metric_families import Collector
    from tdx_headroom.service.live_log import LiveLog
    from tdx_headroom.service.state_file import StateFile
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.what_if import WhatIf


MAX_REMEMBERED = 8
"""Things that are over, of one kind, that have series of their own."""


def _newest(known: metrics.Labels, now: metrics.Labels) -> metrics.Labels:
    """What was, and what is, as far as it is remembered."""
    before = [labels for labels in known if labels not in now]
    return (*before, *now)[-MAX_REMEMBERED:]


def _next_boot(assessment: Assessment) -> dict[str, str]:
    """What comes next, for the log; nothing where nobody has looked, or there is no TDX to lose."""
    if assessment.boots is None or assessment.verdict.state is VerdictState.NOT_TDX:
        return {}
    coming = assessment.coming
    if coming is None:
        return {"verdict": str(VerdictState.CANNOT_TELL), "unknown": why_none_comes(assessment.facts)}
    entry = coming.entry
    return {
        "verdict": str(coming.state),
        "kernel_release": entry.release or "",
        "entry": entry.entry or "",
        "known_from": entry.known_from,
    }


class Agent:
    """Reads the host when told to, and holds what came out.

    Args:
        root: of the host.
        what_if: the operator's word on the kernel's strategy.
        live: the kernel's log, where it is followed.
        state: what is known of this boot and the one before.
        state_file: where to keep that.
        boots: tells of boot entries; None: nobody looks for them.
    """

    def __init__(
        self,
        root: HostFiles,
        what_if: WhatIf = UNCHANGED,
        *,
        live: LiveLog | None = None,
        state: State | None = None,
        state_file: StateFile | None = None,
        boots: BootSource | None = None,
    ) -> None:
        self._root = root
        self._what_if = what_if
        self._live = live
        self._boots = boots
        self._state = state or State()
        self._writer = StateWriter(state_file)
        self.assessment: Assessment | None = None
        self._status: metrics.AgentStatus | None = None
        self._failing: frozenset[str] | None = None
        self.version = 0

    @property
    def state(self) -> State:
        """What is known of this boot and those before it, to be kept."""
        return self._state

    @property
    def stale(self) -> bool:
        """Whether a later attempt to assess has failed."""
        return self._status is not None and self._status.stale

    @property
    def assessed_at(self) -> float | None:
        """When the host was last read with success, in seconds since the epoch."""
        return self._status.assessed_at if self._status is not None else None

    @property
    def records(self) -> tuple[BootRecord, ...]:
        """What is known of the boots before this one, and of this one."""
        if self.assessment is None:
            return self._state.history
        facts = self.assessment.facts
        return (*self._history(facts), with_plans(of_facts(facts, RecordFrom.AGENT), self.assessment))

    @property
    def status(self) -> str:
        """The verdict in a line."""
        if self.assessment is None:
            return "not assessed yet"
        verdict = self.assessment.verdict
        return one_line(f"{verdict.state}: {verdict.summary}", 200)

    def refresh(self) -> None:
        """Read the host and assess it; on failure the last good assessment stays, marked stale."""
        began = time.perf_counter()
        try:
            assessment = self._assess()
        except Exception as error:  # noqa: BLE001  whatever it is, what was known must keep being served
            log.failure("assessment failed, the last one stays", error)
            if self._status is not None:
                self._status = metrics.stale(self._status)
                self.version += 1
            return
        last = self.assessment
        changed = last is None or last.verdict != assessment.verdict
        self.assessment = assessment
        self._keep(assessment, urgent=changed)
        self._status = self._measure(assessment, time.perf_counter() - began)
        self.version += 1
        self._report(assessment, changed=changed)
        told = _next_boot(assessment)
        if told and (last is None or _next_boot(last) != told):
            bad = told["verdict"] == VerdictState.WILL_FAIL
            (log.get().warning if bad else log.get().info)("next boot", **told)

    def _assess(self) -> Assessment:
        kernel_log = None
        if self._live is not None:
            self._live.refresh()
            kernel_log = self._live.snapshot()
        facts = read_facts(self._root, kernel_log, self._state.last_cmrs, self._boots)
        before = holes_before(self._history(facts), of_facts(facts, RecordFrom.AGENT))
        return assess(replace(facts, tdx_before=self._state.tdx_before, holes_before=before), self._what_if)

    def _history(self, facts: HostFacts) -> tuple[BootRecord, ...]:
        """The boots before the one that is read: the state may still be that of the boot before."""
        boot_id = None if facts.platform is None else facts.platform.boot_id
        return self._state.history if boot_id is None else self._state.for_boot(boot_id).history

    def collect(self, wanted: frozenset[Collector] = ALL) -> Iterable[Metric]:
        """For prometheus_client: the current view as metrics."""
        return metrics.collect(self.assessment, self._status, wanted)

    def _measure(self, assessment: Assessment, duration: float) -> metrics.AgentStatus:
        previous = self._status
        now = time.time()
        read_at = dict(previous.read_at) if previous else {}
        read_at |= {source.source: now for source in assessment.facts.sources if source.ok}
        log_health = assessment.facts.log_health
        before, current = self._state.previous, self._state.current
        records = self.records
        return metrics.AgentStatus(
            assessed_at=now,
            duration=duration,
            read_at=tuple(read_at.items()),
            records_lost=max(previous.records_lost if previous else 0, log_health.lost if log_health else 0),
            records_untrusted=max(
                previous.records_untrusted if previous else 0, log_health.untrusted if log_health else 0
            ),
            map_changed=map_changed(before, current),
            tdx_gone=tdx_gone(self._state.tdx_before, current.tdx if current else None),
            last_boot_headroom=before.headroom if before else (),
            recorded_boots=len(records) or None,
            recorded_headroom=headroom_range(records),
            firmware_step=newest_firmware_step(records),
            failures=_newest(previous.failures if previous else (), metrics.failures_of(assessment)),
            missed=_newest(previous.missed if previous else (), metrics.missing_sources(assessment)),
            state_written=self._writer.success,
        )

    @property
    def seconds_until_write(self) -> float | None:
        """Until :meth:`write_state` should be called; None when the state is written."""
        return self._writer.seconds_left

    def write_state(self) -> None:
        """Write what waits to be kept."""
        self._writer.write()
        if self._status is not None and self._status.state_written != self._writer.success:
            self._status = replace(self._status, state_written=self._writer.success)
            self.version += 1

    def had_boots(self, records: Iterable[BootRecord]) -> None:
        """Take note of boots before this one."""
        self._state = self._state.with_history(records)
        self.refresh()

    def had_tdx(self, seen: TdxSeen | None) -> None:
        """Take note of what was shown of TDX before this boot, if that is known."""
        if seen is not None:
            self._state = replace(self._state, tdx_before=seen)
            self.refresh()

    def forget(self, problem: str) -> None:
        """Drop the state that was kept before, since it cannot be true."""
        problem = f"{problem}; the file {self._writer.set_aside()}"
        log.get().error("the state kept before cannot be used", problem=problem)
        current = self._state.current
        boot = None if current is None else BootState(current.boot_id)
        # The marks are those of this machine: they were read at the start.
        self._state = State(boot, machine=self._state.machine)

    def _keep(self, assessment: Assessment, *, urgent: bool) -> None:
        """Keep what this boot has told, for after a restart or a reboot."""
        platform = assessment.facts.platform
        if platform is None or platform.boot_id is None:
            return
        state = self._state.for_boot(platform.boot_id)
        boot = remember(state.current or BootState(platform.boot_id), assessment, time.time())
        if self._live is not None:
            boot = boot.with_log(self._live.book.records, self._live.book.last_seq)
        self._state = replace(state, current=boot)
        self._writer.keep(self._state, urgent=urgent)

    def close(self) -> None:
        """Keep how far the log has been read, so that the next start counts none of it as lost.

        But not if its first reading was cut short: the next start would not complete it from the journal.
        """
        boot = self._state.current
        if self.assessment is None:
            return
        if boot is not None and self._live is not None:
            boot = boot.with_log(self._live.book.records, self._live.book.last_seq, exact=True)
            self._state = replace(self._state, current=boot)
            self._writer.keep(self._state)
        self._writer.write()

    def _report(self, assessment: Assessment, *, changed: bool) -> None:
        """Log what could and could not be read, and the verdict, when either has changed."""
        facts = assessment.facts
        failing = frozenset(source.error or "" for source in facts.sources if not source.ok)
        if failing != self._failing:
            self._failing = failing
            for source in facts.sources:
                if source.ok:
                    log.get().info("source read", source=source.source, origin=source.origin)
                else:
                    log.get().warning("source failed", source=source.source, error=source.error)
        verdict = assessment.verdict
        for failure in verdict.failures:
            log.failure_at("a part of the verdict failed", failure.place, failure.error, part=failure.part)
        if changed:
            bad = verdict.state in (VerdictState.FAILED, VerdictState.WILL_FAIL)
            say = log.get().warning if bad else log.get().info
            say("verdict", state=str(verdict.state), strategy=str(verdict.strategy), summary=verdict.summary)
