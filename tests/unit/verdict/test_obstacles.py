# SPDX-License-Identifier: Apache-2.0
"""Every kind of finding: facts on which it is found, and all that belongs to it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.facts.boots import BootInventory, KernelTraits
from tdx_headroom.facts.host_facts import HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.facts.kernel_report import (
    Contradiction,
    ContradictionKind,
    FailureReason,
    KernelReport,
    ModuleState,
    NoTdx,
    SeamcallFailure,
)
from tdx_headroom.facts.observations import (
    FirmwareRange,
    HolesBefore,
    LogHealth,
    Origin,
    Platform,
    Suspect,
    TdxSeen,
    Zone,
)
from tdx_headroom.facts.sources import MemorySource, SourceStatus
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.metrics import collect
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.runbooks import RUNBOOKS as RUNBOOKS_OF_PAGE
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.checks import run_checks
from tdx_headroom.verdict.findings import AGENT_ERROR, NOTE, Finding, Findings, Severity, Signs
from tdx_headroom.verdict.fleet import Fit, audit_host, targets_of
from tdx_headroom.verdict.obstacles import REGISTRY, Row
from tdx_headroom.verdict.what_if import WhatIf

CHECKOUT = Path(__file__).parents[3]
DOCS = CHECKOUT / "docs"
EMR = read_facts(Root(CHECKOUT / "tests/hosts/emerald-rapids"))
ROOMY = HostFacts(memory_regions=(MemoryRegion(MIB, GIB, 0), MemoryRegion(4 * GIB, 12 * GIB, 0)))
HOLED = (
    MemoryRegion(4 * GIB, 12 * GIB, 0),
    MemoryRegion(16 * GIB, 20 * GIB, 0),
    MemoryRegion(20 * GIB + MIB, 32 * GIB, 0),
)
KEYIDS = (32, 64)
BARE = (SourceStatus("iomem", "/proc/iomem", ok=True),)
CALL = SeamcallFailure(0x21, 0xC0000505 << 32)
SILENT = KernelReport(state=ModuleState.NOT_ATTEMPTED, keyids=KEYIDS)
HEALTH = LogHealth(unread=1, first_unread="virt/tdx: x")
UP = KernelReport(state=ModuleState.INITIALIZED, message="module initialized", keyids=KEYIDS)


def failed(reason: FailureReason, call: SeamcallFailure | None = None) -> HostFacts:
    return replace(ROOMY, kernel_log=KernelReport(ModuleState.FAILED, reason, keyids=KEYIDS, seamcall=call))


def silent(release: str | None = "6.16.0", platform: Platform | None = None) -> HostFacts:
    return replace(ROOMY, kernel_log=SILENT, kernel_release=release, platform=platform)


def limited(tdmrs: int = 64, areas: int = 16) -> HostFacts:
    return replace(EMR, kernel_log=None, limits=Limits(tdmrs, areas))


FULL = HostFacts(
    limits=Limits(64, 2),
    memory_regions=(MemoryRegion(MIB, GIB // 2, 0), MemoryRegion(4 * GIB, 12 * GIB, 0)),
    pamt_placement=Placement.NONE,
    kernel_log=replace(SILENT, module_version="1.0.03.03"),
    cmrs=((MIB, GIB // 2 - MIB), (4 * GIB, 8 * GIB)),
)

WALKED = replace(
    ROOMY,
    traits=KernelTraits(walks_cmrs=True),
    cmrs=tuple((r.start, (r.end - r.start) // 2) for r in ROOMY.memory_regions or ()),
)

EXAMPLES: dict[str, HostFacts] = {
    "too-few-keyids": failed(FailureReason.KEYIDS),
    "module-not-loaded": failed(FailureReason.NOT_LOADED),
    "seamcall-faults": failed(FailureReason.EXCEPTION),
    "module-too-old": failed(FailureReason.RBP_BUG),
    "module-lacks-feature": failed(FailureReason.METADATA),
    "cpu-feature-missing": failed(FailureReason.CPU_FEATURE),
    "call-fails": failed(FailureReason.SEAMCALL, CALL),
    "kvm-refused": failed(FailureReason.KVM_EPT),
    "fails-again": HostFacts(kernel_log=KernelReport(ModuleState.FAILED, FailureReason.TDMRS, -28)),
    "room-unknown": HostFacts(kernel_log=UP),
    "failed-in-this-boot": failed(FailureReason.OTHER),
    "call-refused": replace(ROOMY, kernel_log=KernelReport(seamcall=CALL, keyids=KEYIDS)),
    "hibernation": replace(ROOMY, platform=Platform(hibernation=True), command_line=()),
    "log-contradicts-itself": replace(
        ROOMY, kernel_log=replace(UP, contradictions=(Contradiction(ContradictionKind.TWO_OUTCOMES, "x"),))
    ),
    "log-contradicts-hardware": replace(ROOMY, kernel_log=UP, platform=Platform(tdx_host_platform=False)),
    "log-may-hide-failure": replace(ROOMY, kernel_log=UP, log_health=replace(HEALTH, hides_failure=True)),
    "log-unread": replace(ROOMY, kernel_log=UP, log_health=HEALTH),
    "log-ends-early": replace(ROOMY, kernel_log=SILENT, log_health=LogHealth(until=2.0)),
    "part-of-the-map": replace(
        ROOMY,
        memory_source=MemorySource.LOG_E820,
        kernel_log=replace(UP, cmrs=(Range(MIB, GIB), Range(4 * GIB, 64 * GIB))),
    ),
    "kernel-not-shown": replace(
        EMR, kernel_log=None, kernel_release=None, memory_source=MemorySource.LOG_E820, cmrs=None
    ),
    "no-sign-of-tdx": replace(ROOMY, kernel_log=KernelReport()),
    "hidden-by-kernel": replace(
        ROOMY,
        kernel_release="6.8.0-101-generic",
        platform=Platform(tdx_host_platform=False),
        command_line=("kvm_intel.tdx=1",),
    ),
    "gone-since-last-boot": replace(
        ROOMY,
        kernel_release="6.8.0-101-generic",
        platform=Platform(tdx_host_platform=False),
        tdx_before=TdxSeen.UP,
    ),
    "reserved-areas": limited(),
    "few-reserved-areas": limited(areas=18),
    "varies": replace(ROOMY, holes_before=(HolesBefore("memory-regions", 0, GIB, 5, 1, 9),)),
    "tdmrs": limited(tdmrs=2),
    "cmr-table-invalid": replace(ROOMY, cmrs=((4 * GIB, 8 * GIB), (MIB, GIB - MIB))),
    "full-tdmr": FULL,
    "dynamic-pamt-unsure": replace(ROOMY, sources=BARE, limits=Limits(pamt_page_bitmap_entry_bits=1)),
    "unlikely-convertible": replace(
        ROOMY, suspects=(Suspect(4 * GIB, 12 * GIB, Origin.KMEM, "dax0.0", late=True),)
    ),
    "in-no-single-cmr": WALKED,
    "few-tdmrs": limited(tdmrs=6),
    "pamt-memory": HostFacts(memory_regions=(MemoryRegion(0, MIB, 0),)),
    "rejected-by-module": replace(ROOMY, cmrs=((MIB, GIB - MIB),)),
    "not-convertible": replace(ROOMY, cmrs=((MIB, GIB - MIB),)),
    "other-kernel": replace(EMR, kernel_log=None, kernel_release="6.8.0-1006-intel"),
    "memory-offline": replace(ROOMY, offline=(Range(100 * GIB, 101 * GIB),)),
    "cpu-package-offline": replace(ROOMY, kernel_log=replace(UP, package_offline=True)),
    "not-tried-by-kernel": silent("6.12.0"),
    "not-tried-at-boot": silent("7.1.0"),
    "kvm-without-virtualization": silent(platform=Platform(enable_virt_at_load=False)),
    "kvm-without-tdx": silent(platform=Platform(kvm_intel_tdx=False)),
    "not-tried": silent(),
    "hypervisor-below": silent(platform=Platform(hypervisor="xen-4.17-amd64.gz")),
    "log-forgeable": replace(
        ROOMY,
        sources=BARE,
        kernel_log=replace(UP, contradictions=(Contradiction(ContradictionKind.TWO_OUTCOMES, "x"),)),
    ),
    "memory-map-unknown": HostFacts(sources=BARE),
    "memory-map-second-hand": replace(ROOMY, sources=BARE, memory_source=MemorySource.IOMEM),
    "nodes-unknown": HostFacts(sources=BARE, memory_regions=(MemoryRegion(MIB, GIB, None),)),
    "cmrs-unknown": replace(ROOMY, sources=BARE),
    "kernel-unknown": replace(ROOMY, sources=BARE),
    "pamt-places-unknown": replace(ROOMY, sources=BARE, memory_regions=HOLED),
    "platform-unknown": replace(ROOMY, sources=BARE),
    "movable-nodes": replace(
        ROOMY, zones=(Zone(0, "Movable", MIB, 12 * GIB), Zone(1, "Normal", GIB, 2 * GIB))
    ),
    "up-for-guests": replace(ROOMY, kernel_log=UP),
}
KVM = silent("6.17.0")
MAPPED = replace(
    KVM,
    firmware_map=(
        FirmwareRange(0, GIB, "System RAM"),
        FirmwareRange(GIB, GIB + MIB, "Reserved"),
        FirmwareRange(4 * GIB, 12 * GIB, "System RAM"),
    ),
)
ASKED = "kvm_intel.tdx=1"
STAGED: dict[str, tuple[HostFacts, str, tuple[str, ...]]] = {
    "kernel-without-tdx": (KVM, "6.12.0", (ASKED,)),
    "kernel-may-lack-tdx": (KVM, "6.12.0-55.9.1.el10_0.x86_64", (ASKED,)),
    "kvm-tdx-off": (KVM, "6.17.0", ("kvm_intel.tdx=0",)),
    "kvm-tdx-may-be-off": (KVM, "6.17.0", ()),
    "kvm-virtualization-off": (KVM, "6.17.0", (ASKED, "kvm.enable_virt_at_load=0")),
    "kvm-option-off": (KVM, "6.17.0", (ASKED, "kvm.tdp_mmu=0")),
    "kvm-option-may-be-off": (KVM, "6.14.0-1009-intel", (ASKED, "kvm_intel.eptad=0")),
    "kvm-not-loaded": (KVM, "6.17.0", (ASKED, "module_blacklist=kvm_intel")),
    "kvm-may-not-be-loaded": (KVM, "6.17.0", (ASKED, "modprobe.blacklist=kvm_intel")),
    "cpu-feature-off": (KVM, "6.17.0", (ASKED, "clearcpuid=movdir64b")),
    "cpus-left-out": (KVM, "7.3.0", ("nosmt",)),
    "map-not-simulated": (KVM, "7.3.0", ("mem=8G",)),
    "remedy-in-place": (EMR, "7.3.0", ("memmap=4K%0x64158000-1+2",)),
    "remedy-not-needed": (MAPPED, "7.3.0", ("memmap=4K%0x140000000-1+2",)),
    "map-uncertain": (MAPPED, "7.3.0", ("numa=fake=4",)),
    "pamt-places-uncertain": (MAPPED, "7.3.0", ("movablecore=50%",)),
    "map-does-not-boot": (MAPPED, "7.3.0", ("memmap=exactmap",)),
    "firmware-update": (replace(KVM, boots=BootInventory(firmware_update="a capsule")), "7.3.0", ()),
}
"""Found only where a boot is judged: facts, and the kernel and command line that are staged."""
NO_EXAMPLE = {"misaligned-area": "test_verdict.py has given PAMT bases for it"}


def example(kind: str) -> Assessment:
    """Facts on which it is found, assessed."""
    if kind in EXAMPLES:
        return assess(EXAMPLES[kind])
    facts, release, arguments = STAGED[kind]
    return assess(facts, WhatIf(kernel=release, command_line=arguments))


@pytest.mark.parametrize("kind", [*EXAMPLES, *STAGED])
def test_every_output_tells_it(kind: str) -> None:
    """It is found, no worse than its row says, and stands in JSON, metrics and, if bad, in the checks."""
    assessment = example(kind)
    findings = [finding for finding in assessment.verdict.findings if finding.kind == kind]
    assert findings
    (row,) = [row for row in REGISTRY if kind in row.kinds]
    order = list(Severity)
    assert all(order.index(finding.severity) >= order.index(row.worst) for finding in findings)
    told = to_json(assessment)["verdict"]["findings"]
    assert [f["kind"] for f in told] == [f.kind for f in assessment.verdict.findings]
    samples = [s for family in collect(assessment, None) for s in family.samples if s.name == "tdx_finding"]
    assert {(f.kind, str(f.severity)) for f in findings} <= {
        (s.labels["kind"], s.labels["severity"]) for s in samples
    }
    (documented,) = re.findall(rf"^\| `{kind}` \| ([a-z]+)", section(), re.MULTILINE)
    assert documented == min((finding.severity for finding in findings), key=order.index)
    if any(finding.severity is not NOTE for finding in findings):
        results = {check.result for check in run_checks(assessment) if check.group != "verdict"}
        assert results & {"FAIL", "WARN"}


def alerts_of(assessment: Assessment) -> set[str]:
    """Those of packaging/prometheus that fire on the metrics of one host."""
    rules = (CHECKOUT / "packaging/prometheus/tdx-headroom.rules.yml").read_text("utf-8")
    samples = [sample for family in collect(assessment, None) for sample in family.samples]
    firing = set()
    for alert, name, labels, compared in re.findall(
        r"- alert: (\w+)\n(?: +#.*\n)* +expr: (?:>-\s+)?"
        r"last_over_time\((\w+)(?:\{(.*)\})?\[15m\]\) (== 1|> 0)$",
        rules,
        re.MULTILINE,
    ):
        wanted = re.findall(r'(\w+)=~?"([^"]*)"', labels)
        if any(
            sample.name == name
            and (sample.value == 1 if compared == "== 1" else sample.value > 0)
            and all(re.fullmatch(value, sample.labels[label]) for label, value in wanted)
            for sample in samples
        ):
            firing.add(alert)
    return firing


@pytest.mark.parametrize("kind", [*EXAMPLES, *STAGED])
def test_what_fails_or_is_a_risk_has_its_alert(kind: str) -> None:
    """Whatever the next initialization is said to come to, an alert tells, and the page of it if it fails."""
    assessment = example(kind)
    firing = alerts_of(assessment)
    (found, *_) = [finding for finding in assessment.verdict.findings if finding.kind == kind]
    if assessment.verdict.next_boot in (State.WILL_FAIL, State.AT_RISK):
        assert firing - {"TDXVerdictUnknown"}
    failing = [finding.kind for finding in assessment.verdict.findings if finding.severity is Severity.FAILS]
    if assessment.verdict.next_boot is State.WILL_FAIL and failing == [kind]:
        (page,) = (name for name, kinds in RUNBOOKS_OF_PAGE.items() if kind in kinds)
        assert page in firing
    if assessment.verdict.next_boot is State.AT_RISK and found.severity is Severity.RISK:
        (page,) = (name for name, kinds in RUNBOOKS_OF_PAGE.items() if kind in kinds)
        # What only staged boots have is told here of a boot that is asked about.
        others = {"TDXNextInitAtRisk", "TDXReservedAreasWorstCase", "TDXMemoryNotConvertible"}
        assert firing & {page, *others}


@pytest.mark.parametrize(
    "facts",
    [
        replace(WALKED, traits=None),
        replace(WALKED, traits=KernelTraits(walks_cmrs=False, reads_cmrs=True)),
        replace(WALKED, kernel_log=UP),
        replace(WALKED, cmrs=None),
        replace(WALKED, cmrs=tuple((r.start, r.end - r.start) for r in WALKED.memory_regions or ())),
        replace(WALKED, cmrs=((0, 1 << 52),)),
    ],
    ids=["image unknown", "does not walk", "is up", "CMRs unknown", "a CMR each", "one CMR"],
)
def test_nothing_lies_in_no_single_cmr(facts: HostFacts) -> None:
    """Only a kernel that walks the CMRs refuses it, and only regions that none of them holds whole."""
    assert "in-no-single-cmr" not in [finding.kind for finding in assess(facts).verdict.findings]


def test_regions_across_cmrs_that_touch() -> None:
    """The module takes them, and such a kernel may not: the host is at risk."""
    halves = [
        (at, (r.end - r.start) // 2)
        for r in WALKED.memory_regions or ()
        for at in (r.start, r.start + (r.end - r.start) // 2)
    ]
    verdict = assess(replace(WALKED, cmrs=tuple(halves))).verdict
    assert verdict.next_boot is State.AT_RISK
    (finding,) = [finding for finding in verdict.findings if finding.kind == "in-no-single-cmr"]
    assert "may take none of these, and give up (errno -22)" in finding.text


def test_checks_tell_what_no_other_check_does() -> None:
    """A finding that stands in the way and has no check of its own has one by its kind."""
    checks = run_checks(assess(EXAMPLES["module-not-loaded"], WhatIf(kernel="6.17.0")))
    assert [(c.name, c.result) for c in checks if c.group == "obstacles"] == [("module-not-loaded", "FAIL")]


MANY, ONE = (1, 64), (63, 64)


@pytest.mark.parametrize(
    ("line", "keyids"),
    [
        ("virt/tdx: module not loaded", None),
        ("virt/tdx: TDX module is not loaded.", ONE),
        ("tdx: [firmware bug]: TDX is not enabled by BIOS.", MANY),
        ("virt/tdx: module initialization failed (-19)", MANY),
    ],
)
def test_a_module_that_is_not_loaded(line: str, keyids: tuple[int, int] | None) -> None:
    """What helps most comes first, the vendor last; KeyIDs only where there may be too few."""
    first = f"virt/tdx: BIOS enabled: private KeyID range [{keyids[0]}, {keyids[1]})\n" if keyids else ""
    assessment = assess(facts_from_log(read_log_file("log", f"{first}{line}\n")))
    order = ["SEAM loader", "SGX", "DIMM", "KeyIDs", "`rdmsr 0x1401 -f 11:11`", "vendor a capture"]
    if keyids == MANY:
        order.remove("KeyIDs")
    remedies = assessment.verdict.remedies
    assert [word for word, text in zip(order, remedies, strict=True) if word not in text] == []
    assert "`rdmsr 0xa0`" in remedies[-2]
    assert "  Next initialization: WILL FAIL: What stopped TDX" in render(assessment, Style())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("fpu sse2 sgx tme", [None, None]),
        ("fpu sse2 tme", ["SGX is off", None]),
        ("fpu tme", [None, "In the BIOS, enable SGX"]),
    ],
)
def test_sgx_is_looked_at(flags: str, said: list[str | None], tmp_path: Path) -> None:
    """Where the CPU's flags show that SGX is off, that comes first; where it is on, it is not asked for."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\nflags\t: {flags}\nbugs\t:\n")
    (tmp_path / "dmesg").write_text("virt/tdx: module not loaded\n")
    first, second, *_ = assess(read_facts(Root(tmp_path))).verdict.remedies
    for text, wanted in zip((first, second), said, strict=True):
        assert text.startswith(wanted) if wanted else "SGX" not in text.replace("for SGX and TDX", "")


