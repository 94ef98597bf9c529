# SPDX-License-Identifier: Apache-2.0
"""What a verdict must not claim, and what it must say where there is nothing to compute."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState
from tdx_headroom.facts.observations import Platform
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.page import render_page
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.what_if import WhatIf

LOGS = Path(__file__).parents[2] / "field" / "logs"
ROOMY = (MemoryRegion(MIB, GIB, 0), MemoryRegion(4 * GIB, 12 * GIB, 0))
CMRS = (Range(MIB, GIB), Range(4 * GIB, 12 * GIB))
KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)\n"
MAP = (
    "BIOS-provided physical RAM map:\n"
    "BIOS-e820: [mem 0x0000000000000000-0x000000007fffffff] usable\n"
    "BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable\n"
)
ASKS = "Command line: root=/dev/sda {}\n"
START = f"Linux version 6.16.0 (gcc)\n{ASKS.format('quiet')}{MAP}"
RUNNING = "smp: Brought up 2 nodes, 64 CPUs\n"


def of_log(text: str, what_if: WhatIf | None = None) -> Assessment:
    facts = facts_from_log(read_log_file("log", text))
    return assess(facts, what_if) if what_if else assess(facts)


def test_a_whole_start_without_keyids_is_no_tdx_host() -> None:
    """The kernel names the KeyIDs before it starts the other processors: without them there is no TDX."""
    verdict = of_log(START + RUNNING).verdict
    assert (verdict.state, verdict.next_boot, verdict.remedies) == (State.NOT_TDX, None, ())
    assert "no KeyIDs" in verdict.summary


@pytest.mark.parametrize(
    "text",
    [
        START + "later\n",
        MAP + RUNNING,
        f"{START}{KEYIDS}{RUNNING}",
        f"{START}{RUNNING}virt/tdx: 1050644 KB allocated for PAMT\n",
        f"{START}{RUNNING}virt/tdx: Module version: 1.5.24\nlater\n",
    ],
    ids=["end missing", "head missing", "KeyIDs", "initialized", "version"],
)
def test_a_cut_log_proves_nothing(text: str) -> None:
    """A log that lacks its beginning or its end, or that shows TDX, is not taken for a host without."""
    assert of_log(text).verdict.state is not State.NOT_TDX


def test_a_map_that_fits_is_no_promise_on_any_server() -> None:
    """A log with a map that fits and not a word of TDX may be of a host without; one that fails, fails."""
    for text in (START + "later\n", (LOGS / "neighbour-icx-r750xs.log").read_text()):
        verdict = of_log(text).verdict
        assert (verdict.state, verdict.next_boot) == (State.CANNOT_TELL, None)
        assert "Nothing shows that this host can do TDX" in verdict.summary
    assert of_log(START + KEYIDS).verdict.state is State.WILL_INITIALIZE
    assert assess(HostFacts(memory_regions=ROOMY)).verdict.state is State.WILL_INITIALIZE
    assert of_log(START + "later\n", WhatIf(max_tdmrs=1)).verdict.state is State.WILL_FAIL


@pytest.mark.parametrize(("release", "warned"), [("6.12.0", True), ("6.16.0", False), ("7.1.0", False)])
def test_a_kernel_that_never_tries_is_named(release: str, *, warned: bool) -> None:
    """Mainline before 6.16 does not initialize TDX at all: a plan that fits is no promise there."""
    facts = HostFacts(memory_regions=ROOMY)
    warnings = assess(facts, WhatIf(kernel=release)).verdict.warnings
    assert any("never initializes TDX" in w for w in warnings) is warned


@pytest.mark.parametrize(
    ("release", "warned"),
    [("5.15.0", True), ("6.7.12-x", True), ("5.14.0-570.el9.x86_64", False), ("6.4.0-150600.21", False)],
)
def test_a_kernel_before_tdx_is_named(release: str, *, warned: bool) -> None:
    """Mainline before 6.8 has no TDX for hosts, vendors' kernels may; those in the table do."""
    facts = HostFacts(memory_regions=ROOMY, cmrs=CMRS)
    warnings = assess(facts, WhatIf(kernel=release)).verdict.warnings
    assert any("only if its vendor has put it in" in w for w in warnings) is warned


