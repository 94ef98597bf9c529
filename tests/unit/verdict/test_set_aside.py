# SPDX-License-Identifier: Apache-2.0
"""Where huge pages or CMA leave PAMTs no room, a smaller value is named that does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.boots.map_risks import set_aside
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from tdx_headroom.verdict.findings import Remedy

RAM = ((MIB, 2 * GIB), (4 * GIB, 66 * GIB))
MEMORY = sum(end - start for start, end in RAM)


def host(*line: str) -> HostFacts:
    """A host with 64 GiB and that command line."""
    return HostFacts(
        kernel_release="6.12.0",
        memory_regions=tuple(MemoryRegion(start, end, 0) for start, end in RAM),
        firmware_map=tuple(FirmwareRange(start, end, "System RAM") for start, end in RAM),
        firmware_map_certain=True,
        command_line=line,
    )


def failed(*line: str) -> HostFacts:
    """One on which a PAMT has found no room."""
    log = KernelReport(ModuleState.FAILED, errno=-12, reason=FailureReason.NO_MEMORY)
    return replace(host(*line), kernel_log=log)


def smaller(facts: HostFacts, what_if: WhatIf | None = None) -> list[Remedy]:
    """The remedies that put a smaller value in an argument's place."""
    verdict = assess(facts, what_if or WhatIf()).verdict
    return [remedy for found in verdict.findings for remedy in found.remedies if remedy.instead]


@pytest.mark.parametrize(
    "line",
    [
        ("hugepages=32700",),
        ("hugepagesz=1G", "hugepages=63"),
        ("default_hugepagesz=1G", "hugepages=64"),
        ("cma=65400M",),
        ("hugetlb_cma=63G",),
    ],
)
def test_the_value_leaves_room(line: tuple[str, ...]) -> None:
    """With it more memory is left than PAMTs need, and nothing further is proposed."""
    (remedy,) = smaller(failed(*line))
    assert remedy.arguments == (line[-1],)
    after = (*line[:-1], *remedy.instead)
    assert MEMORY - set_aside(after) > 2 * (MEMORY // 256)
    assert set_aside(after) > MEMORY * 9 // 10
    assert smaller(failed(*after)) == []


@pytest.mark.parametrize(
    "line", [("hugepages=100",), ("hugepages=0:16000,1:16700",), ("cma=99%",), (), ("crashkernel=512M",)]
)
def test_nothing_is_proposed(line: tuple[str, ...]) -> None:
    """Not where little is set aside, nor for what is no single number."""
    assert smaller(failed(*line)) == []


def test_the_largest_is_reduced_first() -> None:
    """Of two that take too much together the larger can be reduced alone; the smaller cannot."""
    found = smaller(failed("hugepagesz=1G", "hugepages=61", "hugepagesz=2M", "hugepages=1500"))
    assert [remedy.arguments for remedy in found] == [("hugepages=61",), ("hugepages=1500",)]
    assert int(found[0].instead[0].removeprefix("hugepages=")) in (57, 58)
    few = smaller(failed("hugepagesz=1G", "hugepages=64", "hugepagesz=2M", "hugepages=100"))
    assert [remedy.arguments for remedy in few] == [("hugepages=64",)]


def test_before_the_reboot() -> None:
    """A line that is staged is answered in the same way, once whichever pages it asks for."""
    line = ("hugepagesz=1G", "hugepages=62", "hugepagesz=2M", "hugepages=900")
    found = smaller(host(), WhatIf(command_line=line))
    assert [remedy.arguments for remedy in found] == [("hugepages=62",)]
    assert smaller(host(), WhatIf(command_line=("hugepages=512",))) == []