def test_the_map_is_named_where_it_matters() -> None:
    """What stops TDX on any memory map says nothing of this one; a map that does not fit is named."""
    assert "Next initialization with this memory map: WILL FAIL" in render(assess(EMR), Style())
    for kind in ("too-few-keyids", "call-fails", "module-too-old"):
        assert "Next initialization: WILL FAIL" in render(assess(EXAMPLES[kind]), Style())


@pytest.mark.parametrize(
    ("platform", "word"),
    [
        (None, "look at QEMU and libvirt"),
        (Platform(kvm_intel_tdx=False), "load kvm_intel with tdx=1"),
        (Platform(kvm_intel_tdx=False, tdx_module_version="1.5.24"), "load kvm_intel with tdx=1"),
    ],
)
def test_guests_on_a_host_that_is_up(platform: Platform | None, word: str) -> None:
    """Whoever gives the log of a host that is up, for its guests do not start, is told where to look."""
    facts = replace(EXAMPLES["up-for-guests"], platform=platform)
    (text,) = assess(facts).verdict.remedies
    assert "vm-type tdx not supported by KVM" in text
    assert word in text
    assert assess(replace(facts, platform=Platform(kvm_intel_tdx=True))).verdict.remedies == ()


def test_a_doubt_is_told_where_the_next_boot_is_unknown() -> None:
    """Page and fleet say why, not that TDX is up in this boot, nor that it is the memory map."""
    facts = EXAMPLES["log-may-hide-failure"]
    assessment = assess(facts)
    assert (assessment.verdict.state, assessment.verdict.next_boot) == (State.INITIALIZED, None)
    told = "1 line mentions TDX and could not be read; the first: virt/tdx: x"
    assert told in assessment.verdict.warnings
    assert f"<strong>Cannot tell.</strong> {told}" in render_page(assessment)
    assert audit_host(facts, "x", None, targets_of(())).targets[0].why == told


