# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.address import Range
from tdx_headroom.facts.kernel_report import FailureReason, KernelReport, ModuleState, SeamcallFailure
from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.report import read_report

KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
ATTRIBUTES = (
    "virt/tdx: TDX module: attributes 0x0, vendor_id 0x8086, major_version 1, minor_version 5,"
    " build_date 20240129, build_num 698"
)
CMRS = ["virt/tdx: CMR: [0x100000, 0x6f800000)", "virt/tdx: CMR: [0x100000000, 0x107a000000)"]
CMR_RANGES = (Range(0x100000, 0x6F800000), Range(0x1_0000_0000, 0x10_7A00_0000))
INITIALIZING = (
    "virt/tdx: Initializing TDX module: 1.5.05.46.0698 (build_date 20240129, Production module),"
    " TDX_FEATURES0 0xfbf"
)
PAMT = "virt/tdx: 1050644 KB allocated for PAMT"
UP = "virt/tdx: module initialized"
AREAS = "virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted."
AREAS_HIGH = "virt/tdx: initialization failed: TDMR [0x40000000, 0x80000000): reserved areas exhausted."
SEAMCALL = "virt/tdx: SEAMCALL (0x0000000000000022) failed: 0xc000050500000000"
REGISTERS = "virt/tdx: RCX 0x0000000000000000 RDX 0x9100000100000008 R08 0x0000000000000000"
KVM_FAILED = "kvm_intel: Failed to initialize TDX module."
RUNTIME = "SEAMCALL (0x000000000000001c) failed: 0xc000030000000001 RCX 0x0000000000000000"


def failed(errno: int, name: str = "module") -> str:
    return f"virt/tdx: {name} initialization failed ({errno})"


def report(*messages: str, verified: bool = True) -> KernelReport:
    records = tuple(LogRecord(message, seq) for seq, message in enumerate(messages))
    return read_report(KernelLog(records, verified=verified))


def test_nothing_about_tdx() -> None:
    """A log without a TDX line tells nothing, which is not the same as no TDX."""
    assert report("Linux version 6.8.0", "hello") == KernelReport(verified=True)
    assert report() == KernelReport(verified=True)
    assert report().state is ModuleState.UNKNOWN


def test_keyids_alone() -> None:
    """KeyIDs without an attempt: nobody has tried yet."""
    found = report(KEYIDS)
    assert found.state is ModuleState.NOT_ATTEMPTED
    assert found.keyids == (32, 64)


def test_success() -> None:
    """A whole successful attempt gives version, CMRs, PAMT and state."""
    found = report("Linux version", KEYIDS, ATTRIBUTES, *CMRS, PAMT, UP)
    assert found == KernelReport(
        state=ModuleState.INITIALIZED,
        message=PAMT,
        keyids=(32, 64),
        module_version="1.5",
        module_build="build 698 of 20240129",
        cmrs=CMR_RANGES,
        cmrs_complete=True,
        pamt_kib=1050644,
        verified=True,
    )


def test_version_after_the_pamt() -> None:
    """A kernel that prints the version between PAMT and success tells of one attempt, with its PAMT."""
    found = report(PAMT, "virt/tdx: module verson: 1.5.1.0", UP)
    assert found.state is ModuleState.INITIALIZED
    assert (found.pamt_kib, found.module_version) == (1050644, "1.5.1.0")


@pytest.mark.parametrize(
    "line", [PAMT, UP, "tdx: TDX module initialized.", "virt/tdx: TDX-Module initialized"]
)
def test_one_line_of_success(line: str) -> None:
    """The PAMT line is printed only on success, so either closing line alone proves it."""
    found = report(line)
    assert found.state is ModuleState.INITIALIZED
    assert found.pamt_kib == (1050644 if line is PAMT else None)
    assert found.reason is None
    assert found.errno is None


def test_pamt_in_pages() -> None:
    """Old kernels count pages of 4 KiB."""
    assert report("tdx: 262659 pages allocated for PAMT.").pamt_kib == 1050636


