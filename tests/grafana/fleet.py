# SPDX-License-Identifier: Apache-2.0
"""The dashboard of a whole fleet. It asks for recorded series wherever there are some, so that it scales."""

from __future__ import annotations

from tdx_headroom.plan import Strategy
from tests.grafana.board import Row, choice_variable, dashboard, data_source_variable, label_variable
from tests.grafana.colours import (
    ALERT_SEVERITIES,
    ANY_IS_A_WARNING,
    ANY_IS_BAD,
    NONE,
    UNKNOWN,
    Json,
    thresholds,
)
from tests.grafana.panels import HOST_COLUMNS, MOST_ROWS, Query, bars, graph, stat, table, worst_first

JOB = 'job=~"$job"'
LINKS = {
    "the host's dashboard": "/d/tdx-headroom-host?var-datasource=${datasource}"
    "&var-job=${__data.fields.job}&var-instance=${__data.fields.instance}"
}
ROWS_SHOWN = 50

NUMBERS = (
    stat(
        "Hosts",
        "Hosts that export metrics.",
        f"sum(job_version:tdx_headroom_build_info:sum{{{JOB}}})",
        width=2,
    ),
    stat(
        "TDX is up",
        "Hosts on which TDX is initialized.",
        f'sum(job_verdict:tdx_verdict:sum{{{JOB},verdict="initialized"}})',
    ),
    stat(
        "Failed",
        "Hosts on which TDX failed to initialize in this boot.",
        f'sum(job_verdict:tdx_verdict:sum{{{JOB},verdict="failed"}})',
        colours=ANY_IS_BAD,
    ),
    stat(
        "Next boot will fail",
        "Do not reboot these.",
        f'sum(job_verdict:tdx_next_boot:sum{{{JOB},verdict="will-fail"}})',
        colours=ANY_IS_BAD,
    ),
    stat(
        "Staged to fail",
        "Of these, hosts on which another kernel or command line than the running one boots next.",
        f'sum(job_verdict:tdx_staged_boot:sum{{{JOB},verdict="will-fail"}})',
        colours=ANY_IS_BAD,
    ),
    stat(
        "At risk",
        "It fits, with little room.",
        f'sum(job_verdict:tdx_next_boot:sum{{{JOB},verdict="at-risk"}})',
        colours=ANY_IS_A_WARNING,
    ),
    stat(
        "Target kernel fails",
        "TDX hosts on which the target kernel chosen above could not initialize TDX.",
        f'sum(job_strategy_outcome:tdx_init_predicted:sum{{{JOB},strategy="$strategy",outcome!="ok"}})'
        " or vector(0)",
        colours=ANY_IS_A_WARNING,
    ),
    stat(
        "Cannot tell",
        "Hosts of which too little is known.",
        f'sum(job_verdict:tdx_verdict:sum{{{JOB},verdict="cannot-tell"}})',
        colours=thresholds((1, UNKNOWN), base=NONE),
        width=2,
    ),
    stat(
        "Agents down",
        "Agents that cannot be scraped: of jobs that have tdx-headroom in their names, as TDXAgentDown.",
        f'sum(1 - up{{{JOB},job=~".*tdx-headroom.*"}})',
        colours=ANY_IS_A_WARNING,
        width=2,
    ),
)

# First the hosts on which TDX is up today.
BROKEN = (
    f'topk({ROWS_SHOWN}, (tdx_init_predicted{{{JOB},strategy="$strategy",outcome!="ok"}} == 1)'
    f' - on (job, instance) group_left () tdx_verdict{{{JOB},verdict="failed"}})'
)
STAGED = f'topk({ROWS_SHOWN}, tdx_staged_boot{{{JOB},verdict="will-fail"}} == 1)'


def _of(hosts: str, expr: str) -> str:
    """What is said of these hosts besides."""
    return f"{expr} and on (job, instance) {hosts}"


HOSTS = (
    table(
        "Hosts with alerts",
        f"Up to {MOST_ROWS} alerts, the worst first. Hosts link to their dashboards and their own pages.",
        worst_first(
            "ALERTS",
            f'{JOB},instance!="",alertname=~"TDX.+",alertstate="firing"',
            "severity",
            ALERT_SEVERITIES,
        ),
        columns={**HOST_COLUMNS, "alert": "alertname", "severity": "severity"},
        links={**LINKS, "its own page": "http://${__data.fields.instance}/"},
        width=12,
        none="None fires.",
    ),
    table(
        "Hosts that the target kernel breaks",
        f"Up to {ROWS_SHOWN} on which TDX fails under the strategy chosen above. Now: what it does today.",
        BROKEN,
        _of(BROKEN, f"tdx_verdict{{{JOB}}} == 1"),
        _of(BROKEN, f'tdx_reserved_areas_headroom_min{{{JOB},strategy="$strategy"}}'),
        columns={**HOST_COLUMNS, "now": "verdict", "outcome": "outcome", "left": "Value #C"},
        links=LINKS,
        width=12,
    ),
    table(
        "Hosts with a staged boot that fails",
        f"Up to {ROWS_SHOWN} on which another kernel or line boots next, and TDX fails: do not reboot.",
        STAGED,
        _of(STAGED, f"tdx_next_boot_info{{{JOB}}}"),
        columns={**HOST_COLUMNS, "kernel that boots next": "kernel_release"},
        links=LINKS,
    ),
    table(
        "Hosts on which TDX failed",
        f"Up to {ROWS_SHOWN}, with the kernel's reason in this boot.",
        f"topk({ROWS_SHOWN}, tdx_init_failure_info{{{JOB}}} == 1)",
        columns={**HOST_COLUMNS, "reason": "reason", "errno": "errno"},
        links=LINKS,
    ),
    table(
        "Hosts with the fewest areas left",
        f"The {ROWS_SHOWN} TDX hosts with the fewest reserved areas left, under their own kernel.",
        f"bottomk({ROWS_SHOWN}, tdx_reserved_areas_headroom_min_own_kernel{{{JOB}}})",
        columns={**HOST_COLUMNS, "left": "Value"},
        links=LINKS,
    ),
)