def test_a_host_that_surely_has_no_tdx_fits_nowhere() -> None:
    """Its log says so by itself: it is not counted as fitting, whatever its kernel can show."""
    log = KernelReport(ModuleState.UNSUPPORTED, no_tdx=NoTdx.CPU, message="smpboot: CPU0: AMD EPYC 7313")
    facts = replace(ROOMY, kernel_log=log, kernel_release="6.12.43+deb13-amd64")
    assert set(audit_host(facts, "x", None, targets_of(())).strategies.values()) == {Fit.NO_TDX}


def forgotten(registry: tuple[Row, ...], page: str, examples: set[str], runbooks: set[str]) -> list[str]:
    """What is missing for which kind."""
    rows: dict[str, str] = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", page, re.MULTILINE))
    kinds = {kind: row for row in registry for kind in row.kinds}
    lacking = []
    for kind, row in kinds.items():
        severity, _, rest = rows.get(kind, "").partition(" | ")
        if not severity:
            lacking.append(f"{kind}: no row in docs/verdict.md")
            continue
        if (severity.endswith("?")) is not (row.doubts is not None):
            lacking.append(f"{kind}: docs/verdict.md says otherwise whether it can make the verdict unknown")
        if severity.removesuffix(" ?") not in list(Severity):
            lacking.append(f"{kind}: no severity in docs/verdict.md")
        link = re.search(r"\(runbooks/(\w+)\.md\)$", rest.rstrip(" |"))
        if severity in ("fails", "risk") and (link is None or link[1] not in runbooks):
            lacking.append(f"{kind}: no runbook in docs/verdict.md")
        if kind not in examples:
            lacking.append(f"{kind}: no example in tests/unit/verdict/test_obstacles.py")
    lacking += [f"{kind}: in docs/verdict.md, but not in the registry" for kind in rows if kind not in kinds]
    doubled = [kind for row in registry for kind in row.kinds]
    return lacking + [f"{kind}: in two rows" for kind in kinds if doubled.count(kind) > 1]


