# SPDX-License-Identifier: Apache-2.0
"""Instructions, counted by valgrind: the same in every run, however busy the machine is."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.bench.programs import CHECKOUT, HOST, PYTHON
from tests.bench.table import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

WORK = {
    "plan": "plan_host(host)",
    "plan and verdict": "forget(); assess(host)",
    "plan and verdict, once more": "assess(host)",
    "facts line to plan line": "forget(); json.dumps(to_json(assess(HostFacts.from_json(json.loads(text)))))",
    "metrics of a scrape": "pages.get('/metrics', '', full=False).body",
}
PEERS = {
    "plan": ("json.loads(text)", "json.loads()"),
    "plan and verdict": ("json.loads(text)", "json.loads()"),
    "plan and verdict, once more": ("json.loads(text)", "json.loads()"),
    "facts line to plan line": ("json.dumps(json.loads(text))", "json in and out"),
    "metrics of a scrape": ("generate_latest(registry)", "bare prometheus_client"),
}
GROWTH = (1000, 10_000)

SETUP = f"""
import json, sys
from itertools import count
from prometheus_client import REGISTRY as registry
from prometheus_client.exposition import generate_latest
from tdx_headroom.service.agent import Agent
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.host.choose import read_facts
from tdx_headroom.log import configure
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.plan import plan_host
from tdx_headroom.hostfs.root import Root
from tdx_headroom.web.pages import Pages
from tests.bench.planning import forget, layout
configure("error", "logfmt")
host = read_facts(Root({str(HOST)!r}))
text = json.dumps(host.to_json())
agent = Agent(Root({str(HOST)!r}))
agent.refresh()
# By this clock a second passes at each look at it: no scrape shares another's rendering.
pages = Pages(agent, registry, clock=count().__next__)
for _ in range(int(sys.argv[1])):
    """


def instructions() -> Iterator[Row]:
    """Millions of instructions of one piece of work, from the difference between 30 of it and 10."""
    if shutil.which("valgrind") is None:
        return
    for what, work in WORK.items():
        peer, name = PEERS[what]
        own, other = (_one(program) for program in (work, peer))
        yield Row(f"instructions: {what}", own, other, name, "M")
    few, many = (_one(f"plan_host(HostFacts.from_json(layout({size})))", 2, 1) for size in GROWTH)
    exponent = math.log(many / few) / math.log(GROWTH[1] / GROWTH[0])
    what = f"instructions: growth exponent, {GROWTH[0]} to {GROWTH[1]} regions and CMRs"
    yield Row(what, exponent, None, "", "", 1.05, of_ratio=False)


def _one(work: str, many: int = 30, few: int = 10) -> float:
    return (_count(work, many) - _count(work, few)) / (many - few) / 1e6


def _count(work: str, times: int) -> int:
    run = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            PYTHON,
            "-c",
            SETUP + work,
            str(times),
        ],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    match = re.search(r"Collected : ([0-9]+)", run.stderr)
    assert match is not None, run.stderr
    return int(match[1])
