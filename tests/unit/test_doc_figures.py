# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  a page's sentence stays on one line, so that it can be searched for
"""Figures in README.md and docs/ that can be computed are: changed in one place alone, they fail here."""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fuzz.targets import TARGETS
from tests.integration.test_web_parity import LAXER, SAME, STRICTER
from tests.kernel.wrong import WRONG
from tests.packaging.fresh import SCORE

from tdx_headroom.boots.inventory import MAX_ENTRIES
from tdx_headroom.boots.kernels.image_marks import CPU_SECONDS, MEMORY
from tdx_headroom.boots.memory_map import KERNEL_HIGH, KERNEL_LOW
from tdx_headroom.commands.web_flags import DEFAULT_PORT
from tdx_headroom.facts.host_facts import Limits as ModuleLimits
from tdx_headroom.hostfs.files import MAX_FILE
from tdx_headroom.inputs import archive, compressed, facts_lines
from tdx_headroom.plan.tdmrs import TDMR_NR_WARN
from tdx_headroom.service.daemon import MIN_GAP
from tdx_headroom.sources.kernel_log.reader import MAX_LOG
from tdx_headroom.verdict.model import AT_RISK_HEADROOM
from tdx_headroom.web import connection
from tdx_headroom.web.settings import WebSettings

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
BOOTS = CHECKOUT / "tests/kernel/boots"
WEB = WebSettings()
LIMITS = WEB.limits
MODULE = ModuleLimits()
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def said(page: str) -> str:
    """A page's text with single blanks, so that a line may be broken anywhere."""
    return " ".join((CHECKOUT / page).read_text("utf-8").split())


def settings(unit: str) -> dict[str, str]:
    """The settings of a unit in systemd/."""
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", (CHECKOUT / "systemd" / unit).read_text()))


