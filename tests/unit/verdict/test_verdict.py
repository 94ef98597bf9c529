# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tdx_headroom.address import GIB, KIB, MIB, Range
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import FactsError, GivenBases, HostFacts, Limits, MemoryRegion, Placement
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, SeamcallFailure
from tdx_headroom.facts.observations import FirmwareRange, Platform
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.plan import Strategy
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import Basis, State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.check_model import Result
from tdx_headroom.verdict.checks import Status, run_checks, status_of
from tdx_headroom.verdict.decode import describe_seamcall
from tdx_headroom.verdict.evidence import find_strategy
from tdx_headroom.verdict.kernels import KERNELS, built_from, look_up
from tdx_headroom.verdict.this_kernel import why_without_tdx
from tdx_headroom.verdict.what_if import WhatIf, without_effect

HOSTS = Path(__file__).parents[2] / "hosts"
LOGS = Path(__file__).parents[2] / "field" / "logs"


def host(name: str, **changes: object) -> HostFacts:
    return replace(read_facts(Root(HOSTS / name)), **changes)  # type: ignore[arg-type]


def from_logs(*names: str) -> Assessment:
    text = "".join((LOGS / f"{name}.log").read_text("utf-8") for name in names)
    return assess(facts_from_log(read_log_file("log", text)))


def low_memory_and(name: str) -> Assessment:
    """A log of the Emerald Rapids host together with the E820 rows of the same machine."""
    rows = [line for line in (LOGS / "kvm-lore-cmr-patch-emr.log").read_text().splitlines() if "e820" in line]
    text = "".join(f"[    0.000000] {row}\n" for row in rows) + (LOGS / f"{name}.log").read_text("utf-8")
    return assess(facts_from_log(read_log_file("log", text)))


def holed(holes: int, *, tail: bool = True) -> tuple[MemoryRegion, ...]:
    """One node with so many holes in TDMR [0, 1 GiB), the first MiB one of them, and 8 GiB at 4 GiB."""
    regions = []
    at = MIB
    for _ in range(holes - 1 - tail):
        regions.append(MemoryRegion(at, at + 2 * MIB, 0))
        at += 3 * MIB
    regions.append(MemoryRegion(at, GIB - MIB if tail else GIB, 0))
    return (*regions, MemoryRegion(4 * GIB, 12 * GIB, 0))


def with_own_hole(*forms: str) -> tuple[HostFacts, str]:
    """A host with one hole too many, of 1 MiB, that the command line makes; and how it does so there."""
    regions = holed(17)
    start = regions[2].end
    step = MIB // len(forms) if len(forms) > 1 and "512K" in forms[0] else MIB
    arguments = tuple(form.format(start, start + step) for form in forms)
    firmware = (
        *(FirmwareRange(r.start, r.end, "System RAM") for r in regions),
        FirmwareRange(start, start + MIB, "System RAM"),
    )
    facts = HostFacts(memory_regions=regions, command_line=arguments, firmware_map=firmware)
    return facts, arguments[0]


class TestStrategy:
    def test_failure_proves_memory_regions(self) -> None:
        """With the memory map of the same machine, the failing log proves memory-regions."""
        finding = low_memory_and("canonical-tdx-135-fail").verdict.finding
        assert (finding.strategy, finding.basis) == (Strategy.MEMORY_REGIONS, Basis.EVIDENCE)
        assert "TDX failed at TDMR [0x0, 0x80000000)" in finding.evidence[0]
        assert finding.contradiction is None

    def test_a_failure_that_a_pamt_caused_is_evidence_too(self) -> None:
        """Where PAMTs lie is not certain: a TDMR that only they can overfill may be the one that failed."""
        cmrs = ((MIB, GIB - MIB), (4 * GIB, 8 * GIB))
        full = replace(HostFacts(memory_regions=holed(16), cmrs=cmrs), reserved=(Range(4 * GIB, 12 * GIB),))
        log = KernelReport(
            ModuleState.FAILED, FailureReason.RESERVED_AREAS, -28, keyids=(32, 64), failed_tdmr=Range(0, GIB)
        )
        finding = assess(replace(full, kernel_log=log, kernel_release="6.8.0-1006-intel")).verdict.finding
        assert (finding.strategy, finding.basis) == (Strategy.MEMORY_REGIONS, Basis.EVIDENCE)
        assert finding.contradiction is not None

    def test_success_proves_a_cmr_strategy(self) -> None:
        """With the same map the working log rules memory-regions out; the table picks the CMR strategy."""
        finding = low_memory_and("canonical-tdx-135-fixed").verdict.finding
        assert finding.strategy is Strategy.CMR_SUBREGION
        assert finding.basis is Basis.TABLE
        assert "TDX came up in this boot, which it cannot under memory-regions" in finding.evidence[0]
        assert "Inferred from: " in finding.evidence[1]

    @pytest.mark.parametrize(
        ("log", "strategy"),
        [
            ("canonical-tdx-135-fail", Strategy.MEMORY_REGIONS),
            ("canonical-tdx-135-fixed", Strategy.CMR_SUBREGION),
        ],
    )
    def test_either_log_alone_is_no_evidence(self, log: str, strategy: Strategy) -> None:
        """Without the memory map nothing is proved and the table decides."""
        finding = from_logs(log).verdict.finding
        assert (finding.strategy, finding.basis) == (strategy, Basis.TABLE)

    def test_the_operators_word_counts_first(self) -> None:
        """--assume-strategy overrides evidence and table."""
        verdict = assess(host("emerald-rapids"), WhatIf(strategy=Strategy.CMR_WALK)).verdict
        assert (verdict.finding.basis, verdict.strategy) == (Basis.OVERRIDE, Strategy.CMR_WALK)
        assert verdict.state is State.FAILED
        assert verdict.next_boot is State.WILL_INITIALIZE

    def test_a_contradiction_is_shown(self) -> None:
        """A mainline kernel that came up although memory-regions cannot fit contradicts the table."""
        log = KernelReport(state=ModuleState.INITIALIZED, keyids=(32, 64))
        verdict = assess(host("emerald-rapids", kernel_release="7.2.0", kernel_log=log)).verdict
        assert verdict.strategy is not Strategy.MEMORY_REGIONS
        assert verdict.finding.contradiction is not None
        assert "mainline 7.1 and later" in verdict.finding.contradiction

    def test_no_release_means_mainline(self) -> None:
        """Nothing known of the kernel: mainline's strategy, and it says so."""
        finding = assess(HostFacts(memory_regions=holed(3), pamt_placement=Placement.NONE)).verdict.finding
        assert (finding.strategy, finding.basis) == (Strategy.MEMORY_REGIONS, Basis.MAINLINE)


