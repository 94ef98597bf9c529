# SPDX-License-Identifier: Apache-2.0
"""The metrics: one table of families, and their samples from an assessment.

Unknown values are absent; a state set or a counter that is known in advance is exported with 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tdx_headroom import __version__
from tdx_headroom.errors import one_line
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.plan import AreaKind, Outcome, Strategy
from tdx_headroom.plan.regions import tdx_memory_list
from tdx_headroom.verdict import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tdx_headroom.plan import Plan, Tdmr
    from tdx_headroom.verdict.assessment import Assessment

COUNTER = "counter"
GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: name, help, label names, type."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: str = GAUGE


_TABLE = (
    Family(
        "tdx_tdmr_reserved_areas",
        "Reserved areas that a TDMR needs, by what they are for.",
        ("strategy", "tdmr", "kind"),
    ),
    Family("tdx_tdmr_reserved_areas_limit", "Reserved areas that a TDMR may have."),
    Family(
        "tdx_tdmr_reserved_areas_headroom",
        "Reserved areas left over in a TDMR; negative: TDX fails to initialize.",
        ("strategy", "tdmr"),
    ),
    Family(
        "tdx_reserved_areas_headroom_min",
        "Reserved areas left over in the fullest TDMR; negative: TDX fails to initialize.",
        ("strategy",),
    ),
    Family(
        "tdx_reserved_areas_headroom_worst_case",
        "The same, when every PAMT that could land in a TDMR does.",
        ("strategy",),
    ),
    Family(
        "tdx_kernel_strategy",
        "1 on the strategy that this kernel is held to use, and why.",
        ("strategy", "evidence"),
    ),
    Family(
        "tdx_plan_matches_kernel",
        "Whether the recomputed PAMT and outcome are those the kernel logged; absent when it logged nothing.",
    ),
    Family("tdx_verdict", "1 on the verdict for this host.", ("verdict",)),
    Family("tdx_next_boot", "1 on what the next TDX initialization on this host will do.", ("verdict",)),
    Family(
        "tdx_finding",
        "1 for each finding about the next TDX initialization; docs/verdict.md lists the kinds.",
        ("kind", "severity"),
    ),
    Family("tdx_tdmrs", "TDMRs that the memory map needs.", ("strategy",)),
    Family("tdx_tdmrs_limit", "TDMRs that the TDX module takes."),
    Family("tdx_pamt_bytes", "Memory that all PAMTs take under the recomputed plan.", ("strategy",)),
    Family("tdx_pamt_allocated_bytes", "Memory that the kernel logged as allocated for PAMTs."),
    Family(
        "tdx_init_predicted",
        "1 on the outcome that the next TDX initialization has under a strategy.",
        ("strategy", "outcome"),
    ),
    Family("tdx_module_state", "1 on the state that TDX is in, as the kernel log tells.", ("state",)),
    Family(
        "tdx_init_failure_info",
        "Why TDX failed to initialize in this boot; absent when it did not fail.",
        ("reason", "errno"),
    ),
    Family("tdx_module_info", "The TDX module that the kernel named.", ("version", "build")),
    Family("tdx_host_info", "The host.", ("kernel_release", "cpu_model", "bios_version")),
    Family("tdx_boot_time_seconds", "When this boot began, by the host's clock."),
    Family("tdx_private_keyids", "Private KeyIDs that the BIOS has enabled."),
    Family("tdx_cmrs", "Convertible memory ranges that the TDX module reports."),
    Family("tdx_cmr_bytes", "Memory in convertible memory ranges."),
    Family("tdx_memory_regions", "Memory regions that TDMRs are made from."),
    Family("tdx_memory_bytes", "Memory in memory regions, above 1 MiB and in whole pages."),
    Family(
        "tdx_memory_offline_bytes",
        "Memory that was added since the boot and is offline: TDX refuses memory added late.",
    ),
    Family(
        "tdx_memory_map_changed",
        "Whether the memory regions differ from those of the boot before; absent when that is unknown.",
    ),
    Family(
        "tdx_reserved_areas_headroom_min_last_boot",
        "Reserved areas left over in the fullest TDMR, in the boot before.",
        ("strategy",),
    ),
    Family("tdx_memory_not_convertible_bytes", "Memory in memory regions that no CMR covers."),
    Family("tdx_headroom_source_success", "Whether a source of the host could be read.", ("source",)),
    Family(
        "tdx_headroom_source_read_timestamp_seconds",
        "When a source was last read successfully.",
        ("source",),
    ),
    Family(
        "tdx_headroom_sources_disagree",
        "Whether two sources show different memory; a is the one in use.",
        ("a", "b"),
    ),
    Family(
        "tdx_headroom_kernel_log_records_lost_total",
        "Kernel log records that were overwritten before they could be read.",
        kind=COUNTER,
    ),
    Family(
        "tdx_headroom_kernel_log_untrusted_records_total",
        "Records that look like TDX lines but were written by user space; they are not used.",
        kind=COUNTER,
    ),
    Family("tdx_headroom_assessment_timestamp_seconds", "When the host was last assessed."),
    Family("tdx_headroom_assessment_duration_seconds", "How long the last assessment took."),
    Family("tdx_headroom_assessment_stale", "1 when the last assessment failed and an older one is shown."),
    Family("tdx_headroom_state_write_success", "Whether what is known could be kept for after a restart."),
    Family("tdx_headroom_http_requests_total", "Requests answered, by HTTP status.", ("code",), kind=COUNTER),
    Family(
        "tdx_headroom_http_auth_failures_total",
        "Requests refused because they had no valid credentials.",
        kind=COUNTER,
    ),
    Family("tdx_headroom_http_connections", "Open connections of clients."),
    Family(
        "tdx_headroom_http_connections_dropped_total",
        "Connections that the agent closed: silent, idle, slow to read, or crowded out by others.",
        ("reason",),
        kind=COUNTER,
    ),
    Family(
        "tdx_headroom_web_config_reload_success",
        "Whether the web configuration could be read when it last changed; absent when there is none.",
    ),
    Family(
        "tdx_headroom_web_config_reload_failures_total",
        "Changes of the web configuration that could not be used; the one before stayed in force.",
        kind=COUNTER,
    ),
    Family("tdx_headroom_build_info", "This agent.", ("version",)),
)
FAMILIES = {family.name: family for family in _TABLE}


@dataclass(frozen=True, slots=True)
class Health:
    """How the agent itself is doing; times in seconds since the epoch, durations in seconds."""

    assessed_at: float
    duration: float
    stale: bool = False
    read_at: tuple[tuple[str, float], ...] = ()
    records_lost: int = 0
    records_untrusted: int = 0
    map_changed: bool | None = None
    state_written: bool | None = None
    last_boot_headroom: tuple[tuple[str, int], ...] = ()


def stale(health: Health) -> Health:
    """The same, after an attempt to assess that failed."""
    return replace(health, stale=True)


Sample = tuple[str, tuple[str, ...], float]
"""Family name, label values, value."""


def describe() -> Iterator[Metric]:
    """All families without samples, for the registry's check of names."""
    return (_family(family) for family in _TABLE)


