# SPDX-License-Identifier: Apache-2.0
"""The dashboard of one host. It needs no recording rules."""

from __future__ import annotations

from tdx_headroom.verdict.findings import Severity
from tests.grafana.board import Row, dashboard, data_source_variable, label_variable, link
from tests.grafana.colours import (
    ALERT_SEVERITIES,
    BAD,
    GOOD,
    LIMIT,
    NEEDED,
    NONE,
    PLAIN,
    UNKNOWN,
    Json,
    headroom,
    yes_no,
)
from tests.grafana.panels import Query, bars, graph, stat, table, word, worst_first

HOST = 'job=~"$job",instance=~"$instance"'
ANY_JOB = 'instance=~"$instance"'
"""Series that may come from a job of their own, which asks for them: docs/prometheus.md."""

FULLEST = 7
"""TDMRs that are shown first, of 64 that there may be."""


def _true(metric: str) -> str:
    return f"{metric}{{{HOST}}} == 1"


STORY = (
    word("Verdict", "What TDX did in this boot, or will do.", _true("tdx_verdict"), "verdict", width=5),
    word(
        "Next boot",
        "What TDX does with the kernel and command line that are staged.",
        _true("tdx_next_boot"),
        "verdict",
        width=5,
        none="not for TDX",
    ),
    word(
        "TDX module",
        "How far it got in this boot, as the kernel's log tells.",
        _true("tdx_module_state"),
        "state",
        width=5,
        none="unknown",
    ),
    stat(
        "Areas left",
        "Reserved areas left in the fullest TDMR under this boot's kernel; negative: TDX fails.",
        f"tdx_reserved_areas_headroom_min_own_kernel{{{HOST}}}",
        colours=headroom(NONE),
    ),
    stat(
        "Another boot is staged",
        "Another kernel or command line than the running one boots next.",
        f"tdx_next_boot_pending{{{HOST}}}",
        answers=yes_no(yes=UNKNOWN, no=PLAIN),
    ),
    stat(
        "Plan agrees with kernel",
        "What is recomputed is what the kernel logged; unknown where it logged nothing.",
        f"tdx_plan_matches_kernel{{{HOST}}}",
        answers=yes_no(yes=GOOD, no=BAD),
    ),
    table(
        "This host",
        "Kernel, its strategy (how it looks for holes), processor, firmware, and the TDX module.",
        f"tdx_host_info{{{HOST}}}",
        _true("tdx_kernel_strategy"),
        f"tdx_module_info{{{HOST}}}",
        columns={
            "kernel": "kernel_release",
            "strategy": "strategy",
            "known from": "evidence",
            "processor": "cpu_model",
            "BIOS": "bios_version",
            "module": "version",
            "module's build": "build",
        },
        merge_by=("instance",),
        width=24,
        height=3,
    ),
    table(
        "What boots next",
        "The kernel, and the files that tell it.",
        f"tdx_next_boot_info{{{HOST}}}",
        columns={"kernel": "kernel_release", "loader": "loader", "role": "role", "known from": "known_from"},
        width=12,
        height=3,
        none="It cannot be told.",
    ),
    word(
        "The running kernel again",
        "What the next initialization does with this boot's kernel, command line and memory map.",
        _true("tdx_next_init"),
        "verdict",
        width=4,
        fill=False,
        none="not foretold",
    ),
    table(
        "Why TDX failed",
        "The kernel's reason, in this boot.",
        _true("tdx_init_failure_info"),
        columns={"reason": "reason", "errno": "errno"},
        height=3,
        none="It did not fail.",
    ),
    table(
        "Findings",
        "What decides about the next boot, the worst first.",
        worst_first("tdx_finding", HOST, "severity", tuple(Severity)),
        columns={"finding": "kind", "severity": "severity"},
    ),
    bars(
        "Reserved areas of the fullest TDMRs",
        f"How many each needs under this boot's kernel; more than {LIMIT} do not fit.",
        Query(
            f"topk({FULLEST}, sum by (tdmr) (tdx_tdmr_reserved_areas{{{HOST}}}"
            f" and on (job, instance, strategy) tdx_kernel_strategy{{{HOST}}} == 1))",
            "{{tdmr}}",
        ),
        colours=NEEDED,
        limits=(0, LIMIT + 4),
    ),
    table(
        "Alerts of this host",
        "Those that fire, the worst first.",
        worst_first("ALERTS", f'{HOST},alertname=~"TDX.+",alertstate="firing"', "severity", ALERT_SEVERITIES),
        columns={"alert": "alertname", "severity": "severity"},
        none="None fires.",
    ),
    table(
        "Installed kernels",
        "What TDX does under each and the reserved areas left then, in the worst of its boot entries.",
        f"tdx_boot_verdict{{{HOST}}}",
        f"tdx_boot_reserved_areas_headroom_min{{{HOST}}}",
        columns={"kernel": "kernel_release", "verdict": "verdict", "left": "Value #B"},
        height=6,
        none="Nobody has looked at them.",
    ),
    graph(
        "Areas left in the fullest TDMR",
        "Where PAMTs are predicted to land; worst: if all came together; last boot: what it was before.",
        Query(f"tdx_reserved_areas_headroom_min{{{HOST}}}", "{{strategy}}"),
        Query(f"tdx_reserved_areas_headroom_worst_case_own_kernel{{{HOST}}}", "own kernel, worst"),
        Query(f"tdx_reserved_areas_headroom_min_own_kernel_last_boot{{{HOST}}}", "own kernel, last boot"),
        height=6,
    ),
    table(
        "Outcome by strategy",
        "How an initialization ends under each way in which kernels look for holes, and the areas left then.",
        _true("tdx_init_predicted"),
        f"tdx_reserved_areas_headroom_min{{{HOST}}}",
        columns={"strategy": "strategy", "outcome": "outcome", "left": "Value #B"},
        height=6,
    ),
)

