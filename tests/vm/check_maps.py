# SPDX-License-Identifier: Apache-2.0
"""Memory maps with holes at, below and above the limit: what the agent tells, and what the kernel then does.

One installation, several boots: the first has an ordinary map, and there the agent is asked about the others.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel.truth import Truth, read_truth, split_log
from tests.vm.guests import boot_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.guests import Guest

MIB = 1 << 20
GIB = 1 << 30
MEMORY = 3072
"""MiB: QEMU's q35 puts 2 GiB below 4 GiB, and the rest, with the PAMTs, above."""
FIRST_HOLE = 256 * MIB
OWN = 1
"""Holes that the first GiB has anyhow: the first MiB, which the kernel does not give to TDX."""
LIMIT = 16

READ_LOG = """
import os, sys
log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
try:
    while record := os.read(log, 8192):
        sys.stdout.buffer.write(record)
except BlockingIOError:
    pass
"""


def holes(count: int) -> list[tuple[int, int]]:
    """So many holes of a page each, half-open."""
    return [(FIRST_HOLE + i * MIB, FIRST_HOLE + i * MIB + 4096) for i in range(count)]


def memmap(count: int) -> str:
    """The same for the kernel's command line."""
    return " ".join(f"memmap=4K${start:#x}" for start, _ in holes(count))


def truth_of(guest: Guest) -> Truth:
    """What this boot's kernel did, from its own lines and those of the stand-in."""
    guest.machine.write("/opt/vm-test/log.py", READ_LOG.encode())
    return read_truth(*split_log(guest.run("python3 /opt/vm-test/log.py") + "\n"))


def plan_of(guest: Guest, options: str = "") -> dict[str, Any]:
    """The agent's plan on the guest's command line, as root."""
    plans = json.loads(guest.run(f"tdx-headroom plan --format json {options}"))["strategies"]
    plan: dict[str, Any] = plans["memory-regions"]
    return plan


def areas(tdmr: dict[str, Any], kind: str) -> list[tuple[int, int]]:
    return [(a["offset"], a["size"]) for a in tdmr["reserved_areas"] if a["kind"] == kind]


def agree(truth: Truth, plan: dict[str, Any]) -> None:
    """The kernel's TDMRs are the plan's, to the byte; PAMTs may lie elsewhere than predicted."""
    assert truth.tdmrs is not None
    assert [(t.base, t.size) for t in truth.tdmrs] == [(t["base"], t["size"]) for t in plan["tdmrs"]]
    for real, planned in zip(truth.tdmrs, plan["tdmrs"], strict=True):
        sizes = (planned["pamt"]["size_4k"], planned["pamt"]["size_2m"], planned["pamt"]["size_1g"])
        assert (real.pamt_4k, real.pamt_2m, real.pamt_1g) == sizes
        pamts = {
            (other.pamt_base - real.base, other.pamt_4k + other.pamt_2m + other.pamt_1g)
            for other in truth.tdmrs
        }
        assert [area for area in real.areas if area not in pamts] == areas(planned, "hole")
    assert truth.pamt_kib == plan["pamt_kib"]


COUNTS = (15, 16, 17, 24)


@pytest.fixture(scope="module")
def told(disk: Path) -> dict[int, dict[str, Any]]:
    """What the agent tells, in a boot with an ordinary map, about the others: a plan for each count."""
    with boot_disk(disk, memory=MEMORY) as guest:
        agree(truth_of(guest), plan_of(guest))
        plans = {}
        for count in COUNTS:
            options = " ".join(f"--add-hole {start:#x}-{end:#x}" for start, end in holes(count - OWN))
            plans[count] = plan_of(guest, options)
    return plans


@pytest.mark.parametrize("count", COUNTS)
def test_holes_in_one_tdmr(
    disk: Path, told: dict[int, dict[str, Any]], count: int, note: Callable[[str], None]
) -> None:
    """Up to 16 holes TDX comes up; with more it fails as the agent has told, in the kernel's own words."""
    with boot_disk(disk, memory=MEMORY, append=memmap(count - OWN)) as guest:
        truth, plan = truth_of(guest), plan_of(guest)
        samples = guest.samples()
    low, before = plan["tdmrs"][0], told[count]
    assert (low["base"], low["size"], low["needed_holes"], low["needed_pamts"]) == (0, GIB, count, 0)
    headroom = samples[
        "tdx_tdmr_reserved_areas_headroom", (("strategy", "memory-regions"), ("tdmr", "0x0-0x40000000"))
    ]
    note(f"headroom {headroom:.0f}; the kernel: {truth.lines[-1]}")
    assert headroom == LIMIT - count
    assert areas(low, "hole") == areas(before["tdmrs"][0], "hole")
    assert (plan["errno"], plan["messages"]) == (before["errno"], before["messages"])
    assert plan["messages"] == list(truth.messages)
    assert samples["tdx_plan_matches_kernel", ()] == 1
    assert samples["tdx_memory_map_changed", ()] == 1
    if count <= LIMIT:
        assert truth.initialized
        agree(truth, plan)
        assert samples["tdx_module_state", (("state", "initialized"),)] == 1
    else:
        assert truth.messages == ("initialization failed: TDMR [0x0, 0x40000000): reserved areas exhausted.",)
        assert truth.errno == plan["errno"] == -28
        assert samples["tdx_module_state", (("state", "failed"),)] == 1
        assert samples["tdx_verdict", (("verdict", "failed"),)] == 1
        reason = (("errno", "-28"), ("reason", "reserved-areas-exhausted"))
        assert samples["tdx_init_failure_info", reason] == 1


@pytest.mark.usefixtures("told")
def test_a_border_of_nodes_inside_a_gib(disk: Path) -> None:
    """Two nodes that meet at 1.5 GiB: the kernel's TDMRs and their nodes are those of the plan.

    After the boots that failed this one fits again.
    """
    nodes = [
        word
        for number in (0, 1)
        for word in (
            *("-object", f"memory-backend-ram,id=node{number},size={MEMORY // 2}M"),
            *("-numa", f"node,nodeid={number},cpus={number},memdev=node{number}"),
        )
    ]
    with boot_disk(disk, memory=MEMORY, more=nodes) as guest:
        truth = truth_of(guest)
        report = json.loads(guest.run("tdx-headroom plan --format json"))
        samples = guest.samples()
    plan = report["strategies"]["memory-regions"]
    assert report["nodes_known"] is True
    assert truth.initialized
    agree(truth, plan)
    assert [a.nid for a in truth.allocations] == [t["node"] for t in plan["tdmrs"]]
    assert {a.nid for a in truth.allocations} == {0, 1}
    assert samples["tdx_plan_matches_kernel", ()] == 1
    assert samples["tdx_module_state", (("state", "initialized"),)] == 1