def test_a_missing_cpu_flag_may_be_hibernations_doing() -> None:
    """The flag is not set either on a TDX host that can hibernate; unless the log is there to tell."""
    facts = HostFacts(memory_regions=ROOMY, platform=Platform(tdx_host_platform=False, hibernation=True))
    facts = replace(facts, kernel_release="6.17.0")
    assert "boot with nohibernate" in assess(facts).verdict.summary
    without = replace(facts, platform=Platform(tdx_host_platform=False, hibernation=False))
    assert "nohibernate" not in assess(without).verdict.summary


def test_a_cpu_feature_may_be_switched_off() -> None:
    """A host with KeyIDs whose CPU lacks a feature gets told where to look for it."""
    verdict = of_log(f"{KEYIDS}virt/tdx: MOVDIR64B is required for TDX\n").verdict
    assert verdict.state is State.NOT_TDX
    assert "MOVDIR64B" in verdict.summary
    assert "clearcpuid=" in verdict.remedies[0]


def test_hibernation_did_not_stop_what_is_up() -> None:
    """Where TDX is up although the kernel can hibernate, hibernation is no obstacle on that kernel."""
    log = KernelReport(ModuleState.INITIALIZED, keyids=(32, 64))
    platform = Platform(tdx_host_platform=True, hibernation=True)
    facts = HostFacts(memory_regions=ROOMY, platform=platform, command_line=(), kernel_log=log)
    assert assess(facts).verdict.next_boot is State.WILL_INITIALIZE
    failed = KernelReport(ModuleState.FAILED, FailureReason.NO_MEMORY, -12, keyids=(32, 64))
    assert assess(replace(facts, kernel_log=failed)).verdict.next_boot is State.AT_RISK
    # Another kernel may look at it.
    assert assess(facts, WhatIf(kernel="7.2.0")).verdict.next_boot is State.WILL_FAIL


@pytest.mark.parametrize("name", ["acompany-r660-617-hibernation", "canonical-tdx-102", "lkml-no-rbp-mod"])
def test_what_stops_tdx_stops_it_on_any_memory_map(name: str) -> None:
    """A blocker decides the next boot although the memory map is unknown, and the page says so."""
    assessment = of_log((LOGS / f"{name}.log").read_text())
    assert assessment.facts.memory_regions is None
    assert (assessment.verdict.state, assessment.verdict.next_boot) == (State.FAILED, State.WILL_FAIL)
    assert "TDX is down, and will fail again" in render_page(assessment)


@pytest.mark.parametrize("reason", FailureReason)
@pytest.mark.parametrize("memory", [None, ROOMY], ids=["no map", "a map"])
def test_every_failure_comes_with_something_to_do(
    reason: FailureReason, memory: tuple[MemoryRegion, ...] | None
) -> None:
    """Whatever the kernel's reason, and whether or not there is a plan, a failed host gets a remedy."""
    log = KernelReport(ModuleState.FAILED, reason, keyids=(32, 64))
    verdict = assess(HostFacts(memory_regions=memory, kernel_log=log)).verdict
    assert verdict.remedies, reason


@pytest.mark.parametrize(
    ("release", "platform", "words"),
    [
        ("7.1.0", Platform(tdx_host_platform=True), "initializes TDX at boot"),
        ("6.16.0", Platform(tdx_host_platform=True, enable_virt_at_load=False), "enable_virt_at_load"),
        ("6.16.0", Platform(tdx_host_platform=True, kvm_intel_tdx=False), "load kvm_intel with tdx=1"),
        ("6.12.0", None, "boot 6.16 or later"),
    ],
)
def test_why_nothing_was_tried(release: str, platform: Platform | None, words: str) -> None:
    """A host with KeyIDs and no attempt gets the likely cause for its kernel."""
    log = KernelReport(ModuleState.NOT_ATTEMPTED, keyids=(32, 64))
    facts = HostFacts(kernel_release=release, memory_regions=ROOMY, platform=platform, kernel_log=log)
    assert words in " ".join(assess(facts).verdict.remedies)


def tree(folder: Path, **files: str) -> Root:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Root(folder)


