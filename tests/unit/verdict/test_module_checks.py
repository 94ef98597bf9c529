# SPDX-License-Identifier: Apache-2.0
"""What the TDX module and the platform refuse, and what to do about each status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.host_facts import HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, SeamcallFailure
from tdx_headroom.facts.observations import Platform
from tdx_headroom.facts.sources import SourceStatus
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import ModuleStatus, Strategy
from tdx_headroom.plan.module import accepts_cmrs
from tdx_headroom.sources.platform import parse_address_bits
from tdx_headroom.sources.reduce import cpuinfo
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.decode import KERNELS_PLAN, describe_seamcall, is_persistent, remedies_for
from tdx_headroom.verdict.findings import RemedyKind
from tdx_headroom.verdict.fleet import Fit, audit_host, targets_of
from tdx_headroom.verdict.what_if import WhatIf

HOSTS = Path(__file__).parents[2] / "hosts"
EMR = read_facts(Root(HOSTS / "emerald-rapids"))
REGIONS = (MemoryRegion(MIB, GIB, 0), MemoryRegion(4 * GIB, 12 * GIB, 0))
ROOMY = HostFacts(memory_regions=REGIONS)
LOW, HIGH = (MIB, GIB - MIB), (4 * GIB, 8 * GIB)
KEYIDS = (32, 64)
SILENT = KernelReport(ModuleState.NOT_ATTEMPTED, keyids=KEYIDS)


@pytest.mark.parametrize(
    ("cmrs", "accepted"),
    [
        ((LOW, HIGH), True),
        ((LOW, HIGH, (0, 0), (0, 0)), True),
        (((MIB, GIB - MIB), (GIB, GIB), HIGH), True),
        ((HIGH, LOW), False),
        ((LOW, (GIB - 4096, GIB), HIGH), False),
        ((LOW, (4 * GIB + 512, 8 * GIB)), False),
        ((LOW, (4 * GIB, 8 * GIB + 1)), False),
        ((LOW, LOW, HIGH), False),
    ],
    ids=["plain", "empty tail", "touching", "order", "overlap", "base", "size", "twice"],
)
def test_tables_that_the_module_takes(cmrs: tuple[tuple[int, int], ...], *, accepted: bool) -> None:
    """Another table is a failure on any memory map and kernel, the BIOS's to mend, and no kernel helps."""
    assert accepts_cmrs(cmrs) is accepted
    facts = replace(ROOMY, cmrs=cmrs, kernel_log=SILENT)
    verdict = assess(facts).verdict
    kinds = [finding.kind for finding in verdict.findings]
    assert ("cmr-table-invalid" in kinds) is not accepted
    if not accepted:
        assert verdict.next_boot is State.WILL_FAIL
        assert "TDX_CMR_LIST_INVALID" in verdict.summary
        assert verdict.remedies[0].startswith("The BIOS has set the platform up")
        up = KernelReport(ModuleState.INITIALIZED, keyids=KEYIDS)
        found = assess(replace(facts, kernel_log=up)).verdict.findings
        assert "cmr-table-invalid" not in {finding.kind for finding in found}


def test_no_kernel_is_recommended_for_a_table_that_no_kernel_mends() -> None:
    """A host whose holes are too many under mainline is not sent to a kernel that looks at such CMRs."""
    facts = replace(EMR, kernel_log=SILENT, kernel_release="6.17.0")
    assert any("Boot a kernel that looks at CMRs" in text for text in assess(facts).verdict.remedies)
    assert facts.cmrs is not None
    broken = replace(facts, cmrs=(*facts.cmrs[:2], facts.cmrs[1], *facts.cmrs[2:]))
    assert not any("looks at CMRs" in text for text in assess(broken).verdict.remedies)
    audit = audit_host(broken, "x", None, targets_of(()))
    assert set(audit.strategies.values()) == {Fit.WILL_FAIL}
    assert [result.fit for result in audit.targets] == [Fit.WILL_FAIL, Fit.WILL_FAIL]


