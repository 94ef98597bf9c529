# SPDX-License-Identifier: Apache-2.0
"""Logs that people have asked about, in the wrapping in which they came, and the right answer to each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.inputs.named import Kind, Named
from tdx_headroom.inputs.read import read_hosts
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.plan import Strategy
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.fleet import Fit, audit_host, targets_of

FOLDER = Path(__file__).parent / "answers"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))


def look_at(name: str) -> Assessment:
    return look_at_path(FOLDER / f"{name}.log")


def look_at_path(path: Path) -> Assessment:
    (found,) = read_hosts([Named(Kind.ANY, str(path))])
    assert isinstance(found.facts, HostFacts)
    return assess(found.facts)


def test_every_log_has_its_answer() -> None:
    """No log goes without being checked."""
    assert {path.stem for path in FOLDER.glob("*.log")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_answer(name: str) -> None:
    """Each log is read as what it shows, and no better."""
    expected = EXPECTED[name]
    found = look_at(name)
    report = found.facts.kernel_log
    assert report is not None
    assert report.state in expected["states"]
    assert (report.reason, report.errno) == (expected["reason"], expected["errno"])
    assert report.pamt_kib == expected["pamt_kib"]
    assert report.keyids == (tuple(expected["keyids"]) if expected["keyids"] else None)
    if "plan" in expected:
        plan = found.plans[Strategy.MEMORY_REGIONS]
        assert plan is not None
        assert [[hex(t.base), hex(t.end)] for t in plan.tdmrs] == expected["plan"]["tdmrs"]
        assert [t.needed_holes for t in plan.tdmrs] == expected["plan"]["holes"]
        assert sum(t.pamt.size for t in plan.tdmrs) >> 10 == expected["plan"]["pamt_kib"]


def test_a_system_report_is_read() -> None:
    """What it says of kernel, CPU and KeyIDs is read; the number of KeyIDs is hexadecimal."""
    found = look_at("canonical-tdx-424-generic-kernel")
    facts, verdict = found.facts, found.verdict
    assert facts.kernel_release == "6.8.0-101-generic"
    assert facts.platform is not None
    assert facts.platform.cpu_model == "INTEL(R) XEON(R) GOLD 6548Y+"
    assert facts.platform.guest_keyids == 31
    assert facts.platform.tdx_host_platform is None
    assert verdict.state is State.CANNOT_TELL
    assert "6.8.0-101-generic does not bring TDX up" in verdict.summary
    assert "31 private KeyIDs" in verdict.summary
    assert "Boot a kernel that initializes TDX" in verdict.remedies[0]


def test_what_is_said() -> None:
    """A guest's owner is sent to the host, and an excerpt is called one."""
    assert "give the log of the host" in look_at("suse-img-proof-437-guest").verdict.summary
    assert "Sapphire Rapids" in look_at("intel-tdx-tools-234").verdict.summary
    excerpt = look_at("td-partitioning-doc")
    assert excerpt.verdict.told.startswith("Only a few lines in other text")
    assert render(excerpt, Style()).split("\n")[2].startswith("  AN EXCERPT: Only a few lines in other text")
    assert look_at("hpe-dl325-gen10").verdict.state is State.NOT_TDX
    early = look_at("cloud-hypervisor-7207-centos").verdict
    assert early.state is State.CANNOT_TELL
    assert any("The log ends 3 seconds after the boot" in text for text in early.warnings)
    assert not any("nothing happened" in text for text in early.remedies)


def test_nodes_that_are_movable() -> None:
    """Where each movable zone begins is enough: no PAMT lies on a node that has nothing else."""
    found = look_at("huawei-8node-movable")
    plan = found.plans[Strategy.MEMORY_REGIONS]
    assert plan is not None
    movable = [(t.base, t.end) for t in plan.tdmrs if t.node in (3, 4, 5, 6)]
    bases = [t.pamt.base for t in plan.tdmrs]
    assert None not in bases
    assert not [base for base in bases for start, end in movable if start <= (base or 0) < end]
    assert any("Nodes 3, 4, 5, 6 have only movable memory" in text for text in found.verdict.warnings)


def test_memory_that_drivers_have_added(tmp_path: Path) -> None:
    """Rows of a host with CXL memory, below the RAM that such a host boots with."""
    boot = (
        "00001000-0009ffff : System RAM\n00100000-6fffffff : System RAM\n100000000-206fffffff : System RAM\n"
    )
    files = {
        "iomem": boot + (FOLDER / "cxl-fujitsu-physical.iomem").read_text("utf-8"),
        "cpuinfo": "processor\t: 0\nflags\t: tdx_host_platform\n",
        "sys/kernel/osrelease": "6.17.0\n",
    }
    for name, text in files.items():
        (tmp_path / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / name).write_text(text)
    verdict = look_at_path(tmp_path).verdict
    assert verdict.state is State.AT_RISK
    assert "512 GiB that the driver kmem has added (dax0.0 in CXL Window 0, dax1.0" in verdict.summary
    assert "modprobe.blacklist=kmem" in verdict.remedies[0]
    # The rows alone, as they were posted.
    alone = look_at_path(FOLDER / "cxl-fujitsu-physical.iomem").verdict
    assert alone.state is State.AT_RISK
    assert "512 GiB that the driver kmem has added" in alone.summary


FIELD = sorted([*FOLDER.glob("*.log"), *(FOLDER.parent / "logs").glob("*.log")])


@pytest.mark.parametrize("path", FIELD, ids=lambda path: path.stem)
def test_a_fleets_line(path: Path) -> None:
    """Whoever audits them all is told of each what is so, or what to do; `unknown` alone is not enough."""
    (found,) = read_hosts([Named(Kind.ANY, str(path))])
    assert isinstance(found.facts, HostFacts)
    own = audit_host(found.facts, path.name, None, targets_of(())).targets[0]
    if own.fit is Fit.CANNOT_TELL:
        assert re.search(r"give the|Run as root|Boot|Nothing shows|no line with|part of", own.why), own.why
    else:
        assert own.why
