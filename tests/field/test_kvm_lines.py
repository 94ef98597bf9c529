# SPDX-License-Identifier: Apache-2.0
"""What kvm_intel says when it gives TDX up: a log of a boot for each line, in every form of logs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.field.test_field_logs import FORMS

from tdx_headroom.facts.boots import BootInventory, KvmLoading
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, NoTdx
from tdx_headroom.host.choose import choose_facts, facts_from_log
from tdx_headroom.host.readings import with_maps
from tdx_headroom.sources.kernel_log.book import MAX_UNREAD, LogBook
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.sources.kernel_log.redact import as_kmsg, as_saved, redacted
from tdx_headroom.sources.kernel_log.text import parse_log_text
from tdx_headroom.sources.reading import Reading
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

MMU, EPT, APICV = FailureReason.KVM_MMU, FailureReason.KVM_EPT, FailureReason.KVM_APICV
FAILED, UP = ModuleState.FAILED, ModuleState.INITIALIZED
MMU_LINE = "TDP MMU and MMIO caching and EPT A/D bit is required for TDX"
LINE = "console=ttyS0 kvm_intel.tdx=1 nohibernate"

GIVEN_UP = {
    "EPT is required for TDX": EPT,
    "Cannot enable TDX with EPT disabled": EPT,
    "Cannot enable TDX with EPT disabled.": EPT,
    MMU_LINE: MMU,
    "TDP MMU and MMIO caching is required for TDX": MMU,
    "TDX requires TDP MMU.  Please enable TDP MMU for TDX.": MMU,
    "TDX requires mmio caching.  Please enable mmio caching for TDX.": MMU,
    "APICv is required for TDX": APICV,
    "tdx: tdx requires kvm.enable_virt_at_load=1": FailureReason.KVM_VIRTUALIZATION,
    "tdx: no TDX private KeyIDs available": FailureReason.KEYIDS,
    "MSR c0000082 isn't included by kvm_find_user_return_msr": FailureReason.OTHER,
    "MSR_IA32_TSX_CTRL isn't included by kvm_find_user_return_msr": FailureReason.OTHER,
    "Too old version of TDX module. Consider upgrade.": FailureReason.RBP_BUG,
}
LACKING = (
    "tdx: OSXSAVE is required for TDX",
    "OSXSAVE is required for TDX",
    "tdx: MOVDIR64B is required for TDX",
    "MOVDIR64B is reqiured for TDX",
    "Self-snoop is required for TDX",
    "tdx: SELF_SNOOP is required for TDX",
)
VCPUS = "Disable TDX: MAX_VCPU_PER_TD (64) smaller than number of logical CPUs (256)."
NOT_UNDERSTOOD = (
    "TDX is required for TDX",
    f"{MMU_LINE} guests",
    "tdx: something new",
    "Disable TDX: module is in another state.",
    "Could not set TDX up (-5)",
)
OF_OTHERS = (
    "kvm_intel: VMX not supported by CPU 3",
    "kvm_intel: port 1(tdx) entered blocking state",
    "kvm_intel: renamed from tdx",
    "kvm_intel: TDX is supported.",
    "kvm_intel: tdx: live migration supported",
    "kvm_intel: tdx: max servtds supported per user TD is 1",
    "kvm_intel: TDXX is required",
    "kvm_intel: TDX[123]: segfault at 0 ip 0 sp 0 error 4",
    "kvm: TDX",
)


def boot(*said: str, release: str = "6.16.3", line: str = LINE) -> list[str]:
    """The messages of a boot of a host with room, up to what KVM says."""
    return [
        f"Linux version {release} (user@host) (gcc) #1 SMP PREEMPT_DYNAMIC",
        f"Command line: {line}",
        "BIOS-provided physical RAM map:",
        "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable",
        "BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable",
        "BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable",
        "virt/tdx: BIOS enabled: private KeyID range [32, 64)",
        "smp: Brought up 1 node, 64 CPUs",
        *said,
        "systemd[1]: Hostname set to <host>.",
    ]


def read(messages: list[str], form: str = "times") -> HostFacts:
    text = "".join(f"{FORMS[form](message)}\n" for message in messages)
    return facts_from_log(read_log_file("log", text))


def kmsg(messages: list[str], facility: int = 0) -> str:
    """Records of the kernel's; those of KVM with a facility."""
    return "".join(
        f"{6 + 8 * facility * m.startswith('kvm')},{i},{i * 1000},-;{m}\n" for i, m in enumerate(messages)
    )