@pytest.mark.parametrize(
    "files",
    [
        {"proc__iomem": "00100000-7fffffff : System RAM\n"},
        {"sys__kernel__debug__memblock__memory": "   0: 0x0000000000100000..0x000000007fffffff\n"},
        {
            "sys__firmware__memmap__0__start": "0x100000",
            "sys__firmware__memmap__0__end": "0x7fffffff",
            "sys__firmware__memmap__0__type": "System RAM",
        },
    ],
    ids=["iomem", "memblock", "memmap"],
)
def test_a_map_alone_is_no_promise(tmp_path: Path, files: dict[str, str]) -> None:
    """Without log and CPU it may be any machine's; the CPU's flag shows TDX."""
    verdict = assess(read_facts(tree(tmp_path, **files))).verdict
    assert (verdict.state, verdict.next_boot) == (State.CANNOT_TELL, None)
    assert "there is neither its log nor the flags of its CPU" in verdict.summary
    assert "The one TDMR fits" in verdict.summary
    root = tree(tmp_path, proc__cpuinfo="processor\t: 0\nflags\t: tdx_host_platform\n")
    assert assess(read_facts(root)).verdict.state is State.WILL_INITIALIZE


@pytest.mark.parametrize(
    "files",
    [
        {"proc__iomem": "100000000-407fffffff : System RAM\n"},
        {"sys__kernel__debug__memblock__memory": "   0: 0x0000000100000000..0x000000407fffffff    0 NONE\n"},
        {
            "dmesg": MAP.replace("BIOS-e820: [mem 0x0000000000000000-0x000000007fffffff] usable\n", "")
            + KEYIDS
        },
    ],
    ids=["iomem", "memblock", "log"],
)
def test_a_map_without_low_memory_is_a_fragment(tmp_path: Path, files: dict[str, str]) -> None:
    """No host comes up without RAM below 4 GiB."""
    cpuinfo = "processor\t: 0\nflags\t: tdx_host_platform\n"
    facts = read_facts(tree(tmp_path, proc__cpuinfo=cpuinfo, **files))
    assert facts.memory_regions
    verdict = assess(facts).verdict
    assert (verdict.state, verdict.next_boot) == (State.CANNOT_TELL, None)
    assert "only a part of the memory map: it has no RAM below 4 GiB" in verdict.summary


def test_what_is_left_without_late_memory_may_be_nothing(tmp_path: Path) -> None:
    """A fragment that has none but drivers' memory is no host without memory."""
    facts = read_facts(tree(tmp_path, proc__iomem="2070000000-606fffffff : System RAM (kmem)\n"))
    assert assess(facts, WhatIf(kernel="7.2.0")).verdict.next_boot is None


EMR = "smpboot: CPU0: INTEL(R) XEON(R) GOLD 6548Y+ (family: 0x6, model: 0xcf, stepping: 0x2)\n"
ICX = "smpboot: CPU0: Intel(R) Xeon(R) Silver 4314 (family: 0x6, model: 0x6a, stepping: 0x6)\n"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (START + EMR + RUNNING, State.CANNOT_TELL),
        (START.replace("quiet", "kvm_intel.tdx=1") + RUNNING, State.CANNOT_TELL),
        (START.replace("quiet", "kvm_intel.tdx=on nohibernate") + RUNNING, State.CANNOT_TELL),
        (START.replace(ASKS.format("quiet"), "") + RUNNING, State.CANNOT_TELL),
        (START.replace("quiet", "kvm_intel.tdx=0") + RUNNING, State.NOT_TDX),
        (START + ICX + RUNNING, State.NOT_TDX),
    ],
    ids=["CPU", "asked for", "asked for otherwise", "no command line", "not wanted", "older CPU"],
)
def test_a_log_without_its_lines_about_tdx(text: str, state: State) -> None:
    """Whoever took them out has made no host without TDX of it; a verified log has all its lines."""
    verdict = of_log(text).verdict
    assert (verdict.state, verdict.next_boot) == (state, None)
    taken_out = "Lines about TDX may have been taken out of the log" in verdict.summary
    assert taken_out is (state is State.CANNOT_TELL)
    kernel = "".join(
        json.dumps({"_TRANSPORT": "kernel", "SYSLOG_FACILITY": "0", "MESSAGE": line}) + "\n"
        for line in text.splitlines()
    )
    assert of_log(kernel).verdict.state is State.NOT_TDX