@pytest.mark.parametrize(
    ("version", "cmr_end", "cmrs_known", "state"),
    [
        ("1.0.03.03", GIB // 2, True, State.WILL_FAIL),
        ("1.0", GIB // 2, True, State.WILL_FAIL),
        ("1.0.05", GIB // 2, False, State.AT_RISK),
        ("1.0.03.03", GIB, True, State.AT_RISK),
        ("1.5.06", GIB // 2, True, State.AT_RISK),
        ("1.01", GIB // 2, True, State.AT_RISK),
        (None, GIB // 2, True, State.AT_RISK),
    ],
)
def test_a_full_tdmr_under_the_first_module(
    version: str | None, cmr_end: int, *, cmrs_known: bool, state: State
) -> None:
    """With the last area at the TDMR's end, module 1.0 wants a CMR there; others do not look."""
    facts = HostFacts(
        limits=Limits(64, 2),
        memory_regions=(MemoryRegion(MIB, GIB // 2, 0), MemoryRegion(4 * GIB, 12 * GIB, 0)),
        pamt_placement=Placement.NONE,
        kernel_log=replace(SILENT, module_version=version),
        cmrs=((MIB, cmr_end - MIB), HIGH) if cmrs_known else None,
    )
    verdict = assess(facts).verdict
    assert verdict.next_boot is state
    told = [finding for finding in verdict.findings if finding.kind == "full-tdmr"]
    first = version is not None and version.split(".")[:2] == ["1", "0"]
    assert bool(told) is (first and cmr_end != GIB)


NAMES = {
    0x80000203: "TDX_RND_NO_ENTROPY",
    0xC000050A: "TDX_SYS_INCOMPATIBLE_SIGSTRUCT",
    0xC000050F: "TDX_INCOMPATIBLE_SEAM_FEATURES",
    0xC0000511: "TDX_CRYPTO_SELF_TEST_FAILED",
    0xC0000825: "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED",
    0xC0000901: "TDX_LIMIT_CPUID_MAXVAL_SET",
    0xC0000904: "TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED",
    0xC0000905: "TDX_INVALID_WBINVD_SCOPE",
    0xC0000913: "TDX_SMRR_LOCK_NOT_SUPPORTED",
    0xC0000914: "TDX_SMRR_NOT_SUPPORTED",
    0xC0000A22: "TDX_CMR_LIST_INVALID",
}


@pytest.mark.parametrize("status", NAMES)
def test_codes_of_bringing_up_have_names(status: int) -> None:
    """None of them prints as a bare number."""
    told = describe_seamcall(SeamcallFailure(0x21, status << 32))
    assert told == f"TDH.SYS.INIT returned {NAMES[status]}"


@pytest.mark.parametrize(
    ("leaf", "name"), [(0x34, "TDH.SYS.SHUTDOWN"), (0x35, "TDH.SYS.UPDATE"), (0x45, "TDH.SYS.DISABLE")]
)
def test_leaves_have_names(leaf: int, name: str) -> None:
    """Also those of shutting down and updating."""
    assert describe_seamcall(SeamcallFailure(leaf, 0x80000200 << 32)) == f"{name} returned TDX_OPERAND_BUSY"


def failed(leaf: int, status: int) -> KernelReport:
    call = SeamcallFailure(leaf, status << 32)
    return KernelReport(ModuleState.FAILED, FailureReason.SEAMCALL, -5, keyids=KEYIDS, seamcall=call)


@pytest.mark.parametrize(
    ("leaf", "status", "kind", "words"),
    [
        (0x2D, 0xC0000A02, RemedyKind.CONVERTIBLE_MEMORY, "make all memory convertible"),
        (0x2D, 0xC0000A11, RemedyKind.CONVERTIBLE_MEMORY, "make all memory convertible"),
        (0x2D, 0xC0000A00, RemedyKind.LOOK_FURTHER, "The kernel's own plan is at fault"),
        (0x2D, 0xC0000A21, RemedyKind.LOOK_FURTHER, "The kernel's own plan is at fault"),
        (0x2D, 0xC0000502, RemedyKind.REMOVE_ARGUMENTS, "Have every CPU online"),
        (0x21, 0xC0000A22, RemedyKind.FIRMWARE_SETTING, "update the BIOS"),
        (0x23, 0xC0000912, RemedyKind.FIRMWARE_SETTING, "update the BIOS"),
        (0x21, 0xC0000901, RemedyKind.FIRMWARE_SETTING, "limit of CPUID"),
        (0x21, 0xC0000825, RemedyKind.FIRMWARE_SETTING, "fewer of the KeyIDs"),
        (0x21, 0xC000050A, RemedyKind.UPDATE_MODULE, "Update the TDX module"),
        (0x22, 0xC0000C00, RemedyKind.UPDATE_MODULE, "does not know a field"),
        (0x22, 0xC0000505, RemedyKind.UPDATE_MODULE, "Update the TDX module"),
        (0x21, 0xC0000505, RemedyKind.BOOT_AGAIN, "not by kexec"),
        (0x23, 0x80000203, RemedyKind.BOOT_AGAIN, "short of entropy"),
        (0x23, 0xC0000511, RemedyKind.LOOK_FURTHER, "machine's vendor"),
    ],
)
def test_each_status_has_its_own_remedy(leaf: int, status: int, kind: RemedyKind, words: str) -> None:
    """What is the BIOS's, the kernel's and the module's is told apart."""
    (remedy,) = remedies_for(failed(leaf, status))
    assert remedy.kind is kind
    assert words in remedy.text


@pytest.mark.parametrize(("status", "lasts"), [(0x80000203, False), (0x80000202, False), (0xC0000912, True)])
def test_what_may_be_gone_at_the_next_try(status: int, *, lasts: bool) -> None:
    """Bit 62 of a status says that trying again is of no use."""
    log = failed(0x23, status)
    assert is_persistent(log) is lasts
    verdict = assess(replace(ROOMY, kernel_log=log)).verdict
    assert verdict.next_boot is (State.WILL_FAIL if lasts else State.AT_RISK)


def test_a_plan_is_rejected_for_more_than_memory() -> None:
    """Memory is to be made convertible only where the module says that it is not."""
    outside = assess(replace(ROOMY, cmrs=(LOW,)))
    plan = outside.plans[Strategy.MEMORY_REGIONS]
    assert plan is not None
    assert plan.module is not None
    assert plan.module.status is ModuleStatus.PAMT_OUTSIDE_CMRS
    assert any("make all memory convertible" in text for text in outside.verdict.remedies)
    high = MemoryRegion((1 << 52) - GIB, (1 << 52) + GIB, 0)
    beyond = assess(replace(ROOMY, memory_regions=(*REGIONS, high), cmrs=(LOW, HIGH)))
    plan = beyond.plans[Strategy.MEMORY_REGIONS]
    assert plan is not None
    assert plan.module is not None
    assert plan.module.status is ModuleStatus.INVALID_TDMR
    assert beyond.verdict.remedies == (KERNELS_PLAN.text,)


@pytest.mark.parametrize(
    ("bits", "state", "words"),
    [
        (46, State.WILL_INITIALIZE, ""),
        (48, State.WILL_INITIALIZE, ""),
        (49, State.CANNOT_TELL, "this one has 49"),
        (52, State.CANNOT_TELL, "this one has 52"),
        (None, State.CANNOT_TELL, "is unknown"),
    ],
)
def test_dynamic_pamt_needs_few_address_bits(bits: int | None, state: State, words: str) -> None:
    """Nothing is promised for a form of PAMT that the kernel will not use, or may not."""
    sources = (SourceStatus("iomem", "/proc/iomem", ok=True),)
    platform = Platform(tdx_host_platform=True, physical_address_bits=bits)
    facts = replace(ROOMY, sources=sources, platform=platform, kernel_release="7.3.0")
    assert assess(facts).verdict.state is State.WILL_INITIALIZE
    verdict = assess(facts, WhatIf(dynamic_pamt=True)).verdict
    assert verdict.state is state
    assert words in verdict.summary
    # The kernel itself has said that it uses it.
    said = replace(facts, kernel_log=replace(SILENT, dynamic_pamt=True))
    assert assess(said, WhatIf(dynamic_pamt=True)).verdict.state is State.WILL_INITIALIZE


@pytest.mark.parametrize(
    ("row", "bits"),
    [
        ("address sizes\t: 46 bits physical, 57 bits virtual\n", 46),
        ("address sizes : 52 bits physical, 48 bits virtual\n", 52),
        ("address sizes\t: many bits physical\n", None),
        ("", None),
    ],
)
def test_address_sizes_of_cpuinfo(row: str, bits: int | None) -> None:
    """They are read of the first processor, and a capture keeps them."""
    text = f"processor\t: 0\n{row}flags\t: fpu\n\nprocessor\t: 1\naddress sizes\t: 40 bits physical, 48\n"
    assert parse_address_bits(text) == bits
    assert parse_address_bits(cpuinfo(text)) == bits