def verified(messages: list[str], facility: int = 0) -> HostFacts:
    log = parse_kmsg(kmsg(messages, facility))
    return choose_facts(with_maps(Reading("kernel-log", "kmsg", value=log), {}))


def report(facts: HostFacts) -> KernelReport:
    assert facts.kernel_log is not None
    return facts.kernel_log


def next_boot(facts: HostFacts, what_if: WhatIf | None = None) -> State | None:
    return (assess(facts) if what_if is None else assess(facts, what_if)).verdict.next_boot


def kinds(assessment: Assessment) -> set[str]:
    return {found.kind for found in assessment.verdict.findings if found.severity != "note"}


def test_the_boot_is_well_without() -> None:
    """What the other tests add decides, and nothing else does."""
    assert next_boot(read(boot())) is State.WILL_INITIALIZE
    assert next_boot(verified(boot())) is State.WILL_INITIALIZE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said", GIVEN_UP)
def test_kvm_gives_tdx_up(said: str, form: str) -> None:
    """Each line is the failure of this boot, with its cause, and there is something to do about it."""
    facts = read(boot(f"kvm_intel: {said}"), form)
    log = report(facts)
    assert (log.state, log.reason, log.kvm_failed) == (FAILED, GIVEN_UP[said], True)
    assessment = assess(facts)
    assert assessment.verdict.state is State.FAILED
    lasts = log.reason is not FailureReason.OTHER
    assert assessment.verdict.next_boot is (State.WILL_FAIL if lasts else State.AT_RISK)
    assert assessment.verdict.remedies


@pytest.mark.parametrize("said", GIVEN_UP)
def test_a_kernel_without_release(said: str) -> None:
    """The line alone is enough: where a kernel starts TDX itself, its word would be before."""
    facts = read([f"kvm_intel: {said}"], "bare")
    assert report(facts).reason is GIVEN_UP[said]
    assert next_boot(facts) is not State.WILL_INITIALIZE


@pytest.mark.parametrize("said", [*GIVEN_UP, *LACKING])
def test_only_the_kernels_own_and_whole(said: str) -> None:
    """What user space writes is nothing, and a line with more in it is one that is not understood."""
    assert report(verified(boot(f"kvm_intel: {said}"))).state in (FAILED, ModuleState.UNSUPPORTED)
    assert next_boot(verified(boot(f"kvm_intel: {said}"), facility=1)) is State.WILL_INITIALIZE
    if "TDX" in said:
        facts = verified(boot(f"kvm_intel: {said} or so"))
        assert (report(facts).state, next_boot(facts)) == (ModuleState.UNKNOWN, None)


@pytest.mark.parametrize("said", LACKING)
def test_a_cpu_that_lacks_something(said: str) -> None:
    """No TDX here, as where the kernel itself says so."""
    log = report(read(boot(f"kvm_intel: {said}")))
    assert (log.state, log.no_tdx, log.reason) == (
        ModuleState.UNSUPPORTED,
        NoTdx.CPU_FEATURE,
        FailureReason.CPU_FEATURE,
    )


def test_too_few_cpus_in_a_guest() -> None:
    """The module is up, and KVM gives it to nobody."""
    facts = read(boot(f"kvm_intel: {VCPUS}"))
    assert (report(facts).state, report(facts).kvm_failed) == (UP, True)
    (found,) = [one for one in assess(facts).verdict.findings if one.kind == "up-for-guests"]
    assert "KVM has said" in found.text


