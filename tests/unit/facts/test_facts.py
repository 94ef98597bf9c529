# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from tdx_headroom.address import Range
from tdx_headroom.facts.host_facts import (
    DEFAULT_LIMITS,
    FactsError,
    GivenBases,
    HostFacts,
    Limits,
    MemoryRegion,
    PamtEntrySize,
    Placement,
)
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, SeamcallFailure
from tdx_headroom.facts.observations import FirmwareRange, LogHealth, Platform, Zone
from tdx_headroom.facts.sources import CmrSource, Disagreement, MemorySource, SourceStatus

SCHEMA = "tdx-headroom/facts/1"
MINIMAL: dict[str, Any] = {"schema": SCHEMA, "memory_regions": None, "cmrs": None}

FULL = HostFacts(
    host="emr-1",
    kernel_release="6.8.0-1004-intel",
    limits=Limits(32, 8, PamtEntrySize(8, 16, 32), 1),
    memory_regions=(MemoryRegion(0x1001, 0x9F000, 0), MemoryRegion(0x100000, 1 << 64, None)),
    cmrs=((0x100000, 0x6F700000), (0, 0), (1 << 32, 1 << 36)),
    pamt_placement=GivenBases((1 << 32, None)),
    memory_source=MemorySource.MEMBLOCK,
    node_source="nodes",
    cmr_source=CmrSource("kernel-log"),
    firmware_map=(FirmwareRange(0, 0x9F000, "System RAM"),),
    command_line=("nohibernate", "memmap=1G$498G"),
    zones=(Zone(0, "Normal", 1 << 32, 1 << 36),),
    sources=(
        SourceStatus("iomem", "/proc/iomem", ok=False, error="iomem: bad"),
        SourceStatus("nodes", "/sys", ok=True),
    ),
    disagreements=(Disagreement("memblock", "iomem", (Range(0, 4096),), ()),),
    kernel_log=KernelReport(
        state=ModuleState.FAILED,
        reason=FailureReason.RESERVED_AREAS,
        errno=-28,
        message="x",
        keyids=(32, 64),
        module_version="1.5",
        module_build="build 698",
        cmrs=(Range(0x100000, 0x6F800000),),
        cmrs_complete=True,
        pamt_kib=7,
        dynamic_pamt=True,
        failed_tdmr=Range(0, 0x80000000),
        tdmrs_used=(61, 64),
        seamcall=SeamcallFailure(0x22, 1, None),
        acpi_s3_disabled=True,
        verified=True,
    ),
    log_health=LogHealth(1, 2, from_boot=True, verified=True),
    platform=Platform(
        tdx_host_platform=True,
        guest_keyids=31,
        command_line=(),
        cpu_model="x",
        boot_time=1.5,
        memory_total=1 << 40,
    ),
)


@pytest.mark.parametrize(
    "facts",
    [
        FULL,
        HostFacts(),
        HostFacts(memory_regions=(), cmrs=()),
        HostFacts(pamt_placement=Placement.NONE),
        HostFacts(pamt_placement=GivenBases(())),
    ],
    ids=["full", "nothing", "empty-lists", "no-placement", "no-bases"],
)
def test_round_trip(facts: HostFacts) -> None:
    """Facts survive JSON text unchanged: unknown stays unknown, empty stays empty."""
    text = json.dumps(facts.to_json(), allow_nan=False)
    assert HostFacts.from_json(json.loads(text)) == facts
    assert json.loads(text)["schema"] == SCHEMA


def test_minimal_object() -> None:
    """Schema, regions and CMRs are enough; everything else has its default."""
    found = HostFacts.from_json(MINIMAL)
    assert found == HostFacts()
    assert found.limits == DEFAULT_LIMITS == Limits(64, 16, PamtEntrySize(16, 16, 16), None)
    assert found.pamt_placement == "predicted"


def test_further_keys_are_ignored() -> None:
    """Keys of a newer agent do not hinder."""
    assert HostFacts.from_json({**MINIMAL, "later": [1], "new": None}) == HostFacts()


def test_form() -> None:
    """The documented keys are there in their documented form."""
    found = FULL.to_json()
    assert found["limits"] == {
        "max_tdmrs": 32,
        "max_reserved_per_tdmr": 8,
        "pamt_entry_size": {"4k": 8, "2m": 16, "1g": 32},
        "pamt_page_bitmap_entry_bits": 1,
    }
    assert found["memory_regions"] == [[0x1001, 0x9F000, 0], [0x100000, 1 << 64, None]]
    assert found["cmrs"] == [[0x100000, 0x6F700000], [0, 0], [1 << 32, 1 << 36]]
    assert found["pamt_placement"] == {"bases": [1 << 32, None]}


@pytest.mark.parametrize(
    ("regions", "known"),
    [(None, False), ((), True), ((MemoryRegion(0, 1, 0),), True), ((MemoryRegion(0, 1, None),), False)],
)
def test_nodes_known(regions: tuple[MemoryRegion, ...] | None, known: bool) -> None:  # noqa: FBT001
    """Nodes are known when every region has one."""
    assert HostFacts(memory_regions=regions).nodes_known is known


