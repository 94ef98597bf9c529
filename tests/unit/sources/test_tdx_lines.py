# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.sources.kernel_log.tdx_lines import FAILURES, LOOKS_LIKE_TDX, match_tdx_line

PACKAGES = "TDX requires all packages to have an online CPU."

ATTRIBUTES = (
    "TDX module: attributes 0x0, vendor_id 0x8086, major_version 1, minor_version 5,"
    " build_date 20240129, build_num 698"
)
ATRIBUTES = (
    "TDX module: atributes 0x0, vendor_id 0x8086, major_version 1, minor_version 5,"
    " build_date 20230420, build_num 507"
)
INITIALIZING = (
    "Initializing TDX module: 1.5.05.46.0698 (build_date 20240129, Production module), TDX_FEATURES0 0xfbf"
)
RUNTIME = (
    "SEAMCALL (0x000000000000001c) failed: 0xc000030000000001"
    " RCX 0x0000000000000000 RDX 0x0000000000000000 R8 0x0000000000000000"
    " R9 0x0000000000000000 R10 0x0000000000000000 R11 0x0000000000000000"
)

# The message after the prefix, its kind, and what it tells.
LINES: list[tuple[str, str, dict[str, str]]] = [
    ("BIOS enabled: private KeyID range [32, 64)", "keyids", {"first": "32", "end": "64"}),
    ("BIOS enabled: private KeyID range: [16, 64)", "keyids", {"first": "16", "end": "64"}),
    ("BIOS enabled: private KeyID range: [16, 64).", "keyids", {"first": "16", "end": "64"}),
    ("BIOS enabled: private KeyID range [1, 65535)", "keyids", {"first": "1", "end": "65535"}),
    ("initialization failed: too few private KeyIDs available.", "init-failed-keyids", {}),
    ("initialization failed: Hibernation support is enabled", "init-failed-hibernation", {}),
    (
        "initialization failed: register_memory_notifier() failed (-12)",
        "init-failed-notifier",
        {"errno": "-12"},
    ),
    ("Disable ACPI S3. Turn off TDX in the BIOS to use ACPI S3.", "acpi-s3", {}),
    ("Disable ACPI S3 suspend. Turn off TDX in the BIOS to use ACPI S3.", "acpi-s3", {}),
    ("Disable ACPI S3.", "acpi-s3", {}),
    ("TDX not supported by the host platform", "unsupported", {}),
    ("Guest detected", "guest", {}),
    ("Cannot enable TDX on TDX disabled platform", "disabled-platform", {}),
    ("Cannot enable TDX on TDX disabled platform.", "disabled-platform", {}),
    ("Cannot enable TDX with SEAMRR disabled", "disabled-platform", {}),
    ("XSAVE is required for TDX", "cpu-feature", {"feature": "XSAVE"}),
    ("MOVDIR64B is required for TDX", "cpu-feature", {"feature": "MOVDIR64B"}),
    ("Self-snoop is required for TDX", "cpu-feature", {"feature": "Self-snoop"}),
    ("module not loaded", "not-loaded", {}),
    ("TDX module is not loaded.", "not-loaded-old", {}),
    ("not enabled by BIOS.", "not-loaded-old", {}),
    ("[firmware bug]: TDX is not enabled by BIOS.", "not-loaded-old", {}),
    ("Module version: 1.5.24", "version", {"version": "1.5.24"}),
    ("TDX module version: 1.5.24", "version", {"version": "1.5.24"}),
    ("TDX-Module version: 1.5.24", "version", {"version": "1.5.24"}),
    ("module version: 1.5.1.0", "version", {"version": "1.5.1.0"}),
    (
        "module version: 1.5.00.00.0481 (build_date 20230323).",
        "version",
        {"version": "1.5.00.00.0481", "date": "20230323"},
    ),
    (
        "Module version: 1.5.00.00.0481, build_date: 20230323",
        "version",
        {"version": "1.5.00.00.0481", "date": "20230323"},
    ),
    (
        "Initializing TDX module: 1.5.00.00.0481 (build_date 20230323), TDX_FEATURES0 0xfbf",
        "initializing",
        {"version": "1.5.00.00.0481", "date": "20230323"},
    ),
    ("module verson: 1.5.1.0", "version", {"version": "1.5.1.0"}),
    (
        ATTRIBUTES,
        "attributes",
        {"major": "1", "minor": "5", "date": "20240129", "build": "698"},
    ),
    (
        ATRIBUTES,
        "attributes",
        {"major": "1", "minor": "5", "date": "20230420", "build": "507"},
    ),
    (
        "TDX module 2.0.08.00, build number 882, build date 0134fed5",
        "version-ubuntu",
        {"version": "2.0.08.00", "build": "882", "date_hex": "0134fed5"},
    ),
    (
        INITIALIZING,
        "initializing",
        {"version": "1.5.05.46.0698", "date": "20240129"},
    ),
    ("CMR: [0x100000, 0x6f800000)", "cmr", {"start": "100000", "end": "6f800000"}),
    ("CMR[0]: [0x100000, 0x6f800000)", "cmr", {"start": "100000", "end": "6f800000"}),
    ("CMR[31]: [0x0, 0x0)", "cmr", {"start": "0", "end": "0"}),
    ("CMR: [0x0, 0xffffffffffffffff)", "cmr", {"start": "0", "end": "ffffffffffffffff"}),
    ("frame pointer (RBP) clobber bug present, upgrade TDX module", "rbp-bug", {}),
    ("NO_RBP_MOD feature is not supported", "no-rbp-mod", {}),
    ("consumed TDMRs reaching limit: 61 used out of 64", "tdmr-limit", {"used": "61", "limit": "64"}),
    ("initialization failed: TDMRs exhausted.", "init-failed-tdmrs", {}),
    (
        "initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.",
        "init-failed-areas",
        {"start": "0", "end": "80000000"},
    ),
    (
        "initialization failed: TDMR [0x0, 0x80000000): reserved areas",
        "init-failed-areas",
        {"start": "0", "end": "80000000"},
    ),
    (
        "TDMR [0x0, 0x80000000): unable to find local NUMA node for PAMT allocation, fallback to use node 0.",
        "no-local-node",
        {"start": "0", "end": "80000000"},
    ),
    ("memory region [0x12, 0x34) is not TDX convertible memory.", "not-convertible", {}),
    ("Enable Dynamic PAMT", "dynamic-pamt", {}),
    (
        "SEAMCALL (0x0000000000000022) failed: 0xc000050500000000",
        "seamcall",
        {"leaf": "0x0000000000000022", "status": "0xc000050500000000"},
    ),
    ("SEAMCALL (33) failed: 0x8000020200000000", "seamcall", {"leaf": "33", "status": "0x8000020200000000"}),
    (
        "RCX 0x0000000000000000 RDX 0x9100000100000008 R08 0x0000000000000000",
        "seamcall-registers",
        {"rdx": "0x9100000100000008"},
    ),
    ("1050644 KB allocated for PAMT", "pamt-kib", {"kib": "1050644"}),
    ("1050644 KB allocated for PAMT.", "pamt-kib", {"kib": "1050644"}),
    ("262668 KBs allocated for PAMT", "pamt-kib", {"kib": "262668"}),
    ("4202516 KBs allocated for PAMT.", "pamt-kib", {"kib": "4202516"}),
    ("0 KB allocated for PAMT", "pamt-kib", {"kib": "0"}),
    ("262659 pages allocated for PAMT.", "pamt-pages", {"pages": "262659"}),
    ("module initialized", "initialized", {}),
    ("module initialized.", "initialized", {}),
    ("TDX-Module initialized", "initialized", {}),
    ("TDX module initialized.", "initialized", {}),
    ("TDX module successfully initialized", "initialized", {}),
    ("Successfully initialized TDX module", "initialized", {}),
    ("module initialization failed (-28)", "init-failed", {"errno": "-28"}),
    ("TDX-Module initialization failed (-28)", "init-failed", {"errno": "-28"}),
    ("TDX module initialization failed (-5)", "init-failed", {"errno": "-5"}),
    ("initialization failed (-28)", "init-failed-other", {"errno": "-28"}),
    (PACKAGES, "packages", {}),
    (f"{PACKAGES} Delete all TDs in order to offline all CPUs of a package.", "packages", {}),
    (f"{PACKAGES}  Delete all TDs in order to offline all CPUs of a package.", "packages", {}),
]

