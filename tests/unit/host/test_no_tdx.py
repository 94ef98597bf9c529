# SPDX-License-Identifier: Apache-2.0
"""Logs that settle it: no TDX here, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.kernel_report import ModuleState, NoTdx
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from pathlib import Path

    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.verdict.model import Verdict

KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
AMD = "smpboot: CPU0: AMD EPYC 9754 128-Core Processor (family: 0x19, model: 0xa0, stepping: 0x2)"
KABY_LAKE = (
    "smpboot: CPU0: Intel(R) Xeon(R) CPU E3-1280 v6 @ 3.90GHz (family: 0x6, model: 0x9e, stepping: 0x9)"
)


def look_at(*messages: str) -> tuple[KernelReport, Verdict]:
    text = "".join(f"[    0.{n:06}] {message}\n" for n, message in enumerate(messages))
    facts = facts_from_log(read_log_file("log", text))
    assert facts.kernel_log is not None
    return facts.kernel_log, assess(facts).verdict


@pytest.mark.parametrize(
    ("line", "why", "said"),
    [
        ("tdx: Guest detected", NoTdx.GUEST, "give the log of the host"),
        ("virt/tdx: TDX not supported by the host platform", NoTdx.PLATFORM, "does not support TDX"),
        ("tdx: Cannot enable TDX on TDX disabled platform", NoTdx.DISABLED, "Sapphire Rapids or a later"),
        ("tdx: Cannot enable TDX with SEAMRR disabled", NoTdx.DISABLED, "the BIOS has not enabled it"),
        ("virt/tdx: XSAVE is required for TDX", NoTdx.CPU_FEATURE, "XSAVE is required"),
        ("x86/tme: not enabled by BIOS", NoTdx.TME, "enable TME, TME-MT and TDX"),
        (AMD, NoTdx.CPU, "AMD EPYC 9754"),
        (KABY_LAKE, NoTdx.CPU, "E3-1280 v6"),
        (
            "smpboot: CPU0: Intel(R) Xeon(R) CPU E5-2690 v3 @ 2.60GHz (fam: 06, model: 3f, stepping: 02)",
            NoTdx.CPU,
            "E5-2690",
        ),
        (
            "smpboot: CPU0: Intel(R) Xeon(R) Silver 4314 (family: 0x6, model: 0x6a, stepping: 0x6)",
            NoTdx.CPU,
            "Silver 4314",
        ),
        ("Performance Events: Fam17h+ core perfctr, AMD PMU driver.", NoTdx.CPU, "AMD PMU driver"),
        ("DMI: HPE ProLiant DL325 Gen10/ProLiant DL325 Gen10, BIOS A41 06/07/2018", NoTdx.CPU, "DL325"),
        ("DMI: HP ProLiant BL465c G7, BIOS A19 12/02/2011", NoTdx.CPU, "BL465c"),
        ("DMI: Dell Inc. PowerEdge R7625/0NWPMW, BIOS 1.6.8 01/05/2024", NoTdx.CPU, "R7625"),
    ],
)
def test_a_sign_that_settles_it(line: str, why: NoTdx, said: str) -> None:
    """One such line is enough for "no TDX here", and the verdict says why."""
    report, verdict = look_at("hello", line)
    assert (report.state, report.no_tdx, report.message) == (
        ModuleState.UNSUPPORTED,
        why,
        line.removeprefix("smpboot: "),
    )
    assert verdict.state is State.NOT_TDX
    assert said in verdict.summary


@pytest.mark.parametrize(
    "line",
    [
        "smpboot: CPU0: INTEL(R) XEON(R) GOLD 6548Y+ (family: 0x6, model: 0xcf, stepping: 0x2)",
        "smpboot: CPU0: Intel(R) Xeon(R) Platinum 8480+ (family: 0x6, model: 0x8f, stepping: 0x8)",
        "smpboot: CPU0: Intel(R) Xeon(R) 6747P (family: 0x6, model: 0xad, stepping: 0x1)",
        "smpboot: CPU0: Intel(R) Future (family: 0x13, model: 0x1, stepping: 0x1)",
        "smpboot: CPU0: Centaur? (family: 0x6, model: 0x3f, stepping: 0x1)",
        "x86/tme: enabled by BIOS",
        "app: x86/tme: not enabled by BIOS",
        "AMD-Vi: AMD IOMMUv2 functionality not available on this system - This is not a bug.",
        "Performance Events: PEBS fmt4+-baseline, Sapphire Rapids events, Intel PMU driver.",
        "  AMD AuthenticAMD",
        "DMI: Dell Inc. PowerEdge R760/0NH8MJ, BIOS 2.9.4 12/15/2025",
        "DMI: HPE ProLiant DL380a Gen12/ProLiant DL380a Gen12, BIOS 1.20 02/14/2025",
    ],
)
def test_no_sign(line: str) -> None:
    """A CPU that may have TDX, and what only looks like a sign, settle nothing."""
    report, verdict = look_at("hello", line)
    assert (report.state, report.no_tdx) == (ModuleState.UNKNOWN, None)
    assert verdict.state is State.CANNOT_TELL


@pytest.mark.parametrize("sign", [AMD, KABY_LAKE, "x86/tme: not enabled by BIOS"])
def test_a_sign_among_lines_of_tdx_does_not_count(sign: str) -> None:
    """Whatever the CPU is called: a log that shows KeyIDs is one of a host with TDX."""
    report, _ = look_at(sign, KEYIDS)
    assert (report.state, report.no_tdx) == (ModuleState.NOT_ATTEMPTED, None)
    report, _ = look_at(KEYIDS, "virt/tdx: module initialization failed (-28)", "tdx: Guest detected")
    assert report.state is ModuleState.FAILED


def test_a_cpu_that_is_named_after_the_boot_does_not_count() -> None:
    """Once processes run, a line that only a starting kernel prints is none of its own."""
    for sign in (AMD, "Performance Events: AMD PMU driver."):
        report, _ = look_at("smp: Brought up 1 node, 2 CPUs", sign)
        assert report.state is ModuleState.UNKNOWN


def test_a_guest_by_its_cpu(tmp_path: Path) -> None:
    """The flag tdx_guest tells a guest, whatever is left of its log."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu tdx_guest\n\n")
    verdict = assess(read_facts(Root(tmp_path))).verdict
    assert verdict.state is State.NOT_TDX
    assert "This is a TDX guest" in verdict.summary
