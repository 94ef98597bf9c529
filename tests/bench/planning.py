# SPDX-License-Identifier: Apache-2.0
"""Plans: of one host, of ever larger ones, and of a whole fleet through the command line."""

from __future__ import annotations

import json
import math
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import GIB, MIB, PAGE
from tdx_headroom.boots import memory_map
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import plan_host, shared
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.remedies import search
from tests.bench.programs import CHECKOUT, HOST, PYTHON, cost
from tests.bench.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tdx_headroom.verdict.assessment import Assessment

SIZES = (10, 100, 1000, 10_000, 100_000)
TDMRS = 64
REQUIRED = ("schema", "host", "kernel_release", "limits", "memory_regions", "cmrs", "pamt_placement")
COPY = "import json, sys; [print(json.dumps(json.loads(line))) for line in open(sys.argv[1], 'rb')]"
"""The least that a filter of JSON lines in Python does."""


def best(work: Callable[[], object], *, seconds: float = 1.0, least: int = 5) -> float:
    """The shortest CPU time of one call, in seconds: what the machine's other work does not lengthen."""
    found = math.inf
    end = time.perf_counter() + seconds
    while least > 0 or time.perf_counter() < end:
        began = time.process_time()
        work()
        found = min(found, time.process_time() - began)
        least -= 1
    return found


def forget() -> None:
    """Let nothing be known that was made before for a host with the same memory."""
    for made in (shared._plans, search._kept, memory_map._kept):
        made.cache_clear()


def typical() -> dict[str, Any]:
    """Facts of the captured Emerald Rapids host, as JSON: 21 memory regions, 5 CMRs, 5 TDMRs."""
    facts = read_facts(Root(HOST)).to_json()
    assert len(facts["memory_regions"]) == 21
    return facts


def layout(entries: int) -> dict[str, Any]:
    """Facts with that many memory regions and as many CMRs, spread over 64 TDMRs."""
    tdmrs = min(TDMRS, entries)
    regions = []
    cmrs = []
    for i in range(entries):
        tdmr, slot = i * tdmrs // entries, i - -(-(i * tdmrs // entries) * entries // tdmrs)
        pitch = GIB * 32 // -(-entries // tdmrs) // PAGE * PAGE
        start = GIB + tdmr * 32 * GIB + slot * pitch
        regions.append([start, start + pitch - PAGE, tdmr % 4])
        cmrs.append([start - (MIB if slot else 0), pitch - PAGE])
    return {"schema": "tdx-headroom/facts/1", "memory_regions": regions, "cmrs": cmrs}


def plan_time() -> Iterator[Row]:
    """One host under all strategies, beside reading the same facts with the JSON library."""
    facts = typical()
    host = HostFacts.from_json(facts)
    text = json.dumps({key: facts[key] for key in REQUIRED})
    own, peer = best(lambda: plan_host(host)), best(lambda: json.loads(text))
    yield Row("plan, 21 regions, 5 TDMRs", own * 1e3, peer * 1e3, "json.loads()", "ms", 1, of_ratio=False)
    own = best(lambda: _anew(host))
    yield Row("plan and verdict, the same", own * 1e3, peer * 1e3, "json.loads()", "ms")
    own = best(lambda: assess(host))
    yield Row("plan and verdict, once more", own * 1e3, peer * 1e3, "json.loads()", "ms")


def _anew(host: HostFacts) -> Assessment:
    forget()
    return assess(host)


def growth() -> Iterator[Row]:
    """The same for ever larger hosts: each time has to be ten times the last one."""
    times: list[tuple[int, float]] = []
    for size in SIZES:
        facts = layout(size)
        host, text = HostFacts.from_json(facts), json.dumps(facts)
        own, peer = best(lambda host=host: plan_host(host)), best(lambda text=text: json.loads(text))  # type: ignore[misc]
        times.append((size, own))
        yield Row(f"plan, {size} regions and CMRs", own * 1e3, peer * 1e3, "json.loads()", "ms")
    (few, short), (many, long) = times[-3], times[-1]
    exponent = math.log(long / short) / math.log(many / few)
    yield Row(f"growth exponent, {few} to {many}", exponent, None, "", "", 1.1, of_ratio=False)


def hosts_a_second(copies: int) -> Iterator[Row]:
    """A fleet through `plan --facts`: facts in, plans and verdicts out, on one core, and by two processes.

    Either all its hosts have one of a few memory maps, as machines of a model do, or each has its own.
    """
    captured = [
        read_facts(Root(path)).to_json()
        for path in sorted((CHECKOUT / "tests/hosts").iterdir())
        if path.is_dir()
    ]
    known = [facts for facts in captured if facts["memory_regions"]]
    required = [{key: facts[key] for key in REQUIRED} for facts in known]
    for what, kinds, least in (("required keys", required, 500), ("all keys", known, 250)):
        fleet = [_another(facts, number) for number, facts in enumerate(kinds * copies)]
        own_maps = [_with_less(facts, number) for number, facts in enumerate(fleet)]
        yield _fleet_row(f"plan --facts, {what}, {len(kinds)} maps", fleet, None)
        yield _fleet_row(f"plan --facts, {what}, a map each", own_maps, least)
    many = [_another(facts, number) for number, facts in enumerate(required * copies * 4)]
    yield _two_jobs_row(f"plan --facts --jobs 2, required keys, {len(required)} maps", many, 4500)


def _another(facts: dict[str, Any], number: int) -> dict[str, Any]:
    """Facts of another machine of the same model: it has booted at another time, its image elsewhere."""
    changed = {**facts, "host": f"host-{number}"}
    if reserved := facts.get("reserved"):
        (start, end), *rest = reserved
        changed["reserved"] = [[start, end + number % 512 * PAGE], *rest]
    if platform := facts.get("platform"):
        boot = {"boot_id": f"{number:08x}-0000-4000-8000-000000000000", "boot_time": 1.7e9 + number}
        changed["platform"] = {**platform, **boot}
    return changed


def _with_less(facts: dict[str, Any], pages: int) -> dict[str, Any]:
    """Facts of a host with so many pages less at the end of its memory, as another firmware may take."""
    *regions, (start, end, node) = facts["memory_regions"]
    return {**facts, "memory_regions": [*regions, [start, end - pages * PAGE, node]]}


def _fleet_row(name: str, fleet: list[dict[str, Any]], limit: float | None) -> Row:
    plan, copy = _plan(1), [PYTHON, "-c", COPY]
    with _written(fleet) as path, tempfile.NamedTemporaryFile() as none:
        own, peer = (len(fleet) / (cost([*c, path]).cpu - cost([*c, none.name]).cpu) for c in (plan, copy))
    return Row(name, own, peer, "json in and out", "hosts/s", limit, of_ratio=False, more=True)


def _two_jobs_row(name: str, fleet: list[dict[str, Any]], limit: float) -> Row:
    """By the clock, the start of the programs included."""
    with _written(fleet) as path:
        one, two = (len(fleet) / min(cost([*_plan(jobs), path]).wall for _ in range(3)) for jobs in (1, 2))
    return Row(name, two, one, "--jobs 1", "hosts/s", limit, of_ratio=False, more=True)


def _plan(jobs: int) -> list[str]:
    return [PYTHON, "-m", "tdx_headroom", "plan", "--jobs", str(jobs), "--facts"]


@contextmanager
def _written(fleet: list[dict[str, Any]]) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(facts) + "\n" for facts in fleet)
        file.flush()
        yield file.name
