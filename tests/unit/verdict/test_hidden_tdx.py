# SPDX-License-Identifier: Apache-2.0
"""A TDX host under a kernel that does not show TDX, and one that had TDX in the boot before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, NoTdx
from tdx_headroom.facts.observations import LogHealth, Platform, TdxSeen
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.signs import tdx_gone, tdx_seen

ROOMY = (MemoryRegion(MIB, GIB, 0), MemoryRegion(4 * GIB, 12 * GIB, 0))
GENERIC = "6.8.0-101-generic"
FLAGLESS = Platform(tdx_host_platform=False)
WHOLE = LogHealth(whole_start=True)
ASKED = ("kvm_intel.tdx=1", "nohibernate")


def host(release: str | None, platform: Platform | None = FLAGLESS, **more: object) -> HostFacts:
    facts = HostFacts(memory_regions=ROOMY, kernel_release=release, platform=platform)
    return replace(facts, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            host(GENERIC, command_line=ASKED),
            "does not bring TDX up, so that nothing shows it here, but the com",
        ),
        (
            host(
                "6.12.74+deb13-amd64",
                replace(FLAGLESS, cpu_can_tdx=True, cpu_model="XEON(R) 6548Y+"),
            ),
            "its CPU (XEON(R) 6548Y+) is of a model that can have TDX",
        ),
        (host("5.15.0-101-generic", tdx_before=TdxSeen.UP), "TDX was up in the boot before"),
        (host("4.18.0-553.el8.x86_64", tdx_before=TdxSeen.SHOWN), "the boot before showed TDX"),
        (host("6.14.0-rc3-mine", command_line=ASKED), "is not known to bring TDX up"),
        (host(GENERIC, memory_regions=None, command_line=ASKED), "the command line asks for TDX"),
        (
            host(GENERIC, kernel_log=KernelReport(), log_health=WHOLE, command_line=ASKED),
            "asks for TDX",
        ),
    ],
)
def test_hidden_by_the_kernel(facts: HostFacts, words: str) -> None:
    """It is unknown, with what speaks for TDX and the advice to boot another kernel."""
    verdict = assess(facts).verdict
    assert (verdict.state, verdict.next_boot) == (State.CANNOT_TELL, None)
    assert words in verdict.summary
    assert any("Boot a kernel that initializes TDX" in remedy for remedy in verdict.remedies)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (host("6.17.0-20-generic"), "does not show tdx_host_platform"),
        (host("7.2.1"), "does not show tdx_host_platform"),
        (host("6.8.0-1010-intel", replace(FLAGLESS, cpu_can_tdx=True)), "does not show tdx_host_platform"),
        (host(GENERIC, replace(FLAGLESS, cpu_can_tdx=False, cpu_model="AMD EPYC 9754")), "(AMD EPYC 9754)"),
        (host(GENERIC, replace(FLAGLESS, virtual_machine=True, cpu_can_tdx=True)), "virtual machine"),
        (host(None, Platform(cpu_can_tdx=False)), "This CPU has no TDX"),
        (
            host("6.17.0", None, kernel_log=KernelReport(), log_health=WHOLE),
            "no KeyIDs",
        ),
    ],
)
def test_surely_without_tdx(facts: HostFacts, words: str) -> None:
    """Where a kernel would show it, or the hardware cannot have it."""
    verdict = assess(facts).verdict
    assert verdict.state is State.NOT_TDX
    assert words in verdict.summary


def test_nothing_speaks_for_tdx() -> None:
    """It is unknown all the same, and no kernel is recommended."""
    verdict = assess(host("6.12.0")).verdict
    assert verdict.state is State.CANNOT_TELL
    assert "kernel 6.12.0 may not show it" in verdict.summary
    assert verdict.remedies == ()


def test_hibernation_is_not_about_the_map() -> None:
    """It stops TDX on any: nothing says that the verdict is about the memory map alone."""
    platform = replace(FLAGLESS, hibernation=True)
    verdict = assess(host(GENERIC, platform, command_line=("quiet",))).verdict
    assert verdict.state is State.WILL_FAIL
    assert "can hibernate" in verdict.summary
    assert not [text for text in verdict.warnings if "alone" in text]


def test_a_map_that_fails_is_sure() -> None:
    """Whatever kernel shows it or not."""
    holed = tuple(MemoryRegion(GIB + n * MIB, GIB + n * MIB + MIB // 2, 0) for n in range(20))
    verdict = assess(host(GENERIC, memory_regions=(*holed, *ROOMY[1:]), command_line=ASKED)).verdict
    assert verdict.state is State.WILL_FAIL


def test_a_host_that_is_meant_for_tdx() -> None:
    """Where the kernel would show TDX and does not, it is said what speaks for it, and where to look."""
    verdict = assess(host("6.17.0-14-generic", command_line=ASKED)).verdict
    assert verdict.state is State.NOT_TDX
    assert "But the command line asks for TDX: in the BIOS, enable TME" in verdict.summary
    assert "But" not in assess(host("6.17.0-14-generic")).verdict.summary


def test_the_kernels_own_flag_is_the_surest_sign() -> None:
    """It outweighs the model, and what a hypervisor says."""
    platform = Platform(tdx_host_platform=True, cpu_can_tdx=False, virtual_machine=True)
    assert assess(host("6.17.0-14-generic", platform)).verdict.state is State.WILL_INITIALIZE


@pytest.mark.parametrize(
    ("log", "platform", "seen"),
    [
        (KernelReport(ModuleState.INITIALIZED), None, TdxSeen.UP),
        (None, Platform(tdx_module_version="2.0.8"), TdxSeen.UP),
        (KernelReport(ModuleState.FAILED, FailureReason.OTHER), None, TdxSeen.FAILED),
        (KernelReport(ModuleState.NOT_ATTEMPTED, keyids=(32, 64)), None, TdxSeen.NOT_TRIED),
        (KernelReport(keyids=(32, 64)), FLAGLESS, TdxSeen.SHOWN),
        (None, Platform(tdx_host_platform=True), TdxSeen.SHOWN),
        (KernelReport(ModuleState.UNSUPPORTED, no_tdx=NoTdx.TME), FLAGLESS, TdxSeen.NONE),
        (KernelReport(), FLAGLESS, TdxSeen.NONE),
        (None, Platform(tdx_host_platform=True, kvm_intel_tdx=False), TdxSeen.NOT_TRIED),
        (KernelReport(), Platform(tdx_host_platform=False, kvm_intel_tdx=False), TdxSeen.NONE),
        (KernelReport(), None, None),
        (None, None, None),
    ],
)
def test_what_is_seen(log: KernelReport | None, platform: Platform | None, seen: TdxSeen | None) -> None:
    """From nothing to all; unknown where there is nothing to look at."""
    health = None if log is None else LogHealth()
    assert tdx_seen(HostFacts(kernel_log=log, platform=platform, log_health=health)) is seen


def test_an_attempt_that_the_log_may_have_lost() -> None:
    """That TDX was not tried is not concluded from a log that has lost records."""
    facts = HostFacts(
        kernel_log=KernelReport(ModuleState.NOT_ATTEMPTED, keyids=(32, 64)), log_health=LogHealth(lost=3)
    )
    assert tdx_seen(facts) is TdxSeen.SHOWN


@pytest.mark.parametrize(
    ("before", "now", "gone"),
    [
        ("up", "none", True),
        ("up", "not-tried", True),
        ("up", "failed", False),
        ("up", "up", False),
        ("up", "shown", None),
        ("shown", "none", False),
        ("not-tried", "none", False),
        ("failed", "none", False),
        ("shown", "not-tried", False),
        ("none", "none", False),
        ("none", "up", False),
        (None, "none", None),
        ("up", None, None),
    ],
)
def test_gone(before: str | None, now: str | None, *, gone: bool | None) -> None:
    """TDX has gone when it was there and is not tried any more; a failure has its own alert."""
    assert tdx_gone(*(TdxSeen(word) if word else None for word in (before, now))) is gone
