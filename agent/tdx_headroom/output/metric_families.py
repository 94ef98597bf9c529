# SPDX-License-Identifier: Apache-2.0
"""Every metric family: name, help, labels and type in one table, from which docs and man page are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COUNTER = "counter"
GAUGE = "gauge"


class Collector(StrEnum):
    """Which series are exported together; all but the first only where they are asked for."""

    DEFAULT = "default"
    STRATEGIES = "strategies"
    """What is said for the strategies of other kernels than this one."""
    SOURCES = "sources"
    """When each source was read, which of them differ, and the lists in the log that others stand in for."""
    HTTP = "http"
    """Requests and connections by how they ended."""
    PYTHON = "python"
    """The interpreter, and its garbage collector."""


DEFAULT, STRATEGIES, SOURCES, HTTP, PYTHON = Collector
ALL = frozenset(Collector)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: name, help, label names, type, and with which others it is exported."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: str = GAUGE
    collector: Collector = Collector.DEFAULT


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
        collector=STRATEGIES,
    ),
    Family(
        "tdx_reserved_areas_headroom_min_own_kernel",
        "Reserved areas left over in the fullest TDMR under the strategy of this boot's kernel.",
    ),
    Family(
        "tdx_reserved_areas_headroom_worst_case_own_kernel",
        "The same, when every PAMT that could land in a TDMR does.",
    ),
    Family(
        "tdx_kernel_strategy",
        "1 on the strategy that this kernel is taken to use, and why.",
        ("strategy", "evidence"),
    ),
    Family(
        "tdx_plan_matches_kernel",
        "Whether the recomputed PAMT and outcome are those the kernel logged; absent when it logged nothing.",
    ),
    Family("tdx_verdict", "1 on the verdict for this host.", ("verdict",)),
    Family(
        "tdx_verdict_unknown",
        "Whether it cannot be told if TDX comes up, though something shows that the host is meant for it.",
    ),
    Family(
        "tdx_next_init",
        "1 on what the next TDX initialization does with the running kernel, command line and memory map.",
        ("verdict",),
    ),
    Family(
        "tdx_next_init_concern",
        "1 on what may keep that initialization from going well; 0 on all where another boot is staged.",
        ("concern",),
    ),
    Family(
        "tdx_mainline_kernel_fails",
        "Whether TDX comes up, as far as is known, but would not with a mainline kernel.",
    ),
    Family(
        "tdx_next_boot",
        "1 on what TDX does in the boot that comes next, with the kernel and command line that are staged.",
        ("verdict",),
    ),
    Family(
        "tdx_next_boot_info",
        "Which boot comes next, the files that tell it, and its verdict; absent when that cannot be told.",
        ("kernel_release", "loader", "role", "known_from", "verdict"),
    ),
    Family(
        "tdx_next_boot_pending",
        "Whether another kernel or command line than the running one boots next; absent when unknown.",
    ),
    Family(
        "tdx_staged_boot",
        "1 on what TDX does in the boot that comes next, where that is not what the running one does again.",
        ("verdict",),
    ),
    Family(
        "tdx_boot_verdict",
        "1 on what TDX does under an installed kernel, in the worst of its boot entries.",
        ("kernel_release", "verdict"),
    ),
    Family(
        "tdx_boot_reserved_areas_headroom_min",
        "Reserved areas left over in the fullest TDMR under an installed kernel, in the same boot entry.",
        ("kernel_release",),
    ),
    Family(
        "tdx_finding",
        "1 for each finding about the boot that comes next; docs/verdict.md lists the kinds.",
        ("kind", "severity"),
    ),
    Family("tdx_tdmrs", "TDMRs that the memory map needs.", ("strategy",)),
    Family("tdx_tdmrs_limit", "TDMRs that the TDX module takes."),
    Family("tdx_tdmrs_headroom", "TDMRs left over; negative: TDX fails to initialize."),
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
        "1 on why TDX failed to initialize in this boot, 0 once a later try succeeded; absent if it did not.",
        ("reason", "errno"),
    ),
    Family("tdx_module_info", "The TDX module that the kernel named.", ("version", "build")),
    Family(
        "tdx_host_info",
        "The host, and the verdict of the boot that comes next; that is empty on a host without TDX.",
        ("kernel_release", "cpu_model", "bios_version", "verdict"),
    ),
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
        "tdx_gone_since_last_boot",
        "Whether TDX was up in the boot before and is not tried in this one; absent when that is unknown.",
    ),
    Family(
        "tdx_reserved_areas_headroom_min_last_boot",
        "Reserved areas left over in the fullest TDMR, in the boot before.",
        ("strategy",),
        collector=STRATEGIES,
    ),
    Family(
        "tdx_reserved_areas_headroom_min_own_kernel_last_boot",
        "The same, under the strategy of this boot's kernel.",
    ),
    Family("tdx_recorded_boots", "Boots whose records the agent keeps, this one included."),
    Family(
        "tdx_recorded_reserved_areas_headroom_min",
        "Reserved areas left over in the fullest TDMR, in the recorded boot that had the fewest.",
        ("strategy",),
    ),
    Family(
        "tdx_recorded_reserved_areas_headroom_max",
        "Reserved areas left over in the fullest TDMR, in the recorded boot that had the most.",
        ("strategy",),
    ),
    Family(
        "tdx_firmware_reserved_areas_headroom_min",
        "Reserved areas left over in the fullest TDMR under this kernel, by what decides about them.",
        ("bios_version", "cpu_model"),
    ),
    Family(
        "tdx_firmware_step_reserved_areas",
        "How many more reserved areas the fullest TDMR needs since the last change of the BIOS version, from"
        " median to median; negative: fewer.",
        ("bios_version_before", "bios_version"),
    ),
    Family(
        "tdx_firmware_took_reserved_areas",
        "How many more reserved areas every boot since that change has needed than any before; for a week.",
        ("bios_version_before", "bios_version"),
    ),
    Family("tdx_memory_not_convertible_bytes", "Memory in memory regions that no CMR covers."),
    Family("tdx_headroom_source_success", "Whether a source of the host could be read.", ("source",)),
    Family(
        "tdx_headroom_source_missing",
        "1 on a source that every TDX host has and that cannot be read, 0 once it can be; absent before.",
        ("source",),
    ),
    Family(
        "tdx_headroom_source_read_timestamp_seconds",
        "When a source was last read successfully.",
        ("source",),
        collector=SOURCES,
    ),
    Family(
        "tdx_headroom_sources_disagree",
        "Whether two sources show different memory; a is the one in use.",
        ("a", "b"),
        collector=SOURCES,
    ),
    Family(
        "tdx_headroom_kernel_log_records_lost_total",
        "Kernel log records that were overwritten before they could be read.",
        kind=COUNTER,
    ),
    Family(
        "tdx_headroom_kernel_log_records_missing",
        "Records that were overwritten, where what TDX did in this boot is unknown; 0 where it is known.",
    ),
    Family(
        "tdx_headroom_kernel_log_untrusted_records_total",
        "Records that look like TDX lines but were written by user space; they are not used.",
        kind=COUNTER,
    ),
    Family("tdx_headroom_assessment_timestamp_seconds", "When the host was last assessed."),
    Family("tdx_headroom_assessment_duration_seconds", "How long the last assessment took."),
    Family(
        "tdx_headroom_assessment_stale", "1 when the last assessment failed: an older one is shown, or none."
    ),
    Family("tdx_headroom_state_write_success", "Whether what is known could be kept for after a restart."),
    Family(
        "tdx_headroom_http_requests_total",
        "Requests answered, by HTTP status.",
        ("code",),
        kind=COUNTER,
        collector=HTTP,
    ),
    Family(
        "tdx_headroom_http_auth_failures_total",
        "Requests refused because they had no valid credentials; absent without a web configuration.",
        kind=COUNTER,
    ),
    Family("tdx_headroom_http_connections", "Open connections of clients.", collector=HTTP),
    Family(
        "tdx_headroom_http_connections_dropped_total",
        "Connections that the agent closed: silent, idle, slow to read, or crowded out by others.",
        ("reason",),
        kind=COUNTER,
        collector=HTTP,
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

Sample = tuple[str, tuple[str, ...], float]
"""Family name, label values, value."""


def describe() -> Iterator[Metric]:
    """All families without samples, for the registry's check of names."""
    return (_family(family) for family in _TABLE)


ONE_EACH = ("tdx_init_predicted", "tdx_reserved_areas_headroom_min")
"""Families that say of every strategy, in one series each, what becomes of a host under it."""

_OF_FAMILY = {family.name.removesuffix("_total"): family.collector for family in _TABLE}


def collector_of(family: str) -> Collector:
    """With which others a family is exported; the process' own are none of the table."""
    python = family.startswith("python_")
    return _OF_FAMILY.get(family.removesuffix("_total"), PYTHON if python else DEFAULT)


def collector_of_sample(sample: Sample, own_strategy: str | None) -> Collector:
    """The same for a sample of this table.

    Args:
        sample: of a family.
        own_strategy: that of the running kernel; None on a host without TDX.
    """
    family, values = FAMILIES[sample[0]], sample[1]
    if family.collector is not DEFAULT:
        return family.collector
    if "strategy" in family.labels:
        others = own_strategy is None if family.name in ONE_EACH else own_strategy not in values
        return STRATEGIES if others else DEFAULT
    # The lists in the log get lost on a busy host, and others stand in for them.
    return SOURCES if "source" in family.labels and values[0].startswith("log-") else DEFAULT


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
