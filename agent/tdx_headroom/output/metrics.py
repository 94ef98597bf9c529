# SPDX-License-Identifier: Apache-2.0
"""The metrics: what an assessment gives for each family.

Unknown values are absent; a state set or a counter that is known in advance is exported with 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom import __version__
from tdx_headroom.errors import one_line
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.output.concern_metrics import concern_samples
from tdx_headroom.output.metric_families import ALL, collector_of_sample, families
from tdx_headroom.output.next_boot_metrics import coming_state, next_boot_samples
from tdx_headroom.plan import AreaKind, Strategy
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.sources.registry import SOURCES
from tdx_headroom.verdict import State
from tdx_headroom.verdict.concerns import not_convertible_bytes
from tdx_headroom.verdict.model import FORETOLD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from tdx_headroom.output.metric_families import Collector, Sample
    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.firmware_steps import FirmwareStep

STEP_IS_NEW = 7 * 86400.0
"""Seconds for which an update of the firmware is news: a weekend is over by then, and a rollout is not."""


Labels = tuple[tuple[str, ...], ...]
"""Values of the labels of several series."""

_REQUIRED = frozenset(source.name for source in SOURCES if source.required)


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """How the agent itself is doing; times in seconds since the epoch, durations in seconds."""

    assessed_at: float
    duration: float
    stale: bool = False
    read_at: tuple[tuple[str, float], ...] = ()
    records_lost: int = 0
    records_untrusted: int = 0
    map_changed: bool | None = None
    tdx_gone: bool | None = None
    state_written: bool | None = None
    last_boot_headroom: tuple[tuple[str, int], ...] = ()
    recorded_boots: int | None = None
    recorded_headroom: tuple[tuple[str, int, int], ...] = ()
    """Strategy, and reserved areas left in the boot that had the fewest and in that which had the most."""
    firmware_step: FirmwareStep | None = None
    failures: Labels = ()
    """Why TDX has failed in this boot so far, be it over or not."""
    missed: Labels = ()
    """Sources that could not be read so far, be they readable now or not."""


def stale(status: AgentStatus) -> AgentStatus:
    """The same, after an attempt to assess that failed."""
    return replace(status, stale=True)


def collect(
    assessment: Assessment | None, status: AgentStatus | None, wanted: frozenset[Collector] = ALL
) -> list[Metric]:
    """The families that have samples, in the table's order.

    Args:
        assessment: of the host; None: there is none yet.
        status: of the agent; None: nothing is exported of it.
        wanted: which series.
    """
    own = None if assessment is None or not _is_tdx(assessment) else assessment.verdict.strategy
    return families(s for s in _samples(assessment, status) if collector_of_sample(s, own) in wanted)


def _samples(assessment: Assessment | None, status: AgentStatus | None) -> list[Sample]:
    samples: list[Sample] = [("tdx_headroom_build_info", (__version__,), 1)]
    if assessment is None:
        # An agent that has never been able to look at its host has nothing new to show either.
        samples.append(("tdx_headroom_assessment_stale", (), 1))
        return samples
    samples += _host_samples(assessment)
    samples += _source_samples(assessment)
    for strategy, plan in assessment.plans.items():
        if plan is not None:
            samples += _plan_samples(strategy, plan, tdx=_is_tdx(assessment))
    failures, missed = (status.failures, status.missed) if status is not None else ((), ())
    samples += _over_or_not("tdx_init_failure_info", failures_of(assessment), failures)
    samples += _over_or_not("tdx_headroom_source_missing", missing_sources(assessment), missed)
    if status is not None:
        samples += _status_samples(status)
        samples += _history_samples(assessment, status)
    return samples


def _over_or_not(name: str, now: Labels, before: Labels) -> Iterator[Sample]:
    """1 on what is, and 0 on what was: an alert of it ends with the next scrape, not when it is forgotten."""
    for labels in dict.fromkeys((*before, *now)):
        yield (name, labels, int(labels in now))


def failures_of(assessment: Assessment) -> Labels:
    """Why TDX has failed in this boot, where it has."""
    log = assessment.facts.kernel_log
    if log is None or assessment.verdict.state is not State.FAILED:
        return ()
    return ((str(log.reason or "unknown"), "" if log.errno is None else str(log.errno)),)


def missing_sources(assessment: Assessment) -> Labels:
    """Those without which the prediction for a TDX host rests on less."""
    if not _is_tdx(assessment):
        return ()
    failing = {source.source for source in assessment.facts.sources if not source.ok}
    # Of the two that show memory as it is now, one is enough.
    alone = {MemorySource.IOMEM} if MemorySource.MEMBLOCK in failing else set()
    return tuple((name,) for name in sorted(failing & (_REQUIRED | alone)))


def _is_tdx(assessment: Assessment) -> bool:
    return assessment.verdict.state is not State.NOT_TDX


def _plan_samples(strategy: Strategy, plan: Plan, *, tdx: bool) -> Iterator[Sample]:
    for tdmr in plan.tdmrs:
        if tdmr.headroom is None or tdmr.needed_holes is None or tdmr.needed_pamts is None:
            continue
        bounds = tdmr_label(tdmr)
        yield ("tdx_tdmr_reserved_areas", (strategy, bounds, AreaKind.HOLE), tdmr.needed_holes)
        yield ("tdx_tdmr_reserved_areas", (strategy, bounds, AreaKind.PAMT), tdmr.needed_pamts)
        yield ("tdx_tdmr_reserved_areas_headroom", (strategy, bounds), tdmr.headroom)
    if plan.headroom is not None:
        yield ("tdx_reserved_areas_headroom_min", (strategy,), plan.headroom)
        if plan.headroom_worst is not None:
            yield ("tdx_reserved_areas_headroom_worst_case", (strategy,), plan.headroom_worst)
        yield ("tdx_pamt_bytes", (strategy,), plan.pamt_bytes)
    yield ("tdx_tdmrs", (strategy,), plan.tdmrs_needed)
    if tdx:
        yield ("tdx_init_predicted", (strategy, plan.outcome), 1)


def tdmr_label(tdmr: Tdmr) -> str:
    """The TDMR's bounds, as in the kernel's messages: ``0x0-0x80000000``."""
    return f"0x{tdmr.base:x}-0x{tdmr.end:x}"


def _host_samples(assessment: Assessment) -> Iterator[Sample]:
    facts = assessment.facts
    yield ("tdx_tdmr_reserved_areas_limit", (), facts.limits.max_reserved_per_tdmr)
    yield ("tdx_tdmrs_limit", (), facts.limits.max_tdmrs)
    platform = facts.platform
    cpu_model = platform.cpu_model if platform else None
    bios = platform.bios_version if platform else None
    verdict = str(coming_state(assessment) or "")
    yield ("tdx_host_info", (_text(facts.kernel_release), _text(cpu_model), _text(bios), verdict), 1)
    if platform is not None and platform.boot_time is not None:
        yield ("tdx_boot_time_seconds", (), platform.boot_time)
    if facts.memory_regions is not None:
        regions = tdx_memory_list(facts.memory_regions)
        yield ("tdx_memory_regions", (), len(regions))
        yield ("tdx_memory_bytes", (), sum(r.end - r.start for r in regions))
    if facts.offline is not None:
        yield ("tdx_memory_offline_bytes", (), sum(r.size for r in facts.offline))
    if facts.cmrs is not None:
        sizes = [size for _, size in facts.cmrs if size]
        yield ("tdx_cmrs", (), len(sizes))
        yield ("tdx_cmr_bytes", (), sum(sizes))
    outside = not_convertible_bytes(assessment)
    if _is_tdx(assessment) and outside is not None:
        yield ("tdx_memory_not_convertible_bytes", (), outside)
    yield from _log_samples(assessment)
    yield from _verdict_samples(assessment)


def _verdict_samples(assessment: Assessment) -> Iterator[Sample]:
    verdict = assessment.verdict
    for state in State:
        yield ("tdx_verdict", (state,), int(state is verdict.state))
    if verdict.next_boot is not None:
        for state in FORETOLD:
            yield ("tdx_next_init", (state,), int(state is verdict.next_boot))
    if _is_tdx(assessment):
        yield from concern_samples(assessment)
        yield from next_boot_samples(assessment)
        yield from _firmware_samples(assessment)
    if assessment.facts.memory_regions is not None or verdict.state is not State.NOT_TDX:
        yield ("tdx_kernel_strategy", (verdict.strategy, verdict.finding.basis), 1)
    if verdict.cross_check.matches is not None:
        yield ("tdx_plan_matches_kernel", (), int(verdict.cross_check.matches))


def _firmware_samples(assessment: Assessment) -> Iterator[Sample]:
    plan, platform = assessment.plans[assessment.verdict.strategy], assessment.facts.platform
    if plan is not None and plan.headroom is not None and platform is not None:
        labels = (_text(platform.bios_version), _text(platform.cpu_model))
        yield ("tdx_firmware_reserved_areas_headroom_min", labels, plan.headroom)


def _log_samples(assessment: Assessment) -> Iterator[Sample]:
    log = assessment.facts.kernel_log
    yield ("tdx_module_state", (log.state if log is not None else ModuleState.UNKNOWN,), 1)
    if log is None:
        return
    if log.module_version is not None:
        yield ("tdx_module_info", (_text(log.module_version), _text(log.module_build)), 1)
    if log.keyids is not None:
        yield ("tdx_private_keyids", (), log.keyids[1] - log.keyids[0])
    if log.pamt_kib is not None:
        yield ("tdx_pamt_allocated_bytes", (), log.pamt_kib * 1024)


def _source_samples(assessment: Assessment) -> Iterator[Sample]:
    facts = assessment.facts
    for source in facts.sources:
        yield ("tdx_headroom_source_success", (source.source,), int(source.ok))
    chosen = facts.memory_source
    if chosen is None:
        return
    differing = {d.b for d in facts.disagreements}
    readable = {source.source for source in facts.sources if source.ok}
    for other in MemorySource:
        if other in readable and other != chosen:
            yield ("tdx_headroom_sources_disagree", (chosen, other), int(other in differing))


def _status_samples(status: AgentStatus) -> Sequence[Sample]:
    changed: list[Sample] = []
    if status.tdx_gone is not None:
        changed.append(("tdx_gone_since_last_boot", (), int(status.tdx_gone)))
    if status.state_written is not None:
        changed.append(("tdx_headroom_state_write_success", (), int(status.state_written)))
    if status.recorded_boots is not None:
        changed.append(("tdx_recorded_boots", (), status.recorded_boots))
    for strategy, least, most in status.recorded_headroom:
        changed.append(("tdx_recorded_reserved_areas_headroom_min", (strategy,), least))
        changed.append(("tdx_recorded_reserved_areas_headroom_max", (strategy,), most))
    return [
        *changed,
        ("tdx_headroom_assessment_timestamp_seconds", (), status.assessed_at),
        ("tdx_headroom_assessment_duration_seconds", (), status.duration),
        ("tdx_headroom_assessment_stale", (), int(status.stale)),
        ("tdx_headroom_kernel_log_records_lost_total", (), status.records_lost),
        ("tdx_headroom_kernel_log_untrusted_records_total", (), status.records_untrusted),
        *(("tdx_headroom_source_read_timestamp_seconds", (name,), at) for name, at in status.read_at),
    ]


def _history_samples(assessment: Assessment, status: AgentStatus) -> Iterator[Sample]:
    """What boots have in common, or not, of a TDX host."""
    log = assessment.facts.kernel_log
    unknown = _is_tdx(assessment) and (log is None or log.state is ModuleState.UNKNOWN)
    yield ("tdx_headroom_kernel_log_records_missing", (), status.records_lost if unknown else 0)
    if not _is_tdx(assessment):
        return
    if status.map_changed is not None:
        yield ("tdx_memory_map_changed", (), int(status.map_changed))
    for strategy, left in status.last_boot_headroom:
        yield ("tdx_reserved_areas_headroom_min_last_boot", (strategy,), left)
        if strategy == assessment.verdict.strategy:
            yield ("tdx_reserved_areas_headroom_min_own_kernel_last_boot", (), left)
    if status.firmware_step is not None:
        yield from _firmware_step_samples(status.firmware_step, status.assessed_at)


def _firmware_step_samples(step: FirmwareStep, now: float) -> Iterator[Sample]:
    versions = (_text(step.before), _text(step.after))
    yield ("tdx_firmware_step_reserved_areas", versions, step.areas)
    # Exported for a while only: an alert that selects it ends by itself, and needs no other series for that.
    if step.began is not None and abs(now - step.began) < STEP_IS_NEW:
        yield ("tdx_firmware_took_reserved_areas", versions, step.took)


def _text(value: str | None) -> str:
    """A label value from outside: one line, and empty where it is unknown."""
    return "" if value is None else one_line(value, 120)
