# SPDX-License-Identifier: Apache-2.0
"""The dashboard of one host. It needs no recording rules."""

from __future__ import annotations

from tests.grafana.panels import (
    HEADROOM,
    NEUTRAL,
    Json,
    Query,
    Row,
    bars,
    dashboard,
    data_source_variable,
    graph,
    label_variable,
    stat,
    table,
    thresholds,
)

HOST = 'job=~"$job",instance=~"$instance"'
ANY_JOB = 'instance=~"$instance"'
"""Series that may come from a job of their own, which asks for them: docs/prometheus.md."""


def _names(metric: str) -> str:
    return f"{metric}{{{HOST}}} == 1"


VERDICT = (
    stat(
        "Verdict",
        "What TDX did in this boot, or will do.",
        _names("tdx_verdict"),
        legend="{{verdict}}",
        width=4,
    ),
    stat(
        "Next boot",
        "With the kernel and command line that are staged. Empty on a host without TDX.",
        _names("tdx_next_boot"),
        legend="{{verdict}}",
        width=4,
    ),
    stat("Module state", "As the log tells.", _names("tdx_module_state"), legend="{{state}}", width=4),
    stat(
        "This kernel's strategy",
        "How it looks for holes, and how that is known.",
        _names("tdx_kernel_strategy"),
        legend="{{strategy}} ({{evidence}})",
        width=4,
    ),
    stat(
        "Headroom under mainline",
        "Reserved areas left in the fullest TDMR under memory-regions; negative: TDX fails.",
        f'tdx_reserved_areas_headroom_min{{{HOST},strategy="memory-regions"}}',
        colours=HEADROOM,
        width=4,
    ),
    stat(
        "Plan agrees with the kernel",
        "1: what is recomputed is what the kernel logged. Empty where it logged nothing.",
        f"tdx_plan_matches_kernel{{{HOST}}}",
        colours=thresholds((1, "green"), base="red"),
        width=4,
    ),
)

NEXT_BOOT = (
    stat(
        "Another boot is staged",
        "1: another kernel or command line than the running one boots next. Empty where that is unknown.",
        f"tdx_next_boot_pending{{{HOST}}}",
        colours=NEUTRAL,
        width=4,
    ),
    stat(
        "The running kernel again",
        "What the next initialization does with this boot's kernel, command line and memory map.",
        _names("tdx_next_init"),
        legend="{{verdict}}",
        width=4,
    ),
    table(
        "What boots next",
        "The kernel, and the files that tell it. Empty where it cannot be told.",
        Query(f"tdx_next_boot_info{{{HOST}}}"),
        columns=("kernel_release", "loader", "role", "known_from"),
        value="next",
        width=16,
    ),
    table(
        "Installed kernels",
        "What TDX does under each, in the worst of its boot entries.",
        Query(f"tdx_boot_verdict{{{HOST}}}"),
        columns=("kernel_release", "verdict"),
        value="boot",
    ),
    table(
        "Headroom of installed kernels",
        "Reserved areas left in the fullest TDMR, in the same boot entry.",
        Query(f"tdx_boot_reserved_areas_headroom_min{{{HOST}}}"),
        columns=("kernel_release",),
        value="headroom",
        colours=HEADROOM,
        width=6,
    ),
    table(
        "Findings",
        "What decides about the next boot.",
        Query(f"tdx_finding{{{HOST}}}"),
        columns=("kind", "severity"),
        value="finding",
        width=6,
    ),
)

TDMRS = (
    bars(
        "Reserved areas by TDMR",
        "What each TDMR needs under the strategy chosen above; more than 16 do not fit.",
        Query(f'sum by (tdmr) (tdx_tdmr_reserved_areas{{{ANY_JOB},strategy="$strategy"}})', "{{tdmr}}"),
        colours=thresholds((14, "orange"), (17, "red"), base="green"),
        limits=(0, 20),
    ),
    table(
        "TDMRs",
        "Reserved areas left in each TDMR; under other strategies than the kernel's where they are scraped.",
        Query(f"tdx_tdmr_reserved_areas_headroom{{{ANY_JOB}}}"),
        columns=("strategy", "tdmr"),
        value="headroom",
        colours=HEADROOM,
    ),
    graph(
        "Headroom of the fullest TDMR",
        "Where PAMTs are predicted to land; worst: if all came together; last boot: what it was before.",
        Query(f"tdx_reserved_areas_headroom_min{{{HOST}}}", "{{strategy}}"),
        Query(f"tdx_reserved_areas_headroom_worst_case_own_kernel{{{HOST}}}", "own kernel, worst"),
        Query(f"tdx_reserved_areas_headroom_min_own_kernel_last_boot{{{HOST}}}", "own kernel, last boot"),
    ),
    table(
        "How an initialization ends",
        "The predicted outcome under every strategy.",
        Query(f"tdx_init_predicted{{{HOST}}} == 1"),
        columns=("strategy", "outcome"),
        value="predicted",
    ),
)