BARE: list[tuple[str, str, dict[str, str]]] = [
    ("kvm_intel: Failed to initialize TDX module.", "kvm-failed", {}),
    ("kvm_intel: tdx: no TDX private KeyIDs available", "kvm-no-keyids", {}),
    (f"kvm_intel: {PACKAGES}", "packages", {}),
    ("kvm_intel: MOVDIR64B is required for TDX", "cpu-feature", {"feature": "MOVDIR64B"}),
    ("kvm_intel: tdx: Self-snoop is required for TDX", "cpu-feature", {"feature": "Self-snoop"}),
    (
        RUNTIME,
        "runtime-seamcall",
        {"leaf": "0x000000000000001c", "status": "0xc000030000000001"},
    ),
    (
        "SEAMCALL (0x000000000000001c) failed: 0xc000030000000001",
        "runtime-seamcall",
        {"leaf": "0x000000000000001c", "status": "0xc000030000000001"},
    ),
    ("seamldr: SEAMCALL (0x8000000000000000) failed: 0x8000000000000001", "seamldr-seamcall", {}),
]


@pytest.mark.parametrize("prefix", ["virt/tdx: ", "tdx: "])
@pytest.mark.parametrize(("message", "kind", "data"), LINES, ids=[line[0][:60] for line in LINES])
def test_line_with_a_prefix(prefix: str, message: str, kind: str, data: dict[str, str]) -> None:
    """Every line of every kernel is recognised with both prefixes, and gives what is in it."""
    line = match_tdx_line(prefix + message)
    assert line is not None
    assert line.kind == kind
    assert {name: value for name, value in line.groups.items() if value is not None} == data


