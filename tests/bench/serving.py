# SPDX-License-Identifier: Apache-2.0
"""Scrapes, memory, start and idling, of the agent and its peers in turns."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.bench.programs import (
    IMPORTS,
    PYTHON,
    THIS_HOST,
    Client,
    agent,
    as_nobody,
    bare,
    fleet,
    has_node_exporter,
    running,
    status,
    wakeups,
)
from tests.bench.table import Row
from tests.tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = {"bare": "bare prometheus_client", "node_exporter": "node_exporter"}


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def scrapes(rounds: int) -> Iterator[Row]:
    """Latency and CPU time of scrapes, one of each program in turn, so that the machine's noise hits all."""
    names = ["agent", "bare", *(["node_exporter"] if has_node_exporter() else [])]
    with fleet(*names) as programs:
        clients = {name: Client(programs[name].port) for name in names}
        for client in clients.values():
            for _ in range(20):
                client.scrape()
        times: dict[str, list[float]] = {name: [] for name in names}
        before = {name: programs[name].cpu_seconds() for name in names}
        for _ in range(rounds):
            for name in names:
                # Renderings are shared in a flood of requests: at most every other millisecond is a scrape.
                time.sleep(0.004)
                began = time.perf_counter()
                clients[name].scrape()
                times[name].append(time.perf_counter() - began)
        cpu = {name: programs[name].cpu_seconds() - before[name] for name in names}
    for peer in names[1:]:
        limit = {"node_exporter": 0.5, "bare": None}[peer]
        for word, share in (("p50", 0.5), ("p99", 0.99)):
            own, other = (percentile(times[n], share) * 1e3 for n in ("agent", peer))
            yield Row(f"scrape, {word}", own, other, NAMES[peer], "ms", limit if word == "p50" else None)
        limit = {"node_exporter": None, "bare": 1.2}[peer]
        own, other = (cpu[n] / rounds * 1000 for n in ("agent", peer))
        yield Row("CPU per 1000 scrapes", own, other, NAMES[peer], "s", limit)


def memory() -> Iterator[Row]:
    """Resident memory after a hundred scrapes, beside a process that only imports the libraries."""
    with subprocess.Popen(
        [*as_nobody(), PYTHON, "-c", IMPORTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as imports:
        assert imports.stdout is not None
        imports.stdout.readline()
        peer = status(imports.pid, "VmRSS") / 1024
        imports.kill()
    for what, arguments, root in (
        ("resident memory", (), False),
        ("resident memory, of the running host", THIS_HOST, False),
        ("resident memory, started as root", (), True),
    ):
        if root and not as_nobody():
            continue
        port = free_port()
        with running(agent(port, *arguments), port, root=root) as program:
            client = Client(port)
            for _ in range(100):
                client.scrape()
            own = status(program.pid, "VmRSS") / 1024
        yield Row(what, own, peer, "imports alone", "MiB", None if root else 1.25)


def start(rounds: int) -> Iterator[Row]:
    """From the start of the process to its first answer, in turns; and the CPU time that it takes."""
    commands: dict[str, Callable[[int], list[str]]] = {
        "": agent,
        ", of the running host": lambda port: agent(port, *THIS_HOST),
        NAMES["bare"]: bare,
    }
    took: defaultdict[str, list[float]] = defaultdict(list)
    cpu: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, command in commands.items():
            port = free_port()
            with running(command(port), port) as program:
                took[name].append(program.ready_seconds * 1e3)
                cpu[name].append(program.cpu_seconds() * 1e3)
    *whose, peer = commands
    for name in whose:
        own, other = (statistics.median(took[one]) for one in (name, peer))
        yield Row(f"start to first answer{name}", own, other, peer, "ms", 3.5)
        own, other = (statistics.median(cpu[one]) for one in (name, peer))
        yield Row(f"CPU of a start{name}", own, other, peer, "ms")


def idle(seconds: float) -> Iterator[Row]:
    """CPU time and wake-ups while nobody asks; a scraper's connection stays open."""
    names = ["agent", "bare", *(["node_exporter"] if has_node_exporter() else [])]
    with fleet(*names) as programs:
        for name in names:
            Client(programs[name].port).scrape()
        client = Client(programs["agent"].port)
        client.scrape()
        time.sleep(2)
        cpu = {name: programs[name].cpu_seconds() for name in names}
        woken = {name: wakeups(programs[name].pid) for name in names}
        time.sleep(seconds)
        cpu = {name: programs[name].cpu_seconds() - cpu[name] for name in names}
        woken = {name: wakeups(programs[name].pid) - woken[name] for name in names}
    scale = 60 / seconds
    for peer in names[1:]:
        yield Row(
            "idle CPU, a minute", cpu["agent"] * scale * 1e3, cpu[peer] * scale * 1e3, NAMES[peer], "ms"
        )
        # The slow timer and its pause afterwards, and one look at each connection that stays open.
        yield Row(
            "idle wake-ups, a minute",
            woken["agent"] * scale,
            woken[peer] * scale,
            NAMES[peer],
            "",
            4,
            of_ratio=False,
        )