DETAILS = (
    table(
        "TDMRs",
        "Reserved areas that each needs and has left, the fullest first; of other strategies where scraped.",
        f"sort(tdx_tdmr_reserved_areas_headroom{{{ANY_JOB}}})",
        f'tdx_tdmr_reserved_areas{{{ANY_JOB},kind="hole"}}',
        f'tdx_tdmr_reserved_areas{{{ANY_JOB},kind="pamt"}}',
        columns={
            "TDMR": "tdmr",
            "strategy": "strategy",
            "holes": "Value #B",
            "PAMTs": "Value #C",
            "left": "Value #A",
        },
        width=12,
        height=8,
    ),
    graph(
        "Counts",
        "Memory regions, CMRs, TDMRs and private KeyIDs.",
        Query(f"tdx_memory_regions{{{HOST}}}", "memory regions"),
        Query(f"tdx_cmrs{{{HOST}}}", "CMRs"),
        Query(f"tdx_tdmrs_limit{{{HOST}}} - tdx_tdmrs_headroom{{{HOST}}}", "TDMRs"),
        Query(f"tdx_private_keyids{{{HOST}}}", "private KeyIDs"),
        width=12,
        height=8,
    ),
    graph(
        "Memory",
        "Memory regions, and what of them no CMR covers or is offline.",
        Query(f"tdx_memory_bytes{{{HOST}}}", "memory regions"),
        Query(f"tdx_cmr_bytes{{{HOST}}}", "CMRs"),
        Query(f"tdx_memory_not_convertible_bytes{{{HOST}}}", "not convertible"),
        Query(f"tdx_memory_offline_bytes{{{HOST}}}", "offline"),
        width=12,
        unit="bytes",
    ),
    graph(
        "PAMT",
        "Memory that TDX takes for its own tables: recomputed, and as the kernel logged it.",
        Query(f"tdx_pamt_bytes{{{ANY_JOB}}}", "{{strategy}}"),
        Query(f"tdx_pamt_allocated_bytes{{{HOST}}}", "allocated"),
        width=12,
        unit="bytes",
    ),
)

AGENT = (
    table(
        "Sources",
        "What the agent reads on the host.",
        f"tdx_headroom_source_success{{{HOST}}}",
        columns={"source": "source", "could be read": "Value"},
        width=6,
    ),
    table(
        "Sources that show other memory",
        "Whether one differs from that in use, as after a memmap= or when memory was added. Where scraped.",
        f"tdx_headroom_sources_disagree{{{ANY_JOB}}}",
        columns={"in use": "a", "other": "b", "differs": "Value"},
        width=6,
        none="Not scraped.",
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
        width=12,
        unit="bytes",
    ),
    graph(
        "Requests",
        "By HTTP status. Where it is scraped; not with the textfile collector.",
        Query(f"rate(tdx_headroom_http_requests_total{{{ANY_JOB}}}[$__rate_interval])", "{{code}}"),
        width=12,
        unit="reqps",
    ),
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
    ],
    (
        Row("", STORY),
        Row("TDMRs and memory", DETAILS),
        Row("Agent", AGENT, collapsed=True),
    ),
    [
        link("Fleet", "/d/tdx-headroom-fleet", icon="dashboard"),
        link("The host's own page", "http://${instance}/", icon="external link", new_tab=True),
    ],
)
