# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.scale --hosts 10000 --minutes 6``: what a fleet costs one Prometheus."""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.grafana.board import panels_of
from tests.grafana.files import DASHBOARDS
from tests.integration.agent import agent
from tests.integration.servers import PACKAGING, Prometheus, run
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = Path(__file__).parents[1] / "hosts"
KINDS = ("good-2-node", "no-tdx", "emerald-rapids", "granite-rapids-like")
"""Captured hosts, in the order of fleet.SHARES."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--minutes", type=float, default=4, help="how long to watch (default 4)")
    parser.add_argument("--interval", default="1m", help="between scrapes of a host (default 1m)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        fleet = stack.enter_context(simulated(folder, options.hosts))
        scrapes = scrape_configs(fleet, options.hosts, options.interval)
        server = stack.enter_context(prometheus(folder / "prometheus", scrapes))
        rules = watch(server, options.minutes, options.hosts)
        report(server, folder, options, rules)


@contextmanager
def simulated(folder: Path, hosts: int) -> Iterator[int]:
    """The fleet; its port."""
    files = []
    for name in KINDS:
        state = folder / f"state-{name}"
        state.mkdir()
        with agent("--path.rootfs", str(HOSTS / name), "--state-directory", str(state)) as running:
            running.get("/metrics")
            path = folder / f"{name}.prom"
            path.write_text(running.get("/metrics")[2])
            files.append(str(path))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.scale.fleet", str(port), *files], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        print(f"{hosts} hosts on port {port}", flush=True)
        yield port
    finally:
        process.kill()
        process.communicate()


def scrape_configs(fleet: int, hosts: int, interval: str) -> list[dict[str, Any]]:
    """Every host is a target; their paths differ."""
    targets = [
        {
            "targets": [f"127.0.0.1:{fleet}"],
            "labels": {"__metrics_path__": f"/{host}/metrics", "instance": f"host-{host:06d}:10110"},
        }
        for host in range(hosts)
    ]
    return [{"job_name": "tdx-headroom", "scrape_interval": interval, "static_configs": targets}]


@contextmanager
def prometheus(folder: Path, scrapes: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """With the rules exactly as they are shipped, watching itself too."""
    folder.mkdir()
    shutil.copy(PACKAGING / "prometheus" / "tdx-headroom.rules.yml", folder / "rules.yml")
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "scrape_configs": scrapes})
    )
    words = ["prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}"]
    with run(Prometheus, words, "/-/ready", folder) as server:
        yield server


def watch(server: Prometheus, minutes: float, hosts: int) -> dict[str, list[float]]:
    """Tell every half minute how it goes; how long each group of rules took, once every host was up."""
    seen: dict[str, list[float]] = {}
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(min(30, max(0.0, end - time.monotonic())))
        up = server.query("sum(up)")
        series = own(server, "prometheus_tsdb_head_series")
        memory = own(server, "process_resident_memory_bytes") / (1 << 20)
        times = rule_seconds(server)
        groups = " ".join(f"{name} {seconds:.2f}s" for name, seconds in times.items())
        count = int(float(up[0]["value"][1])) if up else 0
        if count == hosts:
            for name, seconds in times.items():
                seen.setdefault(name, []).append(seconds)
        print(f"{count}/{hosts} up, {series:.0f} series, {memory:.0f} MiB; {groups}", flush=True)
    return seen


def own(server: Prometheus, name: str) -> float:
    """A metric of Prometheus itself, by the name alone."""
    lines = server.text("/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def rule_seconds(server: Prometheus) -> dict[str, float]:
    """How long each group of rules took the last time."""
    groups = server.json("/api/v1/rules")["data"]["groups"]
    return {group["name"]: float(group["evaluationTime"]) for group in groups}


def value(server: Prometheus, query: str) -> float:
    """The one value of a query."""
    found = server.query(query)
    return float(found[0]["value"][1]) if found else float("nan")


def slowest_query(server: Prometheus, name: str) -> float:
    """Seconds that the slowest query of a dashboard takes."""
    slowest = 0.0
    for panel in panels_of(DASHBOARDS[name]):
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "4m").replace("$job", ".+")
            query = query.replace("$instance", "host-000001:10110").replace("$strategy", "memory-regions")
            began = time.monotonic()
            server.query(query)
            slowest = max(slowest, time.monotonic() - began)
    return slowest


def cores(server: Prometheus, seconds: float) -> float:
    """How many processors it keeps busy."""
    before, began = own(server, "process_cpu_seconds_total"), time.monotonic()
    time.sleep(seconds)
    return (own(server, "process_cpu_seconds_total") - before) / (time.monotonic() - began)


def report(
    server: Prometheus, folder: Path, options: argparse.Namespace, rules: dict[str, list[float]]
) -> None:
    """The table for docs/prometheus.md."""
    busy = cores(server, 60)
    samples = value(server, "sum(scrape_samples_scraped)")
    median, late = (value(server, f"quantile({q}, scrape_duration_seconds)") * 1000 for q in (0.5, 0.99))
    wal = sum(path.stat().st_size for path in (folder / "prometheus" / "data").rglob("*") if path.is_file())
    recorded = value(server, 'count({__name__=~"job_.+"})')
    rows = {
        "hosts": f"{options.hosts}, scraped every {options.interval}; {value(server, 'sum(up)'):.0f} up",
        "series scraped": f"{samples:.0f}, {samples / options.hosts:.0f} a host",
        "series in Prometheus": f"{own(server, 'prometheus_tsdb_head_series'):.0f}",
        "a scrape, median and 99 of 100": f"{median:.1f} ms, {late:.1f} ms",
        "resident memory": f"{own(server, 'process_resident_memory_bytes') / (1 << 20):.0f} MiB",
        "processors": f"{busy:.2f}",
        f"write-ahead log after {options.minutes + 1:.0f} minutes": f"{wal / (1 << 20):.0f} MiB",
        "rule evaluations missed": f"{own(server, 'prometheus_rule_group_iterations_missed_total'):.0f}",
        **{f"rules, {name}": f"{min(times):.2f} to {max(times):.2f} s" for name, times in rules.items()},
        **{f"slowest query, {name}": f"{slowest_query(server, name) * 1000:.0f} ms" for name in DASHBOARDS},
        "recorded series of the fleet": f"{recorded:.0f}",
    }
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    version = server.json("/api/v1/status/buildinfo")["data"]["version"]
    print(f"\nPrometheus {version}, {processor[1] if processor else '?'}, {os.cpu_count()} cores")
    print(f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    for name, text in rows.items():
        print(f"| {name} | {text} |")


if __name__ == "__main__":
    main()
