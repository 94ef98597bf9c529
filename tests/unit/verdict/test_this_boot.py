# SPDX-License-Identifier: Apache-2.0
"""What happened in this boot speaks about the next one, also where the memory map is unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import (
    Contradiction,
    ContradictionKind,
    FailureReason,
    KernelReport,
    ModuleState,
    SeamcallFailure,
)
from tdx_headroom.facts.observations import LogHealth, Origin, Suspect
from tdx_headroom.host.choose import facts_from_log
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.fleet import Fit, audit_host, targets_of
from tdx_headroom.verdict.what_if import WhatIf

KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [64, 128)"
INTEL = "Linux version 6.14.0-1009-intel (buildd@lcy02) #9"
PATCHED = "Linux version 6.8.0-1010-intel (buildd@lcy02) #10"
EXHAUSTED = "virt/tdx: initialization failed: TDMR [0x40000000, 0x80000000): reserved areas exhausted."
FAILED = "virt/tdx: module initialization failed (-28)"


def pasted(*messages: str) -> HostFacts:
    text = "".join(f"[   12.{number:06}] {message}\n" for number, message in enumerate(messages))
    return facts_from_log(read_log_file("pasted", text))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (pasted(KEYIDS, EXHAUSTED, FAILED), "TDMR [0x40000000, 0x80000000) needs more reserved areas"),
        (pasted(INTEL, KEYIDS, EXHAUSTED, FAILED), "TDMR [0x40000000, 0x80000000) needs more reserved areas"),
        (pasted(KEYIDS, "virt/tdx: initialization failed: TDMRs exhausted.", FAILED), "more TDMRs than"),
        (
            pasted(
                KEYIDS,
                "virt/tdx: SEAMCALL (0x000000000000002d) failed: 0xc0000a0200000001",
                "virt/tdx: module initialization failed (-5)",
            ),
            "TDX_TDMR_OUTSIDE_CMRS",
        ),
        (
            pasted(KEYIDS, "virt/tdx: module not loaded", "virt/tdx: module initialization failed (-19)"),
            "has not loaded the TDX module",
        ),
        (
            pasted(KEYIDS, "virt/tdx: initialization failed: Hibernation support is enabled"),
            "can hibernate",
        ),
    ],
)
def test_a_failure(facts: HostFacts, words: str) -> None:
    """The next one fails for the same reason, here and in the fleet, with something to do about it."""
    verdict = assess(facts).verdict
    assert (verdict.state, verdict.next_boot) == (State.FAILED, State.WILL_FAIL)
    assert words in verdict.summary
    assert verdict.remedies
    own = audit_host(facts, "pasted", None, targets_of(())).targets[0]
    assert own.fit is Fit.WILL_FAIL
    assert words in own.why


def test_advice_without_a_map() -> None:
    """Kernels that do with fewer areas are for a host whose kernel does not look at CMRs."""
    first, *others = assess(pasted(INTEL, KEYIDS, EXHAUSTED, FAILED)).verdict.remedies
    assert "Ubuntu 6.8.0 intel from -1006 on (not 6.14)" in first
    assert any("below 4 GiB" in text for text in others)
    patched = assess(pasted(PATCHED, KEYIDS, EXHAUSTED, FAILED)).verdict
    assert not [text for text in patched.remedies if "Boot a kernel" in text]
    assert patched.next_boot is State.WILL_FAIL


def test_another_kernel_is_another_question() -> None:
    """What happened under one kernel says nothing sure about another."""
    facts = pasted(INTEL, KEYIDS, EXHAUSTED, FAILED)
    assert assess(facts, WhatIf(kernel="6.8.0-1010-intel")).verdict.next_boot is None
    mainline = audit_host(facts, "pasted", None, targets_of(())).targets[1]
    assert mainline.fit is Fit.CANNOT_TELL


@pytest.mark.parametrize(
    ("facts", "following"),
    [
        (
            pasted(KEYIDS, "virt/tdx: 1050644 KB allocated for PAMT", "virt/tdx: module initialized"),
            "will-initialize",
        ),
        (pasted(INTEL, KEYIDS, "virt/tdx: TDX-Module initialized"), "will-initialize"),
        (pasted(KEYIDS, "virt/tdx: something failed in the middle", "virt/tdx: module initialized"), None),
        (pasted(KEYIDS), None),
    ],
)
def test_a_success(facts: HostFacts, following: str | None) -> None:
    """The same kernel brings TDX up again; not where a line may tell of a failure, nor where none tried."""
    verdict = assess(facts).verdict
    assert verdict.next_boot == following
    if following:
        assert verdict.state is State.INITIALIZED
        assert any("only the map can tell" in text for text in verdict.warnings)


def test_an_excerpt_promises_nothing() -> None:
    """A few lines in prose may be anybody's."""
    report = KernelReport(ModuleState.INITIALIZED, keyids=(32, 64))
    facts = pasted(KEYIDS)
    facts = replace(facts, kernel_log=report, log_health=LogHealth(excerpt=True))
    assert assess(facts).verdict.next_boot is None