MEMORY = (
    graph(
        "Memory",
        "Memory regions, and what of them no CMR covers or is offline.",
        Query(f"tdx_memory_bytes{{{HOST}}}", "memory regions"),
        Query(f"tdx_cmr_bytes{{{HOST}}}", "CMRs"),
        Query(f"tdx_memory_not_convertible_bytes{{{HOST}}}", "not convertible"),
        Query(f"tdx_memory_offline_bytes{{{HOST}}}", "offline"),
        unit="bytes",
    ),
    graph(
        "PAMT",
        "Memory that TDX takes for its own tables: recomputed, and as the kernel logged it.",
        Query(f"tdx_pamt_bytes{{{ANY_JOB}}}", "{{strategy}}"),
        Query(f"tdx_pamt_allocated_bytes{{{HOST}}}", "allocated"),
        unit="bytes",
    ),
    graph(
        "Counts",
        "Memory regions, CMRs, TDMRs and private KeyIDs.",
        Query(f"tdx_memory_regions{{{HOST}}}", "memory regions"),
        Query(f"tdx_cmrs{{{HOST}}}", "CMRs"),
        Query(f"tdx_tdmrs_limit{{{HOST}}} - tdx_tdmrs_headroom{{{HOST}}}", "TDMRs"),
        Query(f"tdx_private_keyids{{{HOST}}}", "private KeyIDs"),
    ),
    table(
        "Host",
        "Kernel, processor, firmware.",
        Query(f"tdx_host_info{{{HOST}}}"),
        columns=("kernel_release", "cpu_model", "bios_version"),
        value="host",
    ),
    table(
        "TDX module",
        "As the kernel named it; empty on kernels that do not.",
        Query(f"tdx_module_info{{{HOST}}}"),
        columns=("version", "build"),
        value="module",
    ),
    table(
        "Failure",
        "Why TDX failed in this boot; empty where it did not.",
        Query(f"tdx_init_failure_info{{{HOST}}} == 1"),
        columns=("reason", "errno"),
        value="failed",
    ),
)

AGENT = (
    table(
        "Sources",
        "1: could be read.",
        Query(f"tdx_headroom_source_success{{{HOST}}}"),
        columns=("source",),
        value="read",
        colours=thresholds((1, "green"), base="red"),
        width=6,
    ),
    table(
        "Sources that show other memory",
        "1: differs from the one in use, as after a memmap= or when memory was added. Where it is scraped.",
        Query(f"tdx_headroom_sources_disagree{{{ANY_JOB}}}"),
        columns=("a", "b"),
        value="differs",
        width=6,
    ),
    graph(
        "Age of the assessment",
        "Seconds since the host was last assessed.",
        Query(f"time() - tdx_headroom_assessment_timestamp_seconds{{{HOST}}}", "age"),
        width=6,
        unit="s",
    ),
    graph(
        "Kernel log",
        "Records that were overwritten before they could be read, and records that were forged.",
        Query(f"tdx_headroom_kernel_log_records_lost_total{{{HOST}}}", "lost"),
        Query(f"tdx_headroom_kernel_log_untrusted_records_total{{{HOST}}}", "untrusted"),
        width=6,
    ),
    graph(
        "The agent's memory",
        "Not with the textfile collector.",
        Query(f"process_resident_memory_bytes{{{HOST}}}", "resident"),
        unit="bytes",
    ),
    graph(
        "Requests",
        "By HTTP status. Where it is scraped; not with the textfile collector.",
        Query(f"rate(tdx_headroom_http_requests_total{{{ANY_JOB}}}[$__rate_interval])", "{{code}}"),
        unit="reqps",
    ),
)

ROWS = (
    Row("Verdict", VERDICT),
    Row("Next boot", NEXT_BOOT),
    Row("TDMRs", TDMRS),
    Row("Memory and module", MEMORY),
    Row("Agent", AGENT),
)

SINGLE: Json = dashboard(
    "tdx-headroom-host",
    "TDX headroom: host",
    "Intel TDX on one host: verdict, every TDMR with its headroom, memory, and what the agent could read.",
    [
        data_source_variable(),
        label_variable("job", "Job", "label_values(tdx_headroom_build_info, job)", several=True),
        label_variable(
            "instance", "Host", 'label_values(tdx_headroom_build_info{job=~"$job"}, instance)', several=False
        ),
        label_variable(
            "strategy",
            "Strategy",
            'label_values(tdx_tdmrs{instance=~"$instance"}, strategy)',
            several=False,
        ),
    ],
    ROWS,
    [
        {
            "title": "Fleet",
            "type": "link",
            "url": "/d/tdx-headroom-fleet",
            "icon": "dashboard",
            "keepTime": True,
            "targetBlank": False,
            "includeVars": False,
            "asDropdown": False,
            "tags": [],
            "tooltip": "",
        }
    ],
)