@pytest.mark.parametrize(
    ("line", "reason", "errno"),
    [
        (AREAS, FailureReason.RESERVED_AREAS, -28),
        ("virt/tdx: initialization failed: TDMRs exhausted.", FailureReason.TDMRS, -28),
        ("virt/tdx: initialization failed: Hibernation support is enabled", FailureReason.HIBERNATION, None),
        ("virt/tdx: initialization failed: too few private KeyIDs available.", FailureReason.KEYIDS, None),
        (
            "virt/tdx: initialization failed: register_memory_notifier() failed (-12)",
            FailureReason.MEMORY_NOTIFIER,
            -12,
        ),
        ("virt/tdx: initialization failed (-12)", FailureReason.NO_MEMORY, -12),
        ("virt/tdx: module not loaded", FailureReason.NOT_LOADED, -19),
        ("tdx: not enabled by BIOS.", FailureReason.NOT_LOADED, None),
        ("virt/tdx: TDX module is not loaded.", FailureReason.NOT_LOADED, None),
        (failed(-28), FailureReason.AREAS_OR_TDMRS, -28),
        (failed(-28, "TDX-Module"), FailureReason.AREAS_OR_TDMRS, -28),
        (failed(-12), FailureReason.NO_MEMORY, -12),
        (failed(-22), FailureReason.METADATA, -22),
        (failed(-5), FailureReason.SEAMCALL, -5),
        (failed(-19), FailureReason.NOT_LOADED, -19),
        (failed(-95), FailureReason.EXCEPTION, -95),
        (failed(-13), FailureReason.EXCEPTION, -13),
        (failed(-1), FailureReason.OTHER, -1),
        (KVM_FAILED, FailureReason.OTHER, None),
        ("kvm_intel: tdx: no TDX private KeyIDs available", FailureReason.KEYIDS, None),
    ],
)
def test_one_line_of_failure(line: str, reason: FailureReason, errno: int | None) -> None:
    """Each closing line alone proves failure, with the reason and errno that it tells and no more."""
    found = report(KEYIDS, line)
    assert (found.state, found.reason, found.errno) == (ModuleState.FAILED, reason, errno)
    assert found.message == line
    assert found.pamt_kib is None


@pytest.mark.parametrize(
    ("first", "last", "reason", "errno"),
    [
        (AREAS, failed(-28), FailureReason.RESERVED_AREAS, -28),
        (AREAS, failed(-28, "TDX-Module"), FailureReason.RESERVED_AREAS, -28),
        ("virt/tdx: initialization failed: TDMRs exhausted.", failed(-28), FailureReason.TDMRS, -28),
        (
            "virt/tdx: frame pointer (RBP) clobber bug present, upgrade TDX module",
            failed(-22),
            FailureReason.RBP_BUG,
            -22,
        ),
        ("virt/tdx: NO_RBP_MOD feature is not supported", failed(-22), FailureReason.RBP_BUG, -22),
        (SEAMCALL, failed(-5), FailureReason.SEAMCALL, -5),
        ("virt/tdx: module not loaded", failed(-19), FailureReason.NOT_LOADED, -19),
        (
            "virt/tdx: memory region [0x0, 0x1) is not TDX convertible memory.",
            failed(-22),
            FailureReason.NOT_CONVERTIBLE,
            -22,
        ),
        (SEAMCALL, KVM_FAILED, FailureReason.SEAMCALL, None),
        ("virt/tdx: NO_RBP_MOD feature is not supported", KVM_FAILED, FailureReason.RBP_BUG, None),
    ],
)
def test_reason_and_closing_line(first: str, last: str, reason: FailureReason, errno: int | None) -> None:
    """The line before the closing one says why."""
    found = report(KEYIDS, ATTRIBUTES, first, last, "other")
    assert (found.state, found.reason, found.errno) == (ModuleState.FAILED, reason, errno)


def test_tdmr_that_ran_out() -> None:
    """The failing TDMR comes from the line that names it, which is also the message."""
    found = report(KEYIDS, ATTRIBUTES, AREAS_HIGH, failed(-28), KVM_FAILED)
    assert found.failed_tdmr == (0x4000_0000, 0x8000_0000)
    assert found.message == AREAS_HIGH
    assert found.kvm_failed