DEBIANS = (
    "5.4.0-0.bpo.2-amd64",
    "5.10.0-30-amd64",
    "6.1.0-0.deb11.21-amd64",
    "6.1.0-40-rt-amd64",
    "6.12.9+bpo-amd64",
    "6.12.9-cloud-amd64",
    "6.12.48+deb13-cloud-amd64",
    "6.16.3+deb14-rt-amd64",
    "6.16.12+deb14+1-amd64",
    "7.1-rc3-amd64",
)


class TestTable:
    @pytest.mark.parametrize(
        ("release", "strategy", "starts"),
        [
            ("6.8.0-1001-intel", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.8.0-1004-intel", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.8.0-1006-intel", Strategy.CMR_SUBREGION, Starts.KVM_LOAD),
            ("6.8.0-1028-intel", Strategy.CMR_SUBREGION, Starts.KVM_LOAD),
            ("6.14.0-1009-intel", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.4.0-150600.23.7-default", Strategy.CMR_SUBREGION, Starts.KVM_LOAD),
            ("6.4.0-150700.53.11-default", Strategy.CMR_SUBREGION, Starts.UNKNOWN),
            ("6.8.0-1005-intel", None, Starts.KVM_LOAD),
            ("6.5.0-1003-intel-opt", None, Starts.KVM_LOAD),
            ("6.11.0-1006-intel", None, Starts.KVM_LOAD),
            ("5.14.0-503.el9.x86_64", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("5.14.0-570.12.1.el9_6.x86_64", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("5.14.0-611.5.1.el9_7.x86_64", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("5.14.0-558.tdx.el9s.x86_64", None, Starts.KVM_LOAD),
            ("6.12.0-55.9.1.el10_0.x86_64", None, Starts.UNKNOWN),
            ("6.12.0-100.28.2.el9uek.x86_64", Strategy.MEMORY_REGIONS, Starts.NOT_BUILT),
            ("5.15.0-300.el8uek.x86_64", Strategy.MEMORY_REGIONS, Starts.UNKNOWN),
            ("6.8.0-45-generic", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("6.12.57+deb13-amd64", Strategy.MEMORY_REGIONS, Starts.NOT_BUILT),
            ("7.3.4+deb13-amd64", Strategy.MEMORY_REGIONS, Starts.NOT_BUILT),
            ("7.2.1-amd64", Strategy.MEMORY_REGIONS, Starts.NOT_BUILT),
            ("6.15.0", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("6.15.0-rc3", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("6.17.5-200.fc42.x86_64", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("7.0.0-14-generic", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.16.0", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.17.0-20-generic", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("7.0.3", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("7.1.0-rc1", Strategy.MEMORY_REGIONS, Starts.BOOT),
            ("7.10.2", Strategy.MEMORY_REGIONS, Starts.BOOT),
            *((release, Strategy.MEMORY_REGIONS, Starts.NOT_BUILT) for release in DEBIANS),
            ("6.12.8-arch1-1", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("6.15.4-1.el10.elrepo.x86_64", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("6.17.4-1-pve", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.17.0-1004-oem", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("7.1.2-1-default", Strategy.MEMORY_REGIONS, Starts.UNKNOWN),
            ("5.14.0-284.11.1.rt14.296.el9_2.x86_64", Strategy.MEMORY_REGIONS, Starts.NEVER),
            ("5.14.0-611.5.1.el9_7.x86_64+debug", Strategy.MEMORY_REGIONS, Starts.KVM_LOAD),
            ("6.12.0-124.8.1.el10_1.x86_64_v2", None, Starts.UNKNOWN),
        ],
    )
    def test_release(self, release: str, strategy: Strategy | None, starts: Starts) -> None:
        """Each release is looked up in the row of its family."""
        row = look_up(release)
        assert row is not None
        assert (row.strategy, row.starts) == (strategy, starts)

    @pytest.mark.parametrize(
        "release",
        [
            "6.7.0",
            "5.15.0-generic",
            "6.8.0-1005-intel\n",
            "6.15.0-1001-intel",
            "6.9.0-rc5+",
            "",
            "hurd",
            # Others' kernels that are named much like a vendor's
            "6.13.0-1-liquorix-amd64",
            "6.1.0-1-siduction-amd64",
            "6.16.8+kali-amd64",
            "6.12.9-x64v3-xanmod1",
            "6.12.9-zabbly+",
            "6.17.0-061700-generic",
            "6.16.3-76061603-generic",
            "6.17.4-061704-lowlatency",
            "6.17.3-3-generic",
            "6.17.5-200.fsync.fc42.x86_64",
            "6.17.5-cachyos1.fc42.x86_64",
            "6.17.1-1.el9.elrepo.x86_64",
            "7.1.2-arch1-1",
            "5.14.0-611.el9.hyperv.x86_64",
            "5.14.0-427.42.1.el9_4.cloud.2.0.x86_64",
            "6.12.0-55.lab.el10.x86_64",
        ],
    )
    def test_unknown_release(self, release: str) -> None:
        """What the table does not know it does not guess."""
        assert look_up(release) is None

    def test_every_row_can_be_reached(self) -> None:
        """No row is shadowed by one before it."""
        releases = ["6.8.0-1001-intel", "6.8.0-1005-intel", "6.8.0-1006-intel", "6.11.0-1006-intel"]
        releases += ["6.14.0-1009-intel", "6.4.0-150600.23.7-default", "6.4.0-150700.53.11-default"]
        releases += ["6.4.0-150500.1-default", "5.14.0-503.el9.x86_64", "5.14.0-611.el9.x86_64"]
        releases += ["5.14.0-558.tdx.el9s.x86_64", "6.12.0-55.el10.x86_64", "6.12.0-1.el9uek.x86_64"]
        releases += ["5.15.0-1.el9uek.x86_64", "7.3.4+deb13-amd64", "6.9", "6.16", "7.1"]
        reached = {look_up(release) for release in releases}
        assert [row.name for row in KERNELS if row not in reached] == [], "give a release of it above"
        assert None not in reached

    @pytest.mark.parametrize(
        ("release", "from_"),
        [
            ("6.9.0-rc5+", "mainline 6.8 to 6.15"),
            ("6.13.0-rc2-tdxvfio", "mainline 6.8 to 6.15"),
            ("6.18.0-next-20251201", "mainline 6.16 to 7.0"),
            ("7.3.0-lab", "mainline 7.1 and later"),
            ("6.15.0", None),
            ("6.15.0-1001-intel", None),
            ("6.8.0-45-generic", None),
            ("6.6.0-tdx.1.0.v1", None),
            ("hurd", None),
            (None, None),
        ],
    )
    def test_own_build(self, release: str | None, from_: str | None) -> None:
        """A suffix that no vendor uses is somebody's own build: as mainline, but never surely without TDX."""
        row = built_from(release)
        assert (None if row is None else row.name) == from_
        if row is not None:
            assert why_without_tdx(HostFacts(kernel_release=release)) is None
            (evidence,) = find_strategy(HostFacts(kernel_release=release), {}).evidence
            assert f"as {from_}, unless it was built with TDX patches" in evidence


class TestVerdict:
    def test_exactly_sixteen_holes(self) -> None:
        """Sixteen of sixteen fits by holes alone, and fails once a PAMT lands there."""
        facts = HostFacts(memory_regions=(*holed(16)[:-1],))
        alone = assess(replace(facts, pamt_placement=Placement.NONE))
        assert alone.verdict.next_boot is State.AT_RISK
        assert "no reserved area left" in alone.verdict.summary
        with_pamt = assess(facts)
        assert with_pamt.verdict.state is State.WILL_FAIL
        assert "needs 17 reserved areas of 16, 1 of them for PAMTs: 1 too many" in with_pamt.verdict.summary

    def test_the_worst_case_is_a_risk(self) -> None:
        """Holes leave room, the prediction puts PAMTs elsewhere, but they could land in the full TDMR."""
        regions = (*holed(14)[:-1], MemoryRegion(GIB, 2 * GIB, 0))
        facts = HostFacts(memory_regions=regions, limits=Limits(max_reserved_per_tdmr=15))
        plan = assess(facts).plans[Strategy.MEMORY_REGIONS]
        assert plan is not None
        assert all(
            t.needed_holes <= (t.needed or 0) <= (t.needed_worst or 0) for t in plan.tdmrs if t.needed_holes
        )
        assert assess(facts).verdict.next_boot in (State.AT_RISK, State.WILL_FAIL)

    def test_a_healthy_host_that_mainline_would_break(self) -> None:
        """On Ubuntu 24.04's kernel the host is up; verdict, metrics and check say what an upgrade does."""
        log = KernelReport(
            state=ModuleState.INITIALIZED,
            keyids=(32, 64),
            pamt_kib=1050644,
            cmrs_complete=True,
            verified=True,
        )
        assessment = assess(host("emerald-rapids", kernel_release="6.8.0-1006-intel", kernel_log=log))
        verdict = assessment.verdict
        assert (verdict.state, verdict.next_boot) == (State.INITIALIZED, State.WILL_INITIALIZE)
        assert verdict.cross_check.matches is True
        (warning,) = verdict.warnings
        assert warning.startswith("Under memory-regions (")
        assert "mainline" in warning
        assert "needs 17 reserved areas of 16" in warning
        checks = run_checks(assessment)
        assert status_of(assessment, checks) is Status.WARNING
        assert next(c for c in checks if c.name == "upgrade").result is Result.WARN
        upgraded = assess(assessment.facts, WhatIf(kernel="6.14.0-1009-intel")).verdict
        assert (upgraded.state, upgraded.strategy) == (State.WILL_FAIL, Strategy.MEMORY_REGIONS)

    @pytest.mark.parametrize(
        ("changes", "state", "words"),
        [
            ({"platform": Platform(hibernation=True), "command_line": ()}, State.WILL_FAIL, "can hibernate"),
            (
                {"platform": Platform(hibernation=True), "command_line": ("nohibernate",)},
                State.WILL_INITIALIZE,
                "",
            ),
            (
                {"platform": Platform(tdx_host_platform=False), "kernel_release": "6.17.0"},
                State.NOT_TDX,
                "tdx_host_platform",
            ),
            ({"platform": Platform(tdx_module_version="2.0.8")}, State.INITIALIZED, "module 2.0.8"),
            ({"memory_regions": None}, State.CANNOT_TELL, "memory regions"),
            ({"memory_regions": ()}, State.WILL_FAIL, "no memory above 1 MiB"),
            ({"memory_regions": (MemoryRegion(MIB, 3 * MIB, 0),)}, State.WILL_FAIL, "for the PAMT of TDMR"),
            ({"limits": Limits(max_tdmrs=1)}, State.WILL_FAIL, "needs 2 TDMRs of 1"),
            ({"cmrs": ((MIB, GIB - 2 * MIB),)}, State.WILL_FAIL, "TDX module rejects"),
            (
                {"kernel_log": KernelReport(ModuleState.FAILED, FailureReason.RBP_BUG, -22)},
                State.FAILED,
                "frame pointer",
            ),
        ],
    )
    def test_state(self, changes: dict[str, object], state: State, words: str) -> None:
        """Each blocker gives its verdict, and says which it is."""
        facts = HostFacts(memory_regions=holed(4))
        verdict = assess(replace(facts, **changes)).verdict  # type: ignore[arg-type]
        assert verdict.state is state
        assert words in verdict.summary
        if (
            state in (State.WILL_FAIL, State.FAILED)
            and facts.memory_regions
            and changes.get("memory_regions") != ()
        ):
            assert verdict.remedies

    @pytest.mark.parametrize(
        "reason",
        [FailureReason.RBP_BUG, FailureReason.NOT_LOADED, FailureReason.KEYIDS, FailureReason.HIBERNATION],
    )
    def test_what_lasts_stops_the_next_boot_too(self, reason: FailureReason) -> None:
        """A failure that the memory map cannot cure is there at the next boot, and under what-if."""
        log = KernelReport(ModuleState.FAILED, reason, keyids=(32, 64))
        facts = HostFacts(memory_regions=holed(4), kernel_log=log)
        assert assess(facts).verdict.next_boot is State.WILL_FAIL
        changed = assess(facts, WhatIf(kernel="7.2.0"))
        assert changed.verdict.state is State.WILL_FAIL
        assert changed.verdict.remedies
        assert status_of(changed, run_checks(changed)) is Status.CRITICAL

    def test_a_failure_that_the_plan_does_not_show_is_a_risk(self) -> None:
        """When TDX failed though the plan fits, the next initialization is not promised to go well."""
        log = KernelReport(ModuleState.FAILED, FailureReason.NO_MEMORY, -12, keyids=(32, 64))
        assert assess(HostFacts(memory_regions=holed(4), kernel_log=log)).verdict.next_boot is State.AT_RISK

    def test_unknown_hibernation_is_no_pass(self) -> None:
        """Verdict and check agree on hibernation, and unknown is not well."""
        for arguments, result in (((), Result.FAIL), (("nohibernate",), Result.PASS), (None, Result.SKIP)):
            facts = HostFacts(
                memory_regions=holed(4), platform=Platform(hibernation=True), command_line=arguments
            )
            assessment = assess(facts)
            (check,) = [c for c in run_checks(assessment) if c.name == "hibernation"]
            assert check.result is result
            assert (assessment.verdict.next_boot is State.WILL_FAIL) == (result is Result.FAIL)

    def test_no_memory_is_no_agreement(self) -> None:
        """Sources that tell nothing of memory do not pass for agreeing ones."""
        for regions in (None, holed(4)):
            names = [check.name for check in run_checks(assess(HostFacts(memory_regions=regions)))]
            assert ("sources-agree" in names) is (regions is not None)

    def test_not_tdx_has_no_next_boot(self) -> None:
        """A host without TDX gets no prediction, remedies or warnings."""
        verdict = assess(host("no-tdx")).verdict
        assert (verdict.state, verdict.next_boot, verdict.remedies, verdict.warnings) == (
            State.NOT_TDX,
            None,
            (),
            (),
        )

    def test_not_convertible_memory(self) -> None:
        """Memory outside the CMRs is rejected under memory-regions and a warning under cmr-walk."""
        memory = (MemoryRegion(MIB, GIB, 0), MemoryRegion(4 * GIB, 8 * GIB, 0))
        facts = HostFacts(memory_regions=memory, cmrs=((MIB, GIB - MIB), (4 * GIB, 3 * GIB)))
        regions = assess(facts, WhatIf(strategy=Strategy.MEMORY_REGIONS)).verdict
        assert regions.state is State.WILL_FAIL
        assert any(
            "1 GiB of memory lie outside every CMR: the TDX module rejects" in w for w in regions.warnings
        )
        walk = assess(facts, WhatIf(strategy=Strategy.CMR_WALK)).verdict
        assert walk.state is State.WILL_INITIALIZE
        assert any("a guest that gets such a page fails later" in w for w in walk.warnings)

    def test_nothing_was_tried(self) -> None:
        """A KeyID line and no more, in a log that goes on: the likely causes are named."""
        early = from_logs("canonical-tdx-382-notloaded")
        assert not any("nothing happened" in remedy for remedy in early.verdict.remedies)
        assert any("The log ends 13 seconds after the boot" in text for text in early.verdict.warnings)
        health = early.facts.log_health
        assert health is not None
        verdict = assess(replace(early.facts, log_health=replace(health, until=3600.0))).verdict
        assert verdict.state is State.CANNOT_TELL
        assert "kvm_intel.tdx=1 is given but nothing happened" in verdict.remedies[-1]

    def test_estimate_from_cmrs_is_no_mismatch(self) -> None:
        """With only CMRs known, PAMT is estimated, marked, and never counted against the kernel."""
        for name, kib in [
            ("canonical-tdx-206", 2101260),
            ("canonical-tdx-385", 8396820),
            ("canonical-readme-2310", 4202516),
            ("canonical-tdx-135-fixed", 1050644),
        ]:
            verdict = from_logs(name).verdict
            assert verdict.estimate is not None
            assert abs(verdict.estimate.pamt_kib - kib) <= 4
            assert verdict.cross_check.matches is None
            assert any("Estimated from the CMRs" in text for text in verdict.evidence)

    def test_a_plan_that_disagrees_with_the_kernel(self) -> None:
        """Another PAMT than recomputed is a mismatch, with both numbers."""
        log = KernelReport(state=ModuleState.INITIALIZED, keyids=(32, 64), pamt_kib=4)
        verdict = assess(host("good-2-node", kernel_log=log)).verdict
        assert verdict.cross_check.matches is False
        assert "The kernel allocated 4 KiB for PAMTs, but 2101260 KiB are recomputed." in verdict.evidence

    @pytest.mark.parametrize(
        ("log", "limits", "matches", "words"),
        [
            (
                KernelReport(state=ModuleState.INITIALIZED),
                Limits(max_tdmrs=2),
                False,
                "TDX came up, but the plan under memory-regions says otherwise.",
            ),
            (
                KernelReport(state=ModuleState.FAILED, reason=FailureReason.TDMRS, errno=-28),
                Limits(max_tdmrs=2),
                True,
                "TDX ran out of TDMRs, as the plan under memory-regions says.",
            ),
            (
                KernelReport(state=ModuleState.FAILED, reason=FailureReason.TDMRS, errno=-28),
                Limits(),
                False,
                "TDX ran out of TDMRs, but the plan under memory-regions says otherwise.",
            ),
            (
                KernelReport(state=ModuleState.INITIALIZED, tdmrs_used=(3, 4)),
                Limits(max_tdmrs=4),
                True,
                "The kernel used 3 TDMRs of 4, as recomputed.",
            ),
            (
                KernelReport(state=ModuleState.INITIALIZED, tdmrs_used=(4, 4)),
                Limits(max_tdmrs=4),
                False,
                "The kernel used 4 TDMRs of 4, but 3 of 4 are recomputed.",
            ),
            (
                KernelReport(state=ModuleState.FAILED, reason=FailureReason.AREAS_OR_TDMRS, errno=-28),
                Limits(),
                False,
                "TDX ran out of reserved areas or TDMRs, but the plan under memory-regions says otherwise.",
            ),
            (
                KernelReport(state=ModuleState.FAILED, reason=FailureReason.AREAS_OR_TDMRS, errno=-28),
                Limits(max_reserved_per_tdmr=3),
                True,
                "TDX ran out of reserved areas or TDMRs, as the plan under memory-regions says.",
            ),
        ],
    )
    def test_outcome_against_plan(
        self, log: KernelReport, limits: Limits, *, matches: bool, words: str
    ) -> None:
        """Every outcome that the memory map decides is compared with the plan's; good-2-node has 3 TDMRs."""
        facts = host("good-2-node", kernel_log=log, limits=limits, kernel_release="6.16.0")
        verdict = assess(facts).verdict
        assert verdict.cross_check.matches is matches
        assert words in verdict.evidence

    @pytest.mark.parametrize(
        ("size", "status", "matches"),
        [
            (8 * GIB, 0xC0000A0200000001, True),
            (8 * GIB, 0xC0000A1200000001, False),
            (16 * GIB, 0xC0000A0200000001, False),
        ],
    )
    def test_rejection_against_plan(self, size: int, status: int, *, matches: bool) -> None:
        """A plan that the module has rejected is compared with what its checks say here; CMRs decide."""
        log = KernelReport(
            state=ModuleState.FAILED, reason=FailureReason.SEAMCALL, seamcall=SeamcallFailure(0x2D, status)
        )
        regions = (MemoryRegion(4 * GIB, 20 * GIB, 0),)
        facts = HostFacts(
            memory_regions=regions, cmrs=((4 * GIB, size),), kernel_log=log, pamt_placement=Placement.NONE
        )
        assert assess(facts).verdict.cross_check.matches is matches

    def test_memory_outside_cmrs_and_yet_it_came_up(self) -> None:
        """When more memory lies outside the CMRs than PAMTs could cover, coming up is a contradiction."""
        log = KernelReport(state=ModuleState.INITIALIZED)
        facts = HostFacts(
            memory_regions=(MemoryRegion(4 * GIB, 20 * GIB, 0),), cmrs=((4 * GIB, 8 * GIB),), kernel_log=log
        )
        assert assess(facts).verdict.cross_check.matches is False

    def test_no_memory_for_a_pamt_is_no_mismatch(self) -> None:
        """Whether a PAMT finds room depends on the hour, not on the map: nothing to compare with."""
        log = KernelReport(state=ModuleState.FAILED, reason=FailureReason.NO_MEMORY, errno=-12)
        assert assess(host("good-2-node", kernel_log=log)).verdict.cross_check.matches is None


class TestRemedies:
    def test_memory_to_give_up(self) -> None:
        """With the first proposal the host fits, with the second it has room, as their figures say."""
        facts = host("emerald-rapids")
        fits, roomy = [
            r for f in assess(facts).verdict.findings for r in f.remedies if r.kind == "add-arguments"
        ]
        for remedy, left, next_boot in ((fits, 0, State.AT_RISK), (roomy, 3, State.WILL_INITIALIZE)):
            edits = map_edits(re.findall(r"memmap=[!-~]*[0-9]", remedy.text))
            assert all(edit.punches for edit in edits)
            assert tuple(edit.argument for edit in edits) == remedy.arguments
            changed = assess(facts, WhatIf(holes=tuple(edit.range for edit in edits)))
            plan = changed.plans[Strategy.MEMORY_REGIONS]
            assert plan is not None
            assert (plan.errno, plan.headroom) == (0, remedy.left)
            assert remedy.left == left
            assert changed.verdict.next_boot is next_boot

    def test_the_operators_own_hole_is_named(self) -> None:
        """A memmap= argument that makes one of the holes is named, with what comes of taking it away."""
        facts, argument = with_own_hole("memmap=1M${0:#x}")
        (remedy,) = [r for r in assess(facts).verdict.remedies if "off the command line" in r]
        assert remedy.startswith(f"Take {argument} off the command line; without it: All 2 TDMRs fit")

    @pytest.mark.parametrize(
        "form",
        [
            "memmap=1M$0{0:o}",
            "memmap=0X100000$0X{0:X}",
            "memmap=1024k#{0}",
            "memmap=1M!{0:#x}",
            "memmap=1M%{0:#x}-1+2",
            "memmap=1M%{0:#x}+2",
            "memmap=1M%{0:#x}-1",
            "memmap=1M%{0:#x}",
            '"memmap=1M${0:#x}"',
            'memmap="1M$0{0:o}"',
        ],
    )
    def test_the_operators_own_hole_in_every_notation(self, form: str) -> None:
        """Whatever the kernel takes is seen, and no notation ends the assessment."""
        facts, argument = with_own_hole(form)
        verdict = assess(facts).verdict
        assert any(r.startswith(f"Take {argument} off the command line") for r in verdict.remedies)
        assert verdict.failures == ()

    def test_what_a_list_has_is_named_as_its_part(self) -> None:
        """Of several in one argument only the one that harms is to go."""
        facts, _ = with_own_hole("memmap=nonsense,1M${0:#x},1M@512G")
        (remedy,) = [r for r in assess(facts).verdict.remedies if "Take" in r]
        assert "(part of memmap=nonsense," in remedy

    def test_two_that_make_one_hole(self) -> None:
        """Neither alone makes the plan better, both together do."""
        facts, argument = with_own_hole("memmap=512K${0:#x}", "memmap=512K${1:#x}")
        (remedy,) = [r for r in assess(facts).verdict.remedies if "Take" in r]
        assert argument in remedy
        assert "off the command line; without them: All" in remedy

    def test_a_hole_that_the_firmware_makes_too(self) -> None:
        """An argument over memory that is no RAM in the firmware's map makes no difference: it may stay."""
        facts, _ = with_own_hole("memmap=1M${0:#x}", "memmap=2M$0")
        assert facts.firmware_map is not None
        gap = facts.memory_regions[2].end if facts.memory_regions else 0
        reserved = FirmwareRange(gap, gap + MIB, "Reserved")
        changed = replace(facts, firmware_map=(*facts.firmware_map, reserved))
        assert not [r for r in assess(changed).verdict.remedies if "Take" in r]
        unknown = replace(facts, firmware_map=None)
        assert not [r for r in assess(unknown).verdict.remedies if "Take" in r]

    @pytest.mark.parametrize("name", ["emerald-rapids", "granite-rapids-like"])
    @pytest.mark.parametrize(
        "notation", ["memmap={1}K%{0:#x}-1+2", "memmap={1}K$0{0:o}", "memmap={1}k${0}", "memmap={1}K!0X{0:X}"]
    )
    def test_a_remedy_that_was_followed_stays(self, name: str, notation: str) -> None:
        """With the remedy applied and the host up, nothing says to take it off again."""
        facts = replace(host(name), kernel_log=None, kernel_release=None)
        proposed = assess(facts).verdict.remedies
        applied = [e for r in proposed for e in map_edits(re.findall(r"memmap=[!-~]*[0-9]", r))]
        assert applied
        for edits in (applied[:1], applied):
            up = assess(
                replace(
                    assess(facts, WhatIf(holes=tuple(edit.range for edit in edits))).facts,
                    command_line=tuple(notation.format(e.start, e.size // KIB) for e in edits),
                    kernel_log=KernelReport(ModuleState.INITIALIZED),
                )
            )
            assert up.verdict.state is State.INITIALIZED
            assert not [r for r in up.verdict.remedies if "Take" in r]

    def test_holes_are_named_by_what_the_firmware_calls_them(self) -> None:
        """The smallest holes come with their firmware type and size."""
        regions = holed(17)
        kind = FirmwareRange(regions[0].end, regions[1].start, "ACPI Non-volatile Storage")
        facts = HostFacts(memory_regions=regions, firmware_map=(kind,))
        assert any("1 MiB (ACPI Non-volatile Storage)" in r for r in assess(facts).verdict.remedies)

    def test_splitting_at_a_gib(self) -> None:
        """Whether the patch's second proposal would help is computed."""
        remedies = assess(host("emerald-rapids")).verdict.remedies
        assert any(
            "split at 1 GiB borders, the TDMR would fit" in r and "6 TDMRs of 64" in r for r in remedies
        )

    def test_all_is_well(self) -> None:
        """A host with room to spare gets no remedies."""
        assert assess(host("good-2-node")).verdict.remedies == ()


class TestWhatIf:
    def test_limits(self) -> None:
        """Other limits decide anew."""
        facts = host("emerald-rapids")
        assert assess(facts, WhatIf(max_reserved=32)).verdict.state is State.WILL_INITIALIZE
        assert assess(facts, WhatIf(max_tdmrs=4)).verdict.state is State.WILL_FAIL

    def test_dynamic_pamt(self) -> None:
        """The 4K part becomes a bitmap of one bit a page."""
        plan = assess(host("good-2-node"), WhatIf(dynamic_pamt=True)).plans[Strategy.CMR_WALK]
        assert plan is not None
        assert plan.tdmrs[0].pamt.size_4k == 2 * GIB // (4 * KIB) // 8

    def test_without_memmap(self) -> None:
        """Memory that memmap= took away is back, with its node."""
        facts = HostFacts(
            memory_regions=(MemoryRegion(MIB, GIB, 0), MemoryRegion(2 * GIB, 3 * GIB, 0)),
            firmware_map=(FirmwareRange(MIB, 3 * GIB, "System RAM"),),
            command_line=("memmap=1G$1G",),
        )
        changed = assess(facts, WhatIf(without_memmap=True)).facts
        assert changed.memory_regions == (MemoryRegion(MIB, 3 * GIB, 0),)

    def test_without_memmap_needs_one(self) -> None:
        """Without memmap= on the command line there is nothing to try, and that is said."""
        with pytest.raises(Exception, match="no memmap= or mem="):
            assess(host("good-2-node"), WhatIf(without_memmap=True))

    @pytest.mark.parametrize("firmware", [(), (FirmwareRange(0, 4096, "Reserved"),)])
    def test_without_memmap_needs_memory(self, firmware: tuple[FirmwareRange, ...]) -> None:
        """A firmware's map without memory gives nothing to go back to, and that is said."""
        facts = HostFacts(
            memory_regions=(MemoryRegion(MIB, GIB, 0),), firmware_map=firmware, command_line=("mem=1G",)
        )
        with pytest.raises(FactsError, match="no System RAM in the firmware's memory map"):
            assess(facts, WhatIf(without_memmap=True))

    def test_a_hole_where_no_memory_is(self) -> None:
        """A hole that takes nothing away changes no plan, and is named as such."""
        facts = host("emerald-rapids")
        asked = WhatIf(holes=(Range(0x80000000, 0x80001000), Range(0x64158000, 0x64159000)))
        assert assess(facts, asked).plans == assess(facts, WhatIf(holes=asked.holes[1:])).plans
        assert without_effect(asked, facts) == asked.holes[:1]

    def test_another_kernel_may_know_the_cpu(self) -> None:
        """A kernel without TDX does not show the flag: no answer about the next kernel either way."""
        now = host("good-2-node", kernel_log=None, platform=Platform(tdx_host_platform=False))
        assert assess(now).verdict.state is State.NOT_TDX
        verdict = assess(now, WhatIf(kernel="6.16.0")).verdict
        assert verdict.state is State.CANNOT_TELL
        assert "The memory map alone: All 3 TDMRs fit" in verdict.summary

    def test_what_happened_does_not_count(self) -> None:
        """A changed host is judged by prediction, not by what this boot did."""
        verdict = assess(host("emerald-rapids"), WhatIf(holes=(Range(0x64158000, 0x64159000),))).verdict
        assert verdict.state is State.AT_RISK
        assert verdict.cross_check.matches is None


class TestChecks:
    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("emerald-rapids", Status.CRITICAL),
            ("granite-rapids-like", Status.CRITICAL),
            ("good-2-node", Status.OK),
            ("no-tdx", Status.UNKNOWN),
            ("small-vm", Status.UNKNOWN),
        ],
    )
    def test_status(self, name: str, status: Status) -> None:
        """Each captured host has its status; the verdict comes last and every trouble has a hint."""
        assessment = assess(host(name))
        checks = run_checks(assessment)
        assert status_of(assessment, checks) is status
        assert checks[-1].group == "verdict"
        groups = [c.group for c in checks]
        order = list(dict.fromkeys(groups))
        assert groups == [g for g in order for _ in range(groups.count(g))]
        assert all(c.hint for c in checks if c.result is Result.FAIL and c.group != "verdict")


def test_an_initialized_host_without_a_map_is_not_critical() -> None:
    """A log that shows TDX up but no memory map is no reason to page anybody."""
    assessment = from_logs("canonical-tdx-206")
    assert status_of(assessment, run_checks(assessment)) is Status.WARNING


def test_seamcall_in_words() -> None:
    """Leaf and status get their names, TDMR or field theirs."""
    assert (
        describe_seamcall(SeamcallFailure(0x22, 0xC000050500000000, 0x9100000100000008))
        == "TDH.SYS.RD returned TDX_SYS_NOT_READY for field 0x9100000100000008"
    )
    assert (
        describe_seamcall(SeamcallFailure(0x2D, 0xC0000A0200000003))
        == "TDH.SYS.CONFIG returned TDX_TDMR_OUTSIDE_CMRS for TDMR number 3"
    )
    assert describe_seamcall(SeamcallFailure(0x99, 1 << 60)) == "leaf 0x99 returned status 0x1000000000000000"


def test_refused_call_without_an_end() -> None:
    """A kernel that gives TDX up after a refused call says no more: no promise, and the call in words."""
    log = KernelReport(keyids=(32, 64), seamcall=SeamcallFailure(0x23, 0xC0000900_00000000))
    verdict = assess(host("good-2-node", kernel_log=log, kernel_release="6.17.0")).verdict
    assert (verdict.state, verdict.next_boot) == (State.CANNOT_TELL, None)
    assert "TDH.SYS.LP.INIT returned TDX_INCORRECT_CPUID_VALUE" in verdict.summary
    assert "The memory map alone: All 3 TDMRs fit" in verdict.summary
    assert verdict.remedies[0].startswith("Update the TDX module")
    module = next(
        check for check in run_checks(assess(host("good-2-node", kernel_log=log))) if check.name == "module"
    )
    assert (module.result, module.hint) == (Result.WARN, verdict.remedies[0])
    fails = host("emerald-rapids", kernel_log=log, kernel_release="6.17.0")
    assert assess(fails).verdict.state is State.WILL_FAIL
    up = Platform(tdx_module_version="1.5.24")
    found = assess(host("good-2-node", kernel_log=log, kernel_release="7.2.0", platform=up)).verdict
    assert (found.state, found.next_boot) == (State.INITIALIZED, State.WILL_INITIALIZE)


def test_outcomes_of_captured_hosts() -> None:
    """Each captured host's plans end as they should."""
    expected = {
        "emerald-rapids": ["reserved-areas-exhausted", "ok", "ok"],
        "granite-rapids-like": ["reserved-areas-exhausted", None, None],
        "good-2-node": ["ok", "ok", "ok"],
    }
    for name, outcomes in expected.items():
        plans = assess(host(name)).plans.values()
        assert [None if plan is None else str(plan.outcome) for plan in plans] == outcomes


def test_splitting_a_tdmr_of_any_size() -> None:
    """What splitting would do is said at once, of a TDMR of 2^33 GiB too: areas are counted, not GiB."""
    memory = (MemoryRegion(MIB, 1 << 63, 0), MemoryRegion(1 << 63, (1 << 64) - GIB, 0))
    bases = GivenBases((3 * GIB - MIB, 3 * GIB))
    limits = Limits(max_reserved_per_tdmr=2)
    host = HostFacts(memory_regions=memory, limits=limits, pamt_placement=bases)
    split = next(text for text in assess(host).verdict.remedies if "kernel developers" in text)
    assert "at most 2 areas of 2 a piece, 8589934593 TDMRs of 64" in split