TRENDS = (
    graph(
        "Hosts by verdict",
        "What TDX did in this boot, or will do.",
        Query(f"sum by (verdict) (job_verdict:tdx_verdict:sum{{{JOB}}})", "{{verdict}}"),
        stacked=True,
    ),
    graph(
        "Hosts by what the next boot does",
        "Hosts without TDX are not among them.",
        Query(f"sum by (verdict) (job_verdict:tdx_next_boot:sum{{{JOB}}})", "{{verdict}}"),
        stacked=True,
    ),
    table(
        "Alerts that fire",
        "How many hosts each alert is about.",
        'sort_desc(count by (alertname, severity) (ALERTS{alertname=~"TDX.+",alertstate="firing"}))',
        columns={"alert": "alertname", "severity": "severity", "hosts": "Value"},
        none="None fires.",
    ),
)

CAUSES = (
    bars(
        "TDX hosts by areas left",
        "How many hosts have how many reserved areas left in their fullest TDMR, under their own kernel.",
        Query(
            f"sum by (headroom) (job_headroom:tdx_reserved_areas_headroom_min:count{{{JOB}}})",
            "{{headroom}} left",
        ),
        colours=thresholds(base=UNKNOWN),
        width=6,
    ),
    table(
        "Outcome by strategy",
        "How many TDX hosts would end how, under each way in which kernels look for holes.",
        f"sum by (strategy, outcome) (job_strategy_outcome:tdx_init_predicted:sum{{{JOB}}}) > 0",
        columns={"strategy": "strategy", "outcome": "outcome", "hosts": "Value"},
        width=6,
    ),
    table(
        "Next boot by kernel",
        "Which kernels boot next, and what becomes of TDX.",
        f"sum by (kernel_release, verdict) (job_kernel_release_verdict:tdx_next_boot:sum{{{JOB}}}) > 0",
        columns={"kernel": "kernel_release", "verdict": "verdict", "hosts": "Value"},
        width=6,
    ),
    table(
        "Next boot by BIOS",
        "A firmware version that breaks TDX shows here first.",
        f"sum by (bios_version, verdict) (job_bios_version_verdict:tdx_next_boot:sum{{{JOB}}}) > 0",
        columns={"BIOS": "bios_version", "verdict": "verdict", "hosts": "Value"},
        width=6,
    ),
)

LEFT = "job_bios_version_cpu_model:tdx_firmware_reserved_areas_headroom_min"
TAKEN = "job_bios_version_before_bios_version:tdx_firmware_step_reserved_areas"
FIGURES = ("count", "min", "median", "max")

FIRMWARE = (
    table(
        "Areas left by BIOS and platform",
        "Reserved areas left in the fullest TDMR of TDX hosts, under their own kernel.",
        *(f"{LEFT}:{figure}{{{JOB}}}" for figure in FIGURES),
        columns={
            "job": "job",
            "processor": "cpu_model",
            "BIOS": "bios_version",
            "hosts": "Value #A",
            "least left": "Value #B",
            "median": "Value #C",
            "most": "Value #D",
        },
        width=12,
    ),
    table(
        "What BIOS updates took",
        "How many more areas hosts need since their last update, from the median of the boots before to that"
        " of those since; negative: fewer.",
        *(f"{TAKEN}:{figure}{{{JOB}}}" for figure in FIGURES),
        columns={
            "job": "job",
            "BIOS before": "bios_version_before",
            "BIOS": "bios_version",
            "hosts": "Value #A",
            "least": "Value #B",
            "median": "Value #C",
            "most": "Value #D",
        },
        width=12,
        none="No update of a BIOS is recorded.",
    ),
)

OTHERS = (
    table(
        "Failures by reason",
        "Hosts on which TDX failed in this boot.",
        f"sum by (reason) (job_reason:tdx_init_failure_info:sum{{{JOB}}}) > 0",
        columns={"reason": "reason", "hosts": "Value"},
        width=12,
        height=4,
    ),
    table(
        "Agents by version",
        "An upgrade of the agents, as it proceeds.",
        f"sum by (version) (job_version:tdx_headroom_build_info:sum{{{JOB}}})",
        columns={"version": "version", "hosts": "Value"},
        width=12,
        height=4,
    ),
)

FLEET: Json = dashboard(
    "tdx-headroom-fleet",
    "TDX headroom: fleet",
    "Whether Intel TDX comes up on a fleet's hosts, now and at the next boot. Needs tdx-headroom.rules.yml.",
    [
        data_source_variable(),
        label_variable("job", "Job", "label_values(tdx_headroom_build_info, job)", several=True),
        choice_variable(
            "strategy",
            "Target kernel's strategy",
            "How the kernel that you want to move to looks for holes in TDMRs. All mainline kernels so far:"
            " memory-regions. docs/kernels.md lists others.",
            {s: f"{s} (mainline)" if s is Strategy.MEMORY_REGIONS else s for s in Strategy},
        ),
    ],
    (
        Row("", NUMBERS),
        Row("Which hosts", HOSTS),
        Row("Over time", TRENDS),
        Row("What they have in common", CAUSES),
        Row("Firmware", FIRMWARE),
        Row("Failures and agents", OTHERS),
    ),
    [],
)