def section() -> str:
    page = (DOCS / "verdict.md").read_text("utf-8")
    return page[page.index("## Findings") : page.index("## When a part")].replace(f"| `{AGENT_ERROR}`", "")


RUNBOOKS = {path.stem for path in (DOCS / "runbooks").glob("*.md")}
KNOWN = {*EXAMPLES, *STAGED, *NO_EXAMPLE}


def test_nothing_is_forgotten() -> None:
    """Every kind has a row in docs/verdict.md, a runbook where it stands in the way, and an example."""
    assert forgotten(REGISTRY, section(), KNOWN, RUNBOOKS) == []


def test_the_page_knows_every_runbook() -> None:
    """Kinds and runbooks of docs/verdict.md are those that the page names."""
    told = dict(re.findall(r"^\| `([a-z-]+)` \|.*\(runbooks/(\w+)\.md\) \|$", section(), re.MULTILINE))
    assert told == {kind: name for name, kinds in RUNBOOKS_OF_PAGE.items() for kind in kinds}


def look(_: Signs) -> Findings:
    yield Finding("planted", NOTE, "x")


def test_what_is_forgotten_is_named() -> None:
    """A row without its page, its runbook or its example is told of by its kind."""
    planted = (*REGISTRY, Row(look, ("planted",), "the planted one", Severity.FAILS))
    assert forgotten(planted, section(), KNOWN, RUNBOOKS) == ["planted: no row in docs/verdict.md"]
    page = section() + "| `planted` | fails | planted | |\n"
    assert forgotten(planted, page, KNOWN, RUNBOOKS) == [
        "planted: no runbook in docs/verdict.md",
        "planted: no example in tests/unit/verdict/test_obstacles.py",
    ]
    linked = section() + "| `planted` | fails | planted | [TDXX](runbooks/TDXX.md) |\n"
    assert forgotten(planted, linked, {*KNOWN, "planted"}, RUNBOOKS) == [
        "planted: no runbook in docs/verdict.md"
    ]
    assert forgotten(planted, linked, {*KNOWN, "planted"}, {*RUNBOOKS, "TDXX"}) == []
    assert forgotten(REGISTRY, page, KNOWN, RUNBOOKS) == [
        "planted: in docs/verdict.md, but not in the registry"
    ]


def test_nothing_private_leaves_the_host() -> None:
    """Over TCP a remedy that names an address has neither its arguments nor the size of what they give up."""
    assessment = assess(EMR)
    full, public = (
        [
            remedy
            for finding in to_json(assessment, full_addresses=full)["verdict"]["findings"]
            for remedy in finding["remedies"]
            if remedy["kind"] == "add-arguments"
        ]
        for full in (True, False)
    )
    assert full[0]["arguments"] == ["memmap=4K%0x64158000-1+2"]
    assert (full[0]["bytes_given_up"], full[0]["areas_freed"], full[0]["sure"]) == (4096, 1, "computed")
    assert [(remedy["arguments"], remedy["bytes_given_up"]) for remedy in public] == [([], None)] * len(full)