def sentences() -> list[tuple[str, str]]:
    """By page: what it says, with figures from the code."""
    service, timer = settings("tdx-headroom.service"), settings("tdx-headroom-textfile.timer")
    areas, tdmrs = MODULE.max_reserved_per_tdmr, MODULE.max_tdmrs
    spare = TDMR_NR_WARN
    memory = service["MemoryMax"].replace("M", " MiB")
    size = service["LimitFSIZE"].replace("M", " MiB")
    return [
        ("README.md", f"each of which may have at most {areas} reserved areas."),
        ("README.md", f"| at most {AT_RISK_HEADROOM} reserved areas are left |"),
        ("README.md", f"http://localhost:{DEFAULT_PORT}/"),
        ("docs/concepts.md", f"room for {areas} entries in each block"),
        ("docs/concepts.md", f"covers memory regions; at most {tdmrs}."),
        ("docs/concepts.md", f"at most {areas} in a TDMR. When a TDMR needs a {areas + 1}th,"),
        ("docs/verdict.md", f"at most {AT_RISK_HEADROOM} reserved areas are left,"),
        (
            "docs/boots.md",
            f"with at most {CPU_SECONDS} s of processor time and {MEMORY // MIB} MiB of address space.",
        ),
        ("docs/boots.md", f"* At most {MAX_ENTRIES} entries are kept,"),
        ("docs/boots.md", f"RAM taken away from {KERNEL_LOW // MIB} to {KERNEL_HIGH // MIB} MiB"),
        ("docs/security.md", f"at most {CPU_SECONDS} s of processor time, {MEMORY // MIB} MiB of address"),
        ("docs/prometheus.md", f"| at most {AT_RISK_HEADROOM} reserved areas are left |"),
        ("docs/prometheus.md", f"| fewer than {spare} TDMRs are left |"),
        ("docs/formats.md", f'"max_tdmrs": {tdmrs}, "max_reserved_per_tdmr": {areas},'),
        (
            "docs/runbooks/TDXTDMRsNearLimit.md",
            f"takes {tdmrs} TDMRs. The memory map of this host needs more than {tdmrs - spare},",
        ),
        (
            "docs/runbooks/TDXReservedAreasLow.md",
            f"at most {AT_RISK_HEADROOM} of {areas} reserved areas are left.",
        ),
        ("docs/runbooks/TDXReservedAreasExhausted.md", f"more than {areas} reserved areas in one TDMR."),
        ("docs/security.md", f"TLS handshake included | {LIMITS.request_seconds} s | closed |"),
        ("docs/security.md", f"| between two requests | {LIMITS.idle_seconds} s | closed |"),
        (
            "docs/security.md",
            f"| {LIMITS.send_seconds} s; what is in the kernel {LIMITS.send_seconds * connection.GRACE:.0f} s | reset |",
        ),
        (
            "docs/security.md",
            f"for one client | {2 * connection.SEND_BUFFER // KIB} KiB; on a unix socket {2 * connection.UNIX_SEND_BUFFER // KIB} KiB |",
        ),
        (
            "docs/security.md",
            f"in the kernel, for one client | {2 * connection.RECEIVE_BUFFER // KIB} KiB | the client waits |",
        ),
        ("docs/security.md", f"| `--web.max-requests` ({WEB.max_requests}) | 503"),
        ("docs/security.md", f"| wait for the check | {LIMITS.auth_seconds} s | 503 |"),
        ("docs/security.md", f"| request line and headers | {LIMITS.header_bytes // KIB} KiB | closed |"),
        ("docs/security.md", f"| body | {LIMITS.body_bytes // KIB} KiB | 400 |"),
        ("docs/security.md", f"| open connections | {LIMITS.connections}, or"),
        ("docs/security.md", f"`MemoryMax=` ({memory}) includes"),
        (
            "docs/security.md",
            f"* **Limits.** {memory}, one processor, {service['TasksMax']} threads and processes, files of {size},",
        ),
        ("docs/security.md", f"rates `tdx-headroom.service` **{SCORE}**"),
        (
            "docs/systemd.md",
            f"(`CPUQuota={service['CPUQuota']}`), {memory} of memory and {service['TasksMax']} processes, and write files of at most {size}:",
        ),
        ("docs/systemd.md", f"listens on port {settings('tdx-headroom.socket')['ListenStream']} |"),
        (
            "docs/systemd.md",
            {"5min": "a file for node_exporter every five minutes |"}[timer["OnUnitActiveSec"]],
        ),
        ("docs/systemd.md", f"rates it 1.1 instead of {SCORE}:"),
        ("docs/offline.md", f"| unpacked, everything | {archive.MAX_UNPACKED // GIB} GiB |"),
        (
            "docs/offline.md",
            f"| {archive.MAX_KEPT // MIB} MiB; a log {MAX_LOG // MIB} MiB, any other file {MAX_FILE // MIB} MiB |",
        ),
        ("docs/offline.md", f"| members; directories deep | {archive.MAX_MEMBERS:,}; {archive.MAX_DEPTH} |"),
        (
            "docs/offline.md",
            f"| memory to unpack xz; zstd window | {compressed.MAX_XZ_MEMORY // MIB} MiB; 128 MiB |",
        ),
        ("docs/offline.md", f"| a line of facts | {facts_lines.MAX_LINE // MIB} MiB |"),
        ("docs/web-config.md", f"{len(SAME) + len(STRICTER) + len(LAXER)} files are tested beside"),
        (
            "docs/security.md",
            f"| {len(SAME) + len(STRICTER) + len(LAXER)} configurations beside node_exporter |",
        ),
        ("docs/architecture.md", f"at least {MIN_GAP * 1000:.0f} ms,"),
        ("docs/performance.md", f"at most once in {MIN_GAP} s."),
        *(
            (f"docs/runbooks/{name}.md", f"for {minutes} minutes, longer than")
            for name, minutes in [("TDXAgentDown", waits("TDXAgentDown"))]
        ),
        ("docs/prometheus.md", f"an agent cannot be scraped for {waits('TDXAgentDown')} minutes |"),
    ]


def waits(alert: str) -> int:
    """Minutes of an alert's `for`."""
    rules = yaml.safe_load((CHECKOUT / "packaging/prometheus/tdx-headroom.rules.yml").read_text())
    found = [rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == alert]
    return int(found[0]["for"].removesuffix("m"))