def test_size_of_a_disagreement() -> None:
    """A disagreement's size is that of what either side has alone."""
    assert Disagreement("a", "b", (Range(0, 4096), Range(8192, 12288)), (Range(4096, 8192),)).bytes == 12288


@pytest.mark.parametrize(
    "cmrs",
    [
        [],
        [[0, 0]],
        [[1 << 32, 4096], [0, 4096]],
        [[0, 8192], [4096, 8192]],
        [[1, 3]],
        [[0, 1 << 64]],
        [[i << 30, 1 << 30] for i in range(33)],
        [[1 << 64, 1 << 64]],
    ],
    ids=["none", "empty-entry", "unordered", "overlapping", "misaligned", "everything", "33", "past-the-end"],
)
def test_cmrs_are_taken_as_given(cmrs: list[list[int]]) -> None:
    """Odd CMRs are a finding for the plan, not a reason to refuse."""
    assert HostFacts.from_json({**MINIMAL, "cmrs": cmrs}).cmrs == tuple((base, size) for base, size in cmrs)


@pytest.mark.parametrize(
    "regions",
    [
        [],
        [[0, 0, None]],
        [[0, 4096, 0], [4096, 8192, 1]],
        [[0, 4096, 0], [4096, 4096, 0], [4096, 8192, 0]],
        [[1, 3, None]],
        [[1 << 52, 1 << 53, 0], [1 << 63, 1 << 64, 1023]],
    ],
    ids=["none", "empty-region", "touching", "empty-between", "bytes", "high"],
)
def test_regions_that_memblock_can_hold(regions: list[list[int | None]]) -> None:
    """Touching, empty, byte-granular and very high regions are read as they are."""
    found = HostFacts.from_json({**MINIMAL, "memory_regions": regions}).memory_regions
    assert found is not None
    assert [list(region) for region in found] == regions


def with_limits(**limits: object) -> dict[str, Any]:
    return {**MINIMAL, "limits": limits}