@pytest.mark.parametrize(
    "changes",
    [
        {"keyids": None},
        {"contradictions": (Contradiction(ContradictionKind.SECOND_BOOT, "x"),)},
        {"kvm_failed": True},
    ],
)
def test_a_success_that_may_be_anybodys(changes: dict[str, Any]) -> None:
    """A line alone, a second boot or host in the same text, and a KVM that gave up promise nothing."""
    report = replace(KernelReport(ModuleState.INITIALIZED, keyids=(32, 64)), **changes)
    verdict = assess(HostFacts(kernel_log=report, log_health=LogHealth())).verdict
    assert verdict.next_boot is None
    assert not [text for text in verdict.remedies if "QEMU" in text and report.kvm_failed]


def test_a_line_in_prose() -> None:
    """What somebody expected is nobody's success."""
    text = "Expected result:\n[   11.746190] virt/tdx: module initialized\nActual result: no such line\n"
    assert assess(facts_from_log(read_log_file("x", text))).verdict.next_boot is None


@pytest.mark.parametrize("status", ["c000050200000000", "8000020000000000", "8000020300000000"])
def test_a_call_that_no_map_has_failed(status: str) -> None:
    """What TDH.SYS.CONFIG refuses for another reason is not laid to the memory map."""
    facts = pasted(
        KEYIDS,
        f"virt/tdx: SEAMCALL (0x000000000000002d) failed: 0x{status}",
        "virt/tdx: module initialization failed (-5)",
    )
    texts = [finding.text for finding in assess(facts).verdict.findings]
    assert not [text for text in texts if "memory map fails again" in text]


def test_what_is_missing_is_named() -> None:
    """Where the map is known and the CMRs are not, they are what would tell."""
    up = pasted(PATCHED, KEYIDS, "virt/tdx: module initialized")
    facts = replace(up, memory_regions=(MemoryRegion(1 << 20, 1 << 36, 0),))
    assert any("only the CMRs can tell" in text for text in assess(facts).verdict.warnings)


def test_what_the_module_has_refused_it_refuses_again() -> None:
    """TDH.SYS.CONFIG has refused this very map: it will, though the plan fits where the CMRs are unknown."""
    refused = KernelReport(
        ModuleState.FAILED,
        FailureReason.SEAMCALL,
        -5,
        seamcall=SeamcallFailure(0x2D, 0xC0000A02_00000001),
    )
    facts = HostFacts(
        kernel_release="7.3.0",
        kernel_log=refused,
        memory_regions=(MemoryRegion(MIB, 2 * GIB, 0), MemoryRegion(4 * GIB, 12 * GIB, 0)),
    )
    verdict = assess(facts).verdict
    assert (verdict.state, verdict.next_boot) == (State.FAILED, State.WILL_FAIL)
    assert "fails-again" in [finding.kind for finding in verdict.findings]
    late = replace(facts, suspects=(Suspect(4 * GIB, 12 * GIB, Origin.KMEM, "dax0.0", late=True),))
    assert "fails-again" not in [finding.kind for finding in assess(late).verdict.findings]