def collect(assessment: Assessment | None, health: Health | None) -> list[Metric]:
    """The families that have samples, in the table's order."""
    samples: list[Sample] = [("tdx_headroom_build_info", (__version__,), 1)]
    if assessment is not None:
        samples += _host_samples(assessment)
        samples += _source_samples(assessment)
        for strategy, plan in assessment.plans.items():
            if plan is not None:
                samples += _plan_samples(strategy, plan)
    if health is not None:
        samples += _health_samples(health)
    return families(samples)


def families(samples: Iterable[Sample]) -> list[Metric]:
    """The families that these samples belong to, in the table's order."""
    found: dict[str, Metric] = {}
    for name, labels, value in samples:
        family = found.get(name)
        if family is None:
            family = found[name] = _family(FAMILIES[name])
        family.add_sample(name, dict(zip(FAMILIES[name].labels, labels, strict=True)), value)
    return [found[family.name] for family in _TABLE if family.name in found]


def _family(family: Family) -> Metric:
    if family.kind == COUNTER:
        return CounterMetricFamily(family.name, family.help, labels=family.labels)
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)


def _plan_samples(strategy: Strategy, plan: Plan) -> Iterator[Sample]:
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
    actual = plan.outcome
    for outcome in Outcome:
        yield ("tdx_init_predicted", (strategy, outcome), int(outcome is actual))


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
    yield ("tdx_host_info", (_text(facts.kernel_release), _text(cpu_model), _text(bios)), 1)
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
    mainline = assessment.plans[Strategy.MEMORY_REGIONS]
    if mainline is not None and mainline.not_convertible_bytes is not None:
        yield ("tdx_memory_not_convertible_bytes", (), mainline.not_convertible_bytes)
    yield from _log_samples(assessment)
    yield from _verdict_samples(assessment)