@pytest.mark.parametrize(("message", "kind", "data"), BARE, ids=[line[0][:60] for line in BARE])
def test_line_without_the_prefix(message: str, kind: str, data: dict[str, str]) -> None:
    """KVM's and the loader's own lines are recognised as they are."""
    line = match_tdx_line(message)
    assert line is not None
    assert line.kind == kind
    assert {name: value for name, value in line.groups.items() if value is not None} == data


@pytest.mark.parametrize(("message", "kind", "data"), LINES, ids=[line[0][:60] for line in LINES])
def test_line_of_another_writer(message: str, kind: str, data: dict[str, str]) -> None:
    """Without the prefix, or with somebody else's, a line says nothing about TDX."""
    del kind, data
    for prefix in ("", "virt/sev: ", "systemd[1]: virt/tdx: ", "x virt/tdx: ", "virt/tdx:", "VIRT/TDX: "):
        line = match_tdx_line(prefix + message)
        # KVM's run-time lines have the form that the kernel's have after their prefix.
        assert line is None or (prefix == "" and line.kind == "runtime-seamcall")


@pytest.mark.parametrize(
    "tail",
    [
        "x",
        "[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        r"\x0a",
        "\n",
        "\nvirt/tdx: x",
        "\x00",
    ],
)
@pytest.mark.parametrize("message", [line[0] for line in LINES if line[1] != "init-failed-other"])
def test_line_that_only_begins_like_ours(message: str, tail: str) -> None:
    """A crashing process chooses how a record begins, so a line counts only as a whole."""
    line = match_tdx_line(f"virt/tdx: {message}{tail}")
    assert line is None or line.kind == "init-failed-other"


@pytest.mark.parametrize(
    "message",
    [
        "virt/tdx: CMR: [271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14 in spoof[400000+1000]",
        "virt/tdx: CMR: [0x100000, 0x6f800000)[271]: segfault at 0 ip 0000000000000000",
        "virt/tdx: spoof[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "virt/tdx: modul[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "tdx: module ini[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "tdx: 1 KB alloc[271]: general protection fault ip:0 sp:0 error:0",
        "tdx: CMR: [0x0,[271]: segfault at 0",
        "tdx: initializ[271]: segfault at 0",
        "kvm_intel: Faile[271]: segfault at 0",
        "SEAMCALL (0x1c)[271]: segfault at 0",
        r"x\x0avirt/tdx: module initialized",
        r"virt/tdx: module initialized\x0a",
        "x\nvirt/tdx: module initialized",
        "virt/tdx: module initialized\n",
        " virt/tdx: module initialized",
        "virt/tdx: \u0661 KB allocated for PAMT",
        "virt/tdx: SEAMCALL failed: CPU 94: leaf 33, error 0x8000020200000000",
        "tdx: SEAMCALL failed: leaf 254, error 0xc000050500000000.",
        "virt/tdx: TDH.SYS.DISABLE failed: 0x8000020200000000",
        "virt/tdx: R09 0x0000000000000000 R10 0x0000000000000000 R11 0x0000000000000000",
        "tdx: Guest detected by somebody",
        "tdx: TDDEBUGCONFIG isn't supported.",
        "tdx: TDX module: features0: fbf",
        "kvm_intel: TDX is supported.",
        "kvm_intel: TDX requires TDP MMU.",
        "tdx: TDX requires TDP MMU.  Please enable TDP MMU for TDX.",
        "kvm_intel: tdx: live migration supported",
        "systemd[1]: Hostname set to <tdx-host>.",
        "systemd[1]: virt/tdx: module initialized",
        "virt/tdx: BIOS enabled: private KeyID range [32, 64]",
        "virt/tdx: BIOS enabled: private KeyID range [0x20, 0x40)",
        "virt/tdx: CMR: [0x100000, 0x6f800000]",
        "virt/tdx: CMR: [0x10000000000000000, 0x20000000000000000)",
        "virt/tdx: module initialization failed",
        "virt/tdx: initialization failed: a reason of tomorrow",
        "tdx: initialization failed: IN=eth0 OUT= MAC=00:11:22:33:44:55 SRC=192.0.2.1 DST=192.0.2.2 LEN=40",
        f"{PACKAGES} Please online some CPUs.",
        f"tdx: {PACKAGES} IN eth0 OUT",
        "virt/tdx: module initialization failed (28)",
        "virt/tdx: -5 KB allocated for PAMT",
        "",
    ],
)
def test_lines_that_are_none_of_ours(message: str) -> None:
    """Forgeries, guests' lines and harmless messages tell nothing."""
    assert match_tdx_line(message) is None


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("virt/tdx: module initialized", True),
        ("tdx: module initialized.", True),
        ("  virt/tdx: x", True),
        ("SEAMCALL (0x22) failed", True),
        ("hello tdx: world", False),
        ("kvm: x", False),
    ],
)
def test_what_counts_as_a_forgery(text: str, looks: bool) -> None:  # noqa: FBT001
    """Records of processes are counted when they begin like the kernel's TDX lines."""
    assert bool(LOOKS_LIKE_TDX.match(text)) is looks


def test_closing_failures_have_patterns() -> None:
    """Every kind that ends an attempt is one that a line can have."""
    assert set(FAILURES) <= {kind for _, kind, _ in LINES}