def test_limit_of_tdmrs() -> None:
    """The warning that TDMRs run out is kept with its numbers, whatever comes of it."""
    warning = "virt/tdx: consumed TDMRs reaching limit: 61 used out of 64"
    assert report(warning, PAMT, UP).tdmrs_used == (61, 64)
    found = report(warning, AREAS, failed(-28))
    assert (found.tdmrs_used, found.reason) == ((61, 64), FailureReason.RESERVED_AREAS)


def test_seamcall_with_its_field() -> None:
    """A failing SEAMCALL gives leaf, status and the field from RDX."""
    found = report(
        ATTRIBUTES, SEAMCALL, REGISTERS, "virt/tdx: R09 0x0 R10 0x0 R11 0x0", failed(-5), KVM_FAILED
    )
    assert found.seamcall == SeamcallFailure(0x22, 0xC000050500000000, 0x9100000100000008)
    assert (found.state, found.errno) == (ModuleState.FAILED, -5)


def test_seamcall_before_success() -> None:
    """A SEAMCALL that failed on the way to success is no finding."""
    found = report(ATTRIBUTES, SEAMCALL, PAMT, UP)
    assert found.state is ModuleState.INITIALIZED
    assert found.seamcall is None
    assert found.reason is None


def test_registers_without_a_seamcall() -> None:
    """A line of registers alone belongs to nothing."""
    assert report(KEYIDS, REGISTERS).seamcall is None


def test_attempt_that_is_not_over() -> None:
    """A version, CMRs and a failed SEAMCALL, but no end: nothing is claimed."""
    found = report(KEYIDS, ATTRIBUTES, *CMRS, SEAMCALL)
    assert found.state is ModuleState.UNKNOWN
    assert found.seamcall == SeamcallFailure(0x22, 0xC000050500000000)
    assert found.errno is None


@pytest.mark.parametrize(
    ("messages", "state"),
    [
        ([RUNTIME], ModuleState.INITIALIZED),
        ([KEYIDS, RUNTIME], ModuleState.INITIALIZED),
        ([RUNTIME.replace("1c", "22")], ModuleState.UNKNOWN),
        ([RUNTIME.replace("0xc000030000000001", "0x8000000080000000")], ModuleState.UNKNOWN),
        ([RUNTIME.replace("0xc000030000000001", "0xc000050500000000")], ModuleState.UNKNOWN),
        ([AREAS, failed(-28), RUNTIME], ModuleState.FAILED),
        ([PAMT, UP, RUNTIME], ModuleState.INITIALIZED),
        ([ATTRIBUTES, RUNTIME], ModuleState.UNKNOWN),
    ],
)
def test_seamcall_at_run_time(messages: list[str], state: ModuleState) -> None:
    """A module that answers a guest's SEAMCALL is up, unless the log says how the attempt went."""
    found = report(*messages)
    assert found.state is state
    assert found.seamcall is None


@pytest.mark.parametrize(
    ("leaf", "state"),
    [
        *((leaf, ModuleState.UNKNOWN) for leaf in (0x1F, 0x21, 0x22, 0x23, 0x24, 0x2D)),
        *((leaf, ModuleState.INITIALIZED) for leaf in (0x00, 0x1C, 0x1E, 0x20, 0x25, 0x2C, 0x2E)),
    ],
)
def test_leaves_of_the_bring_up(leaf: int, state: ModuleState) -> None:
    """A leaf that only the bring-up uses says nothing about a module that runs, any other proves it."""
    assert report(RUNTIME.replace("1c", f"{leaf:02x}")).state is state


def test_old_seamcall_line_is_harmless() -> None:
    """The debug leaf fails on good hosts of old kernels."""
    found = report(
        "tdx: SEAMCALL failed: leaf 254, error 0xc000050500000000.", "tdx: TDX module initialized."
    )
    assert found.state is ModuleState.INITIALIZED