REGION_HINT = "give [start, end, node or null]"
ORDER_HINT = "give them in address order, without overlap"
CMR_HINT = "[base, size] in bytes is expected"
POSITIVE = "a positive integer is expected"
PLACEMENT = "pamt_placement is neither of its forms"
PLACEMENT_HINT = 'give "predicted", "none" or {"bases": [b0, b1, …]}'


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (None, "a facts object is expected, {...}", None),
        ([MINIMAL], "a facts object is expected, {...}", None),
        ("x", "a facts object is expected, {...}", None),
        ({}, "schema is missing", f"this agent reads {SCHEMA}"),
        (
            {**MINIMAL, "schema": "tdx-headroom/facts/2"},
            "schema is 'tdx-headroom/facts/2'",
            f"this agent reads {SCHEMA}",
        ),
        ({"schema": SCHEMA, "cmrs": None}, "memory_regions is missing", "give null when it is unknown"),
        ({"schema": SCHEMA, "memory_regions": None}, "cmrs is missing", "give null when it is unknown"),
        ({**MINIMAL, "host": 7}, "host: expected a string, got an integer", None),
        ({**MINIMAL, "kernel_release": []}, "kernel_release: expected a string, got a list", None),
        ({**MINIMAL, "limits": []}, "limits: expected an object", None),
        (with_limits(max_tdmrs=0), "limits.max_tdmrs is 0", POSITIVE),
        (with_limits(max_tdmrs=None), "limits.max_tdmrs is None", POSITIVE),
        (with_limits(max_tdmrs=True), "limits.max_tdmrs is True", POSITIVE),
        (with_limits(max_tdmrs=64.0), "limits.max_tdmrs is 64.0", POSITIVE),
        (with_limits(max_reserved_per_tdmr=-1), "limits.max_reserved_per_tdmr is -1", POSITIVE),
        (with_limits(max_tdmrs=(1 << 64) + 1), f"limits.max_tdmrs is {(1 << 64) + 1}", POSITIVE),
        (with_limits(pamt_entry_size=None), "limits.pamt_entry_size: expected an object", None),
        (with_limits(pamt_entry_size=[16, 16, 16]), "limits.pamt_entry_size: expected an object", None),
        (with_limits(pamt_entry_size={"2m": "16"}), "limits.pamt_entry_size.2m is '16'", POSITIVE),
        (with_limits(pamt_page_bitmap_entry_bits=0), "limits.pamt_page_bitmap_entry_bits is 0", POSITIVE),
        ({**MINIMAL, "memory_regions": {}}, "memory_regions: expected a list or null", None),
        ({**MINIMAL, "memory_regions": [7]}, "memory_regions[0] is 7", REGION_HINT),
        ({**MINIMAL, "memory_regions": [[0, 1]]}, "memory_regions[0] is [0, 1]", REGION_HINT),
        ({**MINIMAL, "memory_regions": [[0, 1, 0, 0]]}, "memory_regions[0] is [0, 1, 0, 0]", REGION_HINT),
        (
            {**MINIMAL, "memory_regions": [[0, 1, 0], [-1, 1, 0]]},
            "memory_regions[1]: [-1, 1, 0] holds no 64-bit byte addresses",
            None,
        ),
        (
            {**MINIMAL, "memory_regions": [[0, (1 << 64) + 1, 0]]},
            f"memory_regions[0]: [0, {(1 << 64) + 1}, 0] holds no 64-bit byte addresses",
            None,
        ),
        (
            {**MINIMAL, "memory_regions": [["0x0", "0x1000", 0]]},
            "memory_regions[0]: ['0x0', '0x1000', 0] holds no 64-bit byte addresses",
            None,
        ),
        (
            {**MINIMAL, "memory_regions": [[False, True, 0]]},
            "memory_regions[0]: [False, True, 0] holds no 64-bit byte addresses",
            None,
        ),
        (
            {**MINIMAL, "memory_regions": [[2, 1, 0]]},
            "memory_regions[0] ends before it starts: [2, 1, 0]",
            None,
        ),
        (
            {**MINIMAL, "memory_regions": [[0, 8192, 0], [4096, 12288, 0]]},
            "memory_regions[1] starts at 4096, below the end 8192 of the one before",
            ORDER_HINT,
        ),
        (
            {**MINIMAL, "memory_regions": [[4096, 8192, 0], [0, 4096, 0]]},
            "memory_regions[1] starts at 0, below the end 8192 of the one before",
            ORDER_HINT,
        ),
        (
            {**MINIMAL, "memory_regions": [[0, 4096, 0], [0, 4096, 0]]},
            "memory_regions[1] starts at 0, below the end 4096 of the one before",
            ORDER_HINT,
        ),
        (
            {**MINIMAL, "memory_regions": [[0, 1, -1]]},
            "memory_regions[0]: node is -1",
            "a number or null is expected",
        ),
        (
            {**MINIMAL, "memory_regions": [[0, 1, False]]},
            "memory_regions[0]: node is False",
            "a number or null is expected",
        ),
        ({**MINIMAL, "cmrs": 0}, "cmrs: expected a list or null", None),
        ({**MINIMAL, "cmrs": [[0, 1], [0]]}, "cmrs[1] is [0]", CMR_HINT),
        ({**MINIMAL, "cmrs": [[0, -1]]}, "cmrs[0] is [0, -1]", CMR_HINT),
        ({**MINIMAL, "cmrs": [["0x0", 1]]}, "cmrs[0] is ['0x0', 1]", CMR_HINT),
        ({**MINIMAL, "cmrs": [[0, (1 << 64) + 1]]}, f"cmrs[0] is [0, {(1 << 64) + 1}]", CMR_HINT),
        ({**MINIMAL, "pamt_placement": "somewhere"}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "pamt_placement": None}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "pamt_placement": {"bases": 7}}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "pamt_placement": {"bases": ["0x0"]}}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "pamt_placement": {"bases": [-1]}}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "pamt_placement": {"bases": [], "more": 1}}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "pamt_placement": {}}, PLACEMENT, PLACEMENT_HINT),
        ({**MINIMAL, "sources": None}, "sources: expected a list, got null", None),
        (
            {**MINIMAL, "sources": [{}]},
            "sources[0]: source, origin, ok are missing",
            None,
        ),
        ({**MINIMAL, "firmware_map": [[0, 1]]}, "firmware_map[0]: 2 entries instead of 3", None),
        (
            {**MINIMAL, "kernel_log": {"state": "up"}},
            "kernel_log.state: 'up' is none of initialized, failed, not-attempted, unsupported, unknown",
            None,
        ),
        (
            {**MINIMAL, "kernel_log": {"errno": "x"}},
            "kernel_log.errno: expected an integer, got a string",
            None,
        ),
        ({**MINIMAL, "platform": {"cpus": 1.5}}, "platform.cpus: expected an integer, got a number", None),
        ({**MINIMAL, "log_health": 7}, "log_health: expected an object, got an integer", None),
        ({**MINIMAL, "command_line": "quiet"}, "command_line: expected a list, got a string", None),
        ({**MINIMAL, "disagreements": [{"a": "x"}]}, None, None),
    ],
)
def test_refusal(value: object, message: str | None, hint: str | None) -> None:
    """What cannot be used is refused with the part's name, what it is, and what to give."""
    with pytest.raises(FactsError) as caught:
        HostFacts.from_json(value)
    if message is not None:
        assert (caught.value.message, caught.value.hint) == (message, hint)


def test_refusal_is_one_line() -> None:
    """Text from the file cannot break the line or flood it."""
    for schema in ("a\nb", "x" * 10_000, ["\x1b[31m"] * 5_000):
        with pytest.raises(FactsError) as caught:
            HostFacts.from_json({**MINIMAL, "schema": schema})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400


def test_number_too_large_for_a_time() -> None:
    """A boot time that no float can hold is refused like any other misfit."""
    with pytest.raises(FactsError):
        HostFacts.from_json({**MINIMAL, "platform": {"boot_time": 10**400}})
