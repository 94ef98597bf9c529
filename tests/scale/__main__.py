# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.scale --hosts 10000 --minutes 6``: what a fleet costs Prometheus, or VictoriaMetrics."""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.grafana.board import panels_of
from tests.grafana.files import DASHBOARDS
from tests.integration.agent import agent
from tests.kernel.tools import exit_status
from tests.scale.engines import ENGINES
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.servers import Prometheus
    from tests.scale.engines import Engine

HOSTS = Path(__file__).parents[1] / "hosts"
KINDS = ("good-2-node", "no-tdx", "emerald-rapids", "granite-rapids-like")
"""Captured hosts, in the order of fleet.SHARES."""


def main() -> int:
    """Measure, and print a table.

    Returns:
        0: it was measured. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--minutes", type=float, default=4, help="how long to watch (default 4)")
    parser.add_argument("--interval", default="1m", help="between scrapes of a host (default 1m)")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="prometheus",
        help="what they are measured with (default prometheus)",
    )
    options = parser.parse_args()
    return exit_status("scale-bench", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        fleet = stack.enter_context(simulated(folder, options.hosts))
        scrapes = scrape_configs(fleet, options.hosts, options.interval)
        engine = stack.enter_context(ENGINES[options.engine](folder / "engine", scrapes))
        report(engine, options, watch(engine, options.minutes, options.hosts))
    return 0


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


def watch(engine: Engine, minutes: float, hosts: int) -> dict[str, list[float]]:
    """Tell every half minute how it goes; how long each group of rules took, once every host was up."""
    seen: dict[str, list[float]] = {}
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(min(30, max(0.0, end - time.monotonic())))
        up = engine.server.query("sum(up)")
        memory = engine.own("process_resident_memory_bytes") / (1 << 20)
        times = engine.rule_seconds()
        groups = " ".join(f"{name} {seconds:.2f}s" for name, seconds in times.items())
        count = int(float(up[0]["value"][1])) if up else 0
        if count == hosts:
            for name, seconds in times.items():
                seen.setdefault(name, []).append(seconds)
        print(f"{count}/{hosts} up, {engine.series():.0f} series, {memory:.0f} MiB; {groups}", flush=True)
    return seen


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


def alerts(server: Prometheus) -> str:
    """How many there are, by name."""
    found = server.query("count by (alertname) (ALERTS)")
    counts = {sample["metric"]["alertname"]: sample["value"][1] for sample in found}
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


def cores(engine: Engine, seconds: float) -> float:
    """How many processors it keeps busy."""
    before, began = engine.own("process_cpu_seconds_total"), time.monotonic()
    time.sleep(seconds)
    return (engine.own("process_cpu_seconds_total") - before) / (time.monotonic() - began)


def report(engine: Engine, options: argparse.Namespace, rules: dict[str, list[float]]) -> None:
    """The table for docs/prometheus.md."""
    server = engine.server
    busy = cores(engine, 60)
    samples = value(server, "sum(scrape_samples_scraped)")
    median, late = (value(server, f"quantile({q}, scrape_duration_seconds)") * 1000 for q in (0.5, 0.99))
    stored = sum(path.stat().st_size for path in engine.data.rglob("*") if path.is_file())
    recorded = value(server, 'count({__name__=~"job_.+"})')
    rows = {
        "hosts": f"{options.hosts}, scraped every {options.interval}; {value(server, 'sum(up)'):.0f} up",
        "series scraped": f"{samples:.0f}, {samples / options.hosts:.0f} a host",
        "series in memory": f"{engine.series():.0f}",
        "a scrape, median and 99 of 100": f"{median:.1f} ms, {late:.1f} ms",
        "resident memory": f"{engine.own('process_resident_memory_bytes') / (1 << 20):.0f} MiB",
        "processors": f"{busy:.2f}",
        f"on disk after {options.minutes + 1:.0f} minutes": f"{stored / (1 << 20):.0f} MiB",
        "rule evaluations missed": f"{engine.missed():.0f}",
        **{f"rules, {name}": _spread(times) for name, times in rules.items()},
        **{f"slowest query, {name}": f"{slowest_query(server, name) * 1000:.0f} ms" for name in DASHBOARDS},
        "recorded series of the fleet": f"{recorded:.0f}",
        "alerts, pending or firing": alerts(server),
    }
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(f"\n{engine.version}, {processor[1] if processor else '?'}, {os.cpu_count()} cores")
    print(f"Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    for name, text in rows.items():
        print(f"| {name} | {text} |")


def _spread(times: list[float]) -> str:
    return f"{min(times):.2f} to {max(times):.2f} s, median {statistics.median(times):.2f}"


if __name__ == "__main__":
    sys.exit(main())