def test_shutdown_is_no_failure() -> None:
    """A SEAMCALL of kexec or shutdown fails after a good boot."""
    found = report(PAMT, UP, "virt/tdx: TDH.SYS.DISABLE failed: 0x8000020200000000")
    assert found.state is ModuleState.INITIALIZED


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("virt/tdx: TDX not supported by the host platform", None),
        ("virt/tdx: XSAVE is required for TDX", FailureReason.CPU_FEATURE),
        ("virt/tdx: MOVDIR64B is required for TDX", FailureReason.CPU_FEATURE),
        ("kvm_intel: Self-snoop is required for TDX", FailureReason.CPU_FEATURE),
    ],
)
def test_unsupported(line: str, reason: FailureReason | None) -> None:
    """A machine that cannot do TDX is unsupported, not failed."""
    found = report(line, "other")
    assert (found.state, found.reason, found.errno) == (ModuleState.UNSUPPORTED, reason, None)


def test_last_complete_attempt_wins() -> None:
    """A second attempt's end replaces the first's, in both directions, nothing of the first remains."""
    good = report(ATTRIBUTES, AREAS, failed(-28), KVM_FAILED, ATTRIBUTES, PAMT, UP)
    assert (good.state, good.reason, good.errno, good.failed_tdmr) == (
        ModuleState.INITIALIZED,
        None,
        None,
        None,
    )
    assert good.pamt_kib == 1050644
    bad = report(ATTRIBUTES, PAMT, UP, ATTRIBUTES, AREAS, failed(-28))
    assert (bad.state, bad.reason, bad.errno) == (ModuleState.FAILED, FailureReason.RESERVED_AREAS, -28)
    assert bad.pamt_kib is None


def test_attempt_without_an_end_does_not_count() -> None:
    """A later attempt that shows no end leaves the last complete one's outcome."""
    found = report(AREAS, failed(-28), ATTRIBUTES, *CMRS, SEAMCALL)
    assert (found.state, found.reason) == (ModuleState.FAILED, FailureReason.RESERVED_AREAS)
    assert found.seamcall is None


def test_two_failures() -> None:
    """Each reason begins an attempt of its own; the later one's TDMR and errno count."""
    found = report(AREAS, failed(-28), AREAS_HIGH, failed(-28))
    assert found.failed_tdmr == (0x4000_0000, 0x8000_0000)
    found = report(AREAS, failed(-28), failed(-12))
    assert (found.reason, found.errno, found.failed_tdmr) == (FailureReason.NO_MEMORY, -12, None)
    found = report(failed(-5), AREAS)
    assert (found.reason, found.errno) == (FailureReason.RESERVED_AREAS, -28)


def test_two_successes() -> None:
    """The later attempt's PAMT counts."""
    found = report(PAMT, UP, "virt/tdx: 8396820 KB allocated for PAMT", UP)
    assert found.pamt_kib == 8396820


def test_cmrs_of_a_second_attempt_replace_the_first() -> None:
    """A list that is printed again is the same list, not a longer one."""
    found = report(KEYIDS, ATTRIBUTES, *CMRS, AREAS, failed(-28), ATTRIBUTES, *CMRS, PAMT, UP)
    assert found.cmrs == CMR_RANGES


def test_cmrs_printed_again_right_after_a_failure() -> None:
    """A list that follows an attempt's end begins anew."""
    found = report(KEYIDS, *CMRS, AREAS, *CMRS, PAMT)
    assert found.cmrs == CMR_RANGES


def test_cmrs_with_other_messages_between() -> None:
    """Another driver's message in the middle does not break the list."""
    found = report(KEYIDS, ATTRIBUTES, CMRS[0], "usb 1-1: new device", CMRS[1], PAMT)
    assert (found.cmrs, found.cmrs_complete) == (CMR_RANGES, True)


@pytest.mark.parametrize(
    ("messages", "complete"),
    [
        ([KEYIDS, *CMRS, "other"], True),
        ([KEYIDS, *CMRS], False),
        ([*CMRS, "other"], False),
        (CMRS, False),
    ],
)
def test_cmrs_at_the_edge_of_the_log(messages: list[str], complete: bool) -> None:  # noqa: FBT001
    """A list at the log's very beginning or end may have lost lines."""
    found = report(*messages)
    assert found.cmrs == CMR_RANGES
    assert found.cmrs_complete is complete


def test_empty_cmrs_are_kept() -> None:
    """Entries of size 0 are part of the list: one strategy ends at the first."""
    found = report(KEYIDS, CMRS[0], "virt/tdx: CMR[1]: [0x0, 0x0)", CMRS[1], PAMT)
    assert found.cmrs == (CMR_RANGES[0], Range(0, 0), CMR_RANGES[1])