@pytest.mark.parametrize("said", [*GIVEN_UP, *LACKING, VCPUS, "TDX not supported by the host platform"])
@pytest.mark.parametrize("release", ["6.16.3", "7.1.0"])
def test_a_module_that_is_up_stays_so(said: str, release: str) -> None:
    """KVM, loaded again or by a kernel that has started TDX itself, is about guests alone."""
    up = "virt/tdx: module initialized" if release < "7" else "virt/tdx: TDX-Module initialized"
    for facts in (
        read(boot(up, f"kvm_intel: {said}", release=release)),
        verified(boot(up, f"kvm_intel: {said}", release=release)),
    ):
        assert (report(facts).state, report(facts).kvm_failed) == (UP, True)
        assert next_boot(facts) is State.WILL_INITIALIZE


@pytest.mark.parametrize("said", [said for said, reason in GIVEN_UP.items() if reason.startswith("kvm-")])
def test_from_7_1_on_it_says_nothing_of_the_module(said: str) -> None:
    """Its lines may be lost, but KVM has no part in what became of it."""
    assessment = assess(read(boot(f"kvm_intel: {said}", release="7.1.0")))
    assert report(assessment.facts).state is ModuleState.UNKNOWN
    assert (assessment.verdict.next_boot, kinds(assessment)) == (State.WILL_INITIALIZE, set())


def test_what_the_kernel_says_comes_first() -> None:
    """After a failure of the module KVM's line tells no more; the module's decides."""
    failed = "virt/tdx: initialization failed: Hibernation support is enabled"
    assert report(verified(boot(failed, f"kvm_intel: {MMU_LINE}"))).reason is FailureReason.HIBERNATION


def test_loaded_again() -> None:
    """In a verified log the last word counts, in any other the worse, and the first of equal ones."""
    twice = boot("kvm_intel: EPT is required for TDX", "kvm_intel: APICv is required for TDX")
    assert report(verified(twice)).reason is APICV
    facts = read(twice)
    assert (report(facts).reason, report(facts).contradictions) == (EPT, ())
    mended = boot("kvm_intel: EPT is required for TDX", "virt/tdx: module initialized")
    assert (report(verified(mended)).state, next_boot(verified(mended))) == (UP, State.WILL_INITIALIZE)
    assert report(read(mended)).state is FAILED


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said", NOT_UNDERSTOOD)
def test_other_lines_may_be_a_failure(said: str, form: str) -> None:
    """Nothing good is said beside a line of KVM's about TDX that is not understood."""
    facts = read(boot(f"kvm_intel: {said}"), form)
    assert facts.log_health is not None
    assert (facts.log_health.unread, facts.log_health.hides_failure) == (1, True)
    assert next_boot(facts) is None


@pytest.mark.parametrize("said", NOT_UNDERSTOOD)
def test_other_lines_in_a_verified_log(said: str) -> None:
    """There, too, and in the journal; user space's are none."""
    messages = boot(f"kvm_intel: {said}")
    assert next_boot(verified(messages)) is None
    assert next_boot(verified(messages, facility=3)) is State.WILL_INITIALIZE
    journal = "".join(
        json.dumps({"_TRANSPORT": "kernel", "_BOOT_ID": "ab" * 16, "PRIORITY": "6", "MESSAGE": message})
        + "\n"
        for message in messages
    )
    assert next_boot(facts_from_log(read_log_file("log", journal))) is None


@pytest.mark.parametrize("said", OF_OTHERS)
def test_lines_of_others(said: str) -> None:
    """A device or a program may have that name, and most of what KVM says is about other things."""
    for facts in (read(boot(said)), verified(boot(said))):
        assert facts.log_health is not None
        assert facts.log_health.unread == 0
        assert next_boot(facts) is State.WILL_INITIALIZE