@pytest.mark.parametrize(("page", "sentence"), sentences())
def test_a_figure_is_the_codes(page: str, sentence: str) -> None:
    """Limits, bounds and thresholds on the pages are those of code, units and rules."""
    assert sentence in said(page)


def test_the_lowest_versions() -> None:
    """docs/install.md has the versions of pyproject.toml."""
    project = (CHECKOUT / "pyproject.toml").read_text()
    dependencies = project.partition("\ndependencies = [")[2].partition("]")[0]
    needed = re.findall(r'"([\w-]+)>=([\d.]+)"', dependencies)
    assert len(needed) == 7
    python = re.findall(r'requires-python = ">=([\d.]+)"', project)
    for name, version in [*needed, ("Python", *python)]:
        assert re.search(rf"(?m)^\| {name} \| {re.escape(version)} \|", (DOCS / "install.md").read_text())


def test_the_fuzzed_targets() -> None:
    """docs/dev/fuzzing.md has a row for each target."""
    rows = re.findall(r"(?m)^\| ([a-z-]+)(?: \(.*\))? \| [\d,]+ \|", (DOCS / "dev/fuzzing.md").read_text())
    assert sorted(rows) == sorted(TARGETS)


def test_the_latest_run_is_what_the_targets_reached() -> None:
    """In docs/performance.md and README.md, the summary has the figures of the latest run."""
    page = (DOCS / "performance.md").read_text()
    run = {
        name: (agent, peer, *ratio.split(", "))
        for name, agent, peer, ratio in re.findall(r"(?m)^\| (.+) \| (.+) \| (.+) \| (.+) \|$", page)
    }
    reached = dict(re.findall(r"(?m)^\| (.+) \| .+ \| (?:yes|no): (.+) \|$", page))
    assert reached["scrape, p50"] == run["scrape, p50"][2]
    assert reached["CPU time of a scrape"] == run["CPU per 1000 scrapes"][3]
    assert reached["start to first answer"] == run["start to first answer"][0]
    assert reached["resident memory"].startswith(f"{run['resident memory'][2]};")
    assert f" {run['resident memory, started as root'][2]} (below)" in reached["resident memory"]
    assert reached["record to metric, p99"].startswith(run["record to metric, p99"][0])
    ours = " ".join((CHECKOUT / "README.md").read_text().split())
    assert f"the agent takes {float(run['resident memory'][0].split()[0]):.0f} MiB" in ours
    assert round(1 / float(reached["scrape, p50"])) == 7
    assert "about a seventh of node_exporter's time" in ours


@pytest.mark.parametrize("series", ["6.12", "7.3"])
def test_the_kernels_results(series: str) -> None:
    """docs/ground-truth.md says of the kernel what is kept of its boots beside the kernel test."""
    lines = lzma.decompress((BOOTS / f"{series}-seed2.results.jsonl.xz").read_bytes()).splitlines()
    results: list[dict[str, Any]] = [json.loads(line) for line in lines]
    page = (DOCS / "ground-truth.md").read_text()
    section = re.split(r"(?m)^## ", page.partition(f"## Linux {series} ")[2])[0]
    outcomes = Counter(result["outcome"] for result in results).most_common()
    families = sorted(Counter(result["family"] for result in results).items())
    assert section.startswith(f"({results[0]['package']}), seed 2, {len(results)} maps\n")
    assert f"* outcomes: {', '.join(f'{name} {count}' for name, count in outcomes)}\n" in section
    assert f"* families: {', '.join(f'{name} {count}' for name, count in families)}\n" in section
    areas = [tdmr for result in results for tdmr in result["areas"] or ()]
    pamts = sum(pamt["at"] is not None for result in results for pamt in result["pamts"] or ())
    compared = f"{len(areas)} TDMRs, {sum(map(len, areas))} reserved areas, {pamts} PAMTs"
    assert f"* compared: {compared}\n" in section
    assert {name for name, _ in re.findall(r"(?m)^\| (.+) \| (\d+) \| \d{4}-[\w-]+ \|$", section)} == set(
        WRONG
    )
    assert f"agree on all {len(results)} maps" in page