def _verdict_samples(assessment: Assessment) -> Iterator[Sample]:
    verdict = assessment.verdict
    for state in State:
        yield ("tdx_verdict", (state,), int(state is verdict.state))
    if verdict.next_boot is not None:
        for state in (State.WILL_INITIALIZE, State.AT_RISK, State.WILL_FAIL):
            yield ("tdx_next_boot", (state,), int(state is verdict.next_boot))
    for kind, severity in dict.fromkeys((found.kind, found.severity) for found in verdict.findings):
        yield ("tdx_finding", (kind, severity), 1)
    if assessment.facts.memory_regions is not None or verdict.state is not State.NOT_TDX:
        basis = verdict.finding.basis
        for strategy in Strategy:
            yield ("tdx_kernel_strategy", (strategy, basis), int(strategy is verdict.strategy))
    if verdict.cross_check.matches is not None:
        yield ("tdx_plan_matches_kernel", (), int(verdict.cross_check.matches))


def _log_samples(assessment: Assessment) -> Iterator[Sample]:
    log = assessment.facts.kernel_log
    state = log.state if log is not None else ModuleState.UNKNOWN
    for known in ModuleState:
        yield ("tdx_module_state", (known,), int(known is state))
    if log is None:
        return
    if log.state is ModuleState.FAILED:
        errno = "" if log.errno is None else str(log.errno)
        yield ("tdx_init_failure_info", (str(log.reason or "unknown"), errno), 1)
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


def _health_samples(health: Health) -> Sequence[Sample]:
    changed: list[Sample] = []
    if health.map_changed is not None:
        changed.append(("tdx_memory_map_changed", (), int(health.map_changed)))
    if health.state_written is not None:
        changed.append(("tdx_headroom_state_write_success", (), int(health.state_written)))
    return [
        *changed,
        *(
            ("tdx_reserved_areas_headroom_min_last_boot", (strategy,), left)
            for strategy, left in health.last_boot_headroom
        ),
        ("tdx_headroom_assessment_timestamp_seconds", (), health.assessed_at),
        ("tdx_headroom_assessment_duration_seconds", (), health.duration),
        ("tdx_headroom_assessment_stale", (), int(health.stale)),
        ("tdx_headroom_kernel_log_records_lost_total", (), health.records_lost),
        ("tdx_headroom_kernel_log_untrusted_records_total", (), health.records_untrusted),
        *(("tdx_headroom_source_read_timestamp_seconds", (name,), at) for name, at in health.read_at),
    ]


def _text(value: str | None) -> str:
    """A label value from outside: one line, and empty where it is unknown."""
    return "" if value is None else one_line(value, 120)