@pytest.mark.parametrize("said", [*GIVEN_UP, *LACKING, VCPUS, *NOT_UNDERSTOOD])
def test_a_capture_says_the_same(said: str) -> None:
    """Redacted, a log tells the same; what was not understood leaves no word of it."""
    messages = boot(f"kvm_intel: {said}")
    for log in (
        parse_kmsg(kmsg(messages)),
        parse_log_text("".join(f"[    1.000000] {m}\n" for m in messages)),
    ):
        again = redacted(log)
        saved = as_kmsg(again) if log.verified else as_saved(again)
        assert (said in saved) == (said not in NOT_UNDERSTOOD)
        parsed = parse_kmsg(saved) if log.verified else parse_log_text(saved)
        before, after = (
            choose_facts(with_maps(Reading("kernel-log", "log", value=one), {})) for one in (log, parsed)
        )
        assert report(after) == report(before)
        assert before.log_health is not None
        assert after.log_health is not None
        assert after.log_health.unread == before.log_health.unread
        assert next_boot(after) is next_boot(before)


def test_the_agent_keeps_them() -> None:
    """Of what is not understood a few, however often it comes, also over a restart of the agent."""
    book = LogBook()
    for seq in range(3 * MAX_UNREAD):
        book.add(4, seq, seq, "kvm_intel: TDX is at sea")
    again = LogBook()
    again.restore(book.records, book.last_seq)
    again.add(4, 9999, 9999, "kvm_intel: TDX is at sea")
    texts = [record.text for record in again.log().records if record.text]
    assert texts == ["kvm_intel: TDX is at sea"] * MAX_UNREAD
    assert not book.add(12, 10000, 10000, "kvm_intel: TDX, says a process")


def refused(line: str, said: str = "APICv is required for TDX") -> HostFacts:
    return read(boot(f"kvm_intel: {said}", line=line))


def under(facts: HostFacts, line: str, kernel: str | None = None) -> Assessment:
    return assess(facts, WhatIf(kernel=kernel, command_line=tuple(line.split())))


def test_another_command_line() -> None:
    """What is off on this boot's line is told by the next one; what is off for no known cause may stay so."""
    known = refused(f"{LINE} kvm_intel.enable_apicv=0")
    assert {"kvm-refused", "kvm-option-off"} <= kinds(assess(known))
    mended = under(known, LINE)
    assert (mended.verdict.next_boot, kinds(mended)) == (State.WILL_INITIALIZE, set())
    same = under(known, f"{LINE} kvm_intel.enable_apicv=0")
    assert (same.verdict.next_boot, kinds(same)) == (State.WILL_FAIL, {"kvm-option-off"})

    unknown = refused(LINE)
    assert (next_boot(unknown), kinds(assess(unknown))) == (State.WILL_FAIL, {"kvm-refused"})
    open_still = under(unknown, f"{LINE} memhp_default_state=online")
    assert (open_still.verdict.next_boot, kinds(open_still)) == (State.AT_RISK, {"kvm-refused"})
    told = under(unknown, f"{LINE} kvm_intel.enable_apicv=1")
    assert (told.verdict.next_boot, kinds(told)) == (State.WILL_INITIALIZE, set())
    assert kinds(under(unknown, LINE, kernel="7.1.0")) == set()


def test_modprobe_has_turned_it_off() -> None:
    """Its configuration tells of the next boot, and is there under any command line."""
    loading = KvmLoading(options=("kvm_intel.enable_apicv=0",))
    facts = replace(refused(LINE), boots=BootInventory(modprobe_read=True, kvm_loading=loading))
    found = under(facts, f"{LINE} memhp_default_state=online")
    assert (found.verdict.next_boot, kinds(found)) == (State.WILL_FAIL, {"kvm-option-off"})
    mended = replace(facts, boots=BootInventory(modprobe_read=True))
    assert kinds(under(mended, f"{LINE} memhp_default_state=online")) == {"kvm-refused"}


def test_a_host_without_tdx() -> None:
    """KVM looks at itself before it looks whether there is TDX: such a line shows none."""
    messages = [m for m in boot("kvm_intel: EPT is required for TDX") if not m.startswith("virt/tdx")]
    assessment = assess(verified(messages))
    assert (assessment.verdict.state, assessment.verdict.next_boot) == (State.NOT_TDX, None)
