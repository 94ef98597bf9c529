# SPDX-License-Identifier: Apache-2.0
"""The dashboard of a whole fleet. It asks for recorded series wherever there are some, so that it scales."""

from __future__ import annotations

from tests.grafana.panels import (
    ANY_IS_A_WARNING,
    ANY_IS_BAD,
    HEADROOM,
    NEUTRAL,
    Json,
    Query,
    Row,
    bars,
    dashboard,
    data_source_variable,
    figures,
    graph,
    label_variable,
    stat,
    table,
)

JOB = 'job=~"$job"'
HOST_LINK = (
    "/d/tdx-headroom-host?var-datasource=${datasource}"
    "&var-job=${__data.fields.job}&var-instance=${__data.fields.instance}"
)
ROWS_SHOWN = 50


NUMBERS = (
    stat("Hosts", "Hosts that export metrics.", f"sum(job_version:tdx_headroom_build_info:sum{{{JOB}}})"),
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
        "Will fail at the next boot",
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
        "Mainline kernel fails",
        "TDX hosts on which a mainline kernel could not initialize TDX, whatever the kernel that runs does.",
        f'sum(job_strategy_outcome:tdx_init_predicted:sum{{{JOB},strategy="memory-regions",outcome!="ok"}})'
        " or vector(0)",
        colours=ANY_IS_A_WARNING,
    ),
    stat(
        "Cannot tell",
        "Hosts of which too little is known.",
        f'sum(job_verdict:tdx_verdict:sum{{{JOB},verdict="cannot-tell"}})',
        colours=ANY_IS_A_WARNING,
    ),
    stat(
        "Agents down",
        "Agents that cannot be scraped: of jobs that have tdx-headroom in their names, as TDXAgentDown.",
        f'sum(1 - up{{{JOB},job=~".*tdx-headroom.*"}})',
        colours=ANY_IS_A_WARNING,
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
)

CAUSES = (
    bars(
        "TDX hosts by headroom",
        "How many hosts have how many reserved areas left in their fullest TDMR, under their own kernel.",
        Query(
            f"sum by (headroom) (job_headroom:tdx_reserved_areas_headroom_min:count{{{JOB}}})",
            "{{headroom}} left",
        ),
        colours=NEUTRAL,
        limits=None,
    ),
    table(
        "Outcome by strategy",
        "How many TDX hosts would end how, under each way in which kernels look for holes.",
        Query(f"sum by (strategy, outcome) (job_strategy_outcome:tdx_init_predicted:sum{{{JOB}}}) > 0"),
        columns=("strategy", "outcome"),
        value="hosts",
    ),
    table(
        "Next boot by kernel",
        "Which kernels boot next on the hosts that will fail, or are at risk.",
        Query(
            f"sum by (kernel_release, verdict) (job_kernel_release_verdict:tdx_next_boot:sum{{{JOB}}}) > 0"
        ),
        columns=("kernel_release", "verdict"),
        value="hosts",
    ),
    table(
        "Next boot by BIOS",
        "A firmware version that breaks TDX shows here first.",
        Query(f"sum by (bios_version, verdict) (job_bios_version_verdict:tdx_next_boot:sum{{{JOB}}}) > 0"),
        columns=("bios_version", "verdict"),
        value="hosts",
    ),
)

LEFT = "job_bios_version_cpu_model:tdx_firmware_reserved_areas_headroom_min"
TAKEN = "job_bios_version_before_bios_version:tdx_firmware_step_reserved_areas"

FIRMWARE = (
    figures(
        "Areas left by BIOS and platform",
        "Reserved areas left in the fullest TDMR of TDX hosts, under their own kernel.",
        columns=("job", "cpu_model", "bios_version"),
        hosts=f"{LEFT}:count{{{JOB}}}",
        least=f"{LEFT}:min{{{JOB}}}",
        median=f"{LEFT}:median{{{JOB}}}",
        most=f"{LEFT}:max{{{JOB}}}",
    ),
    figures(
        "What BIOS updates took",
        "How many more areas hosts need since their last update, from the median of the boots before to that"
        " of those since; negative: fewer.",
        columns=("job", "bios_version_before", "bios_version"),
        hosts=f"{TAKEN}:count{{{JOB}}}",
        least=f"{TAKEN}:min{{{JOB}}}",
        median=f"{TAKEN}:median{{{JOB}}}",
        most=f"{TAKEN}:max{{{JOB}}}",
    ),
)

HOSTS = (
    table(
        "Hosts with the least headroom",
        f"The {ROWS_SHOWN} TDX hosts with the fewest reserved areas left, under their own kernel.",
        Query(f"bottomk({ROWS_SHOWN}, tdx_reserved_areas_headroom_min_own_kernel{{{JOB}}})"),
        columns=("instance", "job"),
        value="headroom",
        colours=HEADROOM,
        link=HOST_LINK,
    ),
    table(
        "Hosts with a staged boot that fails",
        "Another kernel or command line boots next, and TDX does not come up with it: do not reboot them.",
        Query(f'topk({ROWS_SHOWN}, tdx_staged_boot{{{JOB},verdict="will-fail"}} == 1)'),
        columns=("instance", "job"),
        value="fails",
        link=HOST_LINK,
    ),
    table(
        "Hosts on which TDX failed",
        "The kernel's reason, in this boot.",
        Query(f"topk({ROWS_SHOWN}, tdx_init_failure_info{{{JOB}}} == 1)"),
        columns=("instance", "job", "reason", "errno"),
        value="failed",
        link=HOST_LINK,
    ),
    table(
        "Alerts that fire",
        "How many hosts each alert is about.",
        Query('sort_desc(count by (alertname, severity) (ALERTS{alertname=~"TDX.+",alertstate="firing"}))'),
        columns=("alertname", "severity"),
        value="hosts",
    ),
    table(
        "Failures by reason",
        "Hosts on which TDX failed in this boot.",
        Query(f"sum by (reason) (job_reason:tdx_init_failure_info:sum{{{JOB}}}) > 0"),
        columns=("reason",),
        value="hosts",
        width=6,
    ),
    table(
        "Agents by version",
        "An upgrade of the agents, as it proceeds.",
        Query(f"sum by (version) (job_version:tdx_headroom_build_info:sum{{{JOB}}})"),
        columns=("version",),
        value="hosts",
        width=6,
    ),
)

FLEET: Json = dashboard(
    "tdx-headroom-fleet",
    "TDX headroom: fleet",
    "Whether Intel TDX comes up on a fleet's hosts, now and at the next boot. Needs tdx-headroom.rules.yml.",
    [
        data_source_variable(),
        label_variable("job", "Job", "label_values(tdx_headroom_build_info, job)", several=True),
    ],
    (
        Row("Now and at the next boot", NUMBERS),
        Row("Over time", TRENDS),
        Row("What they have in common", CAUSES),
        Row("Firmware", FIRMWARE),
        Row("Which hosts", HOSTS),
    ),
    [],
)