def test_no_cmrs_is_unknown() -> None:
    """Most kernels print no CMRs: they are unknown, not none."""
    found = report(KEYIDS, PAMT, UP)
    assert found.cmrs is None
    assert not found.cmrs_complete


def test_more_cmrs_than_a_module_has() -> None:
    """Forty lines are forty entries; what is odd about them is for others to find."""
    lines = [f"virt/tdx: CMR: [{i << 30:#x}, {(i + 1) << 30:#x})" for i in range(40)]
    assert len(report(KEYIDS, *lines, PAMT).cmrs or ()) == 40


@pytest.mark.parametrize(
    ("messages", "version", "build"),
    [
        ([ATTRIBUTES], "1.5", "build 698 of 20240129"),
        (["virt/tdx: Module version: 1.5.24"], "1.5.24", None),
        (["virt/tdx: module verson: 1.5.0.0"], "1.5.0.0", None),
        (
            ["virt/tdx: TDX module 2.0.08.00, build number 882, build date 0134fed5"],
            "2.0.08.00",
            "build 882 of 20250325",
        ),
        (
            [INITIALIZING],
            "1.5.05.46.0698",
            "of 20240129",
        ),
        ([ATTRIBUTES, "virt/tdx: Module version: 1.5.24"], "1.5.24", "build 698 of 20240129"),
        (["virt/tdx: Module version: 1.5.24", ATTRIBUTES], "1.5.24", "build 698 of 20240129"),
        (["virt/tdx: Module version: 1.5.24", failed(-5), ATTRIBUTES], "1.5", "build 698 of 20240129"),
    ],
)
def test_module_version(messages: list[str], version: str, build: str | None) -> None:
    """The longest version of an attempt counts, with build number and date where they are printed."""
    found = report(KEYIDS, *messages)
    assert (found.module_version, found.module_build) == (version, build)


def test_memory_that_is_not_convertible() -> None:
    """That the kernel named such memory is kept, whatever came of the attempt."""
    line = "virt/tdx: memory region [0x0, 0x1) is not TDX convertible memory."
    assert report(line, failed(-22)).not_convertible
    assert report(line, PAMT, UP).not_convertible
    assert not report(failed(-22)).not_convertible


def test_side_remarks() -> None:
    """ACPI S3, Dynamic PAMT and offline packages are noted; they are no failures."""
    found = report(
        KEYIDS,
        "virt/tdx: Disable ACPI S3. Turn off TDX in the BIOS to use ACPI S3.",
        "virt/tdx: Enable Dynamic PAMT",
        "kvm_intel: TDX requires all packages to have an online CPU.",
    )
    assert found.acpi_s3_disabled
    assert found.dynamic_pamt is True
    assert found.package_offline
    assert found.state is ModuleState.NOT_ATTEMPTED


def test_unverified_log() -> None:
    """What comes from a log of unknown writers is marked so."""
    assert not report(PAMT, verified=False).verified
    assert report(PAMT, verified=True).verified


@pytest.mark.parametrize(
    "forged",
    [
        "virt/tdx: CMR: [271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "virt/tdx: spoof[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        r"x\x0avirt/tdx: module initialized",
        "tdx: module ini[271]: segfault at 0",
    ],
)
def test_forged_records_change_nothing(forged: str) -> None:
    """Records that only begin like the kernel's change no report, wherever they stand."""
    messages = ["Linux version", KEYIDS, ATTRIBUTES, *CMRS, AREAS, failed(-28), "end"]
    expected = report(*messages)
    for i in range(len(messages) + 1):
        assert report(*messages[:i], forged, *messages[i:]) == expected


def test_a_failure_outlasts_what_is_said_of_the_platform_after_it() -> None:
    """7.1 and later say that the platform does not support TDX also after they have said why."""
    found = report(
        "virt/tdx: BIOS enabled: private KeyID range [65, 128)",
        "virt/tdx: initialization failed: Hibernation support is enabled",
        "virt/tdx: TDX not supported by the host platform",
    )
    assert (found.state, found.reason) == (ModuleState.FAILED, FailureReason.HIBERNATION)
