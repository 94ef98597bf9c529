# SPDX-License-Identifier: Apache-2.0
"""The kernel's TDX lines, one pattern for each form that a kernel has printed (docs/kernel-log.md).

A pattern always matches the whole message. An unprivileged process can make the kernel write a record that
only begins as it likes (a crash report starts with the process name, 15 bytes), so a beginning proves
nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tdx_headroom.address import Range
from tdx_headroom.facts.kernel_report import FailureReason, NoTdx


class TdxLine(NamedTuple):
    """One recognised line: which, and its groups."""

    kind: str
    groups: dict[str, str | None]


_PREFIX = r"(?:virt/tdx|tdx): "
_RANGE = r"\[0x(?P<start>[0-9a-f]{1,16}), 0x(?P<end>[0-9a-f]{1,16})\)"
_ERRNO = r"\((?P<errno>-[0-9]{1,4})\)"

_PACKAGES = (
    r"TDX requires all packages to have an online CPU\."
    r"(?: {1,2}Delete all TDs in order to offline all CPUs of a package\.)?"
)

# kind -> pattern of the message after the prefix. Since-notes name the first mainline kernel, where known.
_PREFIXED = {
    "keyids": r"BIOS enabled: private KeyID range:? \[(?P<first>[0-9]{1,5}), (?P<end>[0-9]{1,5})\)\.?",
    "init-failed-keyids": r"initialization failed: too few private KeyIDs available\.?",
    "init-failed-hibernation": r"initialization failed: Hibernation support is enabled\.?",
    "init-failed-notifier": rf"initialization failed: register_memory_notifier\(\) failed {_ERRNO}\.?",
    "acpi-s3": r"Disable ACPI S3(?: suspend)?\.(?: Turn off TDX in the BIOS to use ACPI S3\.)?",
    "guest": r"Guest detected",  # tdx_early_init(): this kernel runs in a TDX guest
    "disabled-platform": r"Cannot enable TDX (?:on TDX disabled platform|with SEAMRR disabled)\.?",
    "unsupported": r"TDX not supported by the host platform\.?",  # since v7.1, at error level
    "cpu-feature": r"(?P<feature>XSAVE|MOVDIR64B|Self-snoop) is required for TDX\.?",
    "not-loaded": r"module not loaded\.?",
    "not-loaded-old": r"(?:TDX module is not loaded|(?:\[firmware bug\]: TDX is )?not enabled by BIOS)\.?",
    "version": r"(?:Module version|TDX module version|TDX-Module version|module ver(?:sion|son)):"
    r" (?P<version>[0-9]+(?:\.[0-9]+)+)(?:(?: \(build_date|, build_date:) (?P<date>[0-9]{1,9})\)?)?\.?",
    "attributes": r"TDX module: (?:att?ributes 0x[0-9a-f]+, )?vendor_id 0x[0-9a-f]+,"
    r" major_version (?P<major>[0-9]{1,5}), minor_version (?P<minor>[0-9]{1,5}),"
    r" build_date (?P<date>[0-9]{1,9}), build_num (?P<build>[0-9]{1,9})",
    # Ubuntu 6.14-intel prints the date, a decimal number, in hexadecimal.
    "version-ubuntu": r"TDX module (?P<version>[0-9]+(?:\.[0-9]+)+), build number (?P<build>[0-9]{1,9}),"
    r" build date (?P<date_hex>[0-9a-f]{1,16})",
    "initializing": r"Initializing TDX module: (?P<version>[0-9]+(?:\.[0-9]+)+)"
    r" \(build_date (?P<date>[0-9]{1,9})(?:, [A-Za-z]+ module)?\), TDX_FEATURES0 0x[0-9a-f]+",
    "cmr": rf"CMR(?:\[[0-9]+\])?: {_RANGE}",
    "rbp-bug": r"frame pointer \(RBP\) clobber bug present, upgrade TDX module",
    "no-rbp-mod": r"NO_RBP_MOD feature is not supported",
    "tdmr-limit": r"consumed TDMRs reaching limit: (?P<used>[0-9]{1,9}) used out of (?P<limit>[0-9]{1,9})",
    "init-failed-tdmrs": r"initialization failed: TDMRs exhausted\.?",
    # Mail programs break it: nothing else has ever followed the range.
    "init-failed-areas": rf"initialization failed: TDMR {_RANGE}:(?: reserved(?: areas(?: exhausted\.?)?)?)?",
    "no-local-node": rf"TDMR {_RANGE}: unable to find local NUMA node for PAMT allocation,"
    r" fallback to use node 0\.?",
    "not-convertible": r"memory region \[0x[0-9a-f]+, 0x[0-9a-f]+\) is not TDX convertible memory\.?",
    "dynamic-pamt": r"Enable Dynamic PAMT",
    "seamcall": r"SEAMCALL \((?P<leaf>0x[0-9a-f]{1,16}|[0-9]{1,5})\) failed: (?P<status>0x[0-9a-f]{1,16})",
    "seamcall-registers": r"RCX 0x[0-9a-f]+ RDX (?P<rdx>0x[0-9a-f]{1,16}) R08 0x[0-9a-f]+",
    # A blank that is none in ASCII becomes `?` on the way through mail.
    "pamt-kib": r"(?P<kib>[0-9]{1,15}) KBs?[?\ufffd]? allocated for PAMT\.?",
    "pamt-pages": r"(?P<pages>[0-9]{1,15}) pages allocated for PAMT\.?",
    "initialized": r"module initialized\.?|TDX-Module initialized\.?|TDX module initialized\.?"
    r"|TDX module successfully initialized\.?|Successfully initialized TDX module\.?",
    "init-failed": rf"(?:module|TDX-Module|TDX module) initialization failed {_ERRNO}\.?",
    "packages": _PACKAGES,
    # No other reason in words: a firewall's log prefix could be `tdx: initialization failed: `.
    "init-failed-other": rf"initialization failed {_ERRNO}\.?",
}

# tdx_bringup() and __tdx_bringup() of arch/x86/kvm/vmx/tdx.c, in mainline since v6.16; tdx_hardware_setup()
# and vt_hardware_setup() of vendors' trees before that, and the first of them since v7.1. Misspelt as there.
_OF_KVM = {
    "packages": _PACKAGES,
    "cpu-feature": r"(?P<feature>(?:OS)?XSAVE|MOVDIR64B|Self-snoop|SELF_?SNOOP)"
    r" is (?:required|reqiured) for TDX",
    "unsupported": r"TDX not supported by the host platform"
    r"|TDX requires baremetal\. Not Supported on VMM guest",
    "kvm-failed": r"Failed to initialize TDX module"
    r"|MSR(?: [0-9a-f]{1,8}|_IA32_TSX_CTRL) isn't included by kvm_find_user_return_msr",
    "kvm-old-module": r"Too old version of TDX module\. Consider upgrade",
    "kvm-no-keyids": r"no TDX private KeyIDs available",
    "kvm-ept": r"EPT is required for TDX|Cannot enable TDX with EPT disabled",
    "kvm-mmu": r"TDP MMU and MMIO caching(?: and EPT A/D bit)? is required for TDX"
    r"|TDX requires TDP MMU\. {1,2}Please enable TDP MMU for TDX"
    r"|TDX requires mmio caching\. {1,2}Please enable mmio caching for TDX",
    "kvm-apicv": r"APICv is required for TDX",
    "kvm-virtualization": r"tdx requires kvm\.enable_virt_at_load=1",
    "kvm-vcpus": r"Disable TDX: MAX_VCPU_PER_TD \([0-9]{1,5}\) smaller than number of logical CPUs"
    r" \([0-9]{1,5}\)",
}

_BARE = {
    "runtime-seamcall": r"SEAMCALL \((?P<leaf>0x[0-9a-f]{1,16})\) failed: (?P<status>0x[0-9a-f]{1,16})"
    r"(?: (?:RCX|RDX|R[0-9]{1,2}) 0x[0-9a-f]{1,16})*",
    "seamldr-seamcall": r"seamldr: SEAMCALL \(0x[0-9a-f]{1,16}\) failed: 0x[0-9a-f]{1,16}",
}

_PATTERNS = [(kind, re.compile(_PREFIX + "(?:" + p + ")", re.ASCII)) for kind, p in _PREFIXED.items()]
_PATTERNS += [
    (kind, re.compile(rf"kvm_intel: (?:tdx: )?(?:{p})\.?", re.ASCII)) for kind, p in _OF_KVM.items()
]
_PATTERNS += [(kind, re.compile(p, re.ASCII)) for kind, p in _BARE.items()]

TDX_PREFIX = re.compile(_PREFIX)
KVM_SAYS_TDX = re.compile(
    r"kvm_intel: (?!port [0-9]+\(|renamed from |received packet on )(?:.*\W)??tdx(?!\w)", re.IGNORECASE
)
"""How KVM tells of TDX; a network device may have its name, and tell of ports and other devices."""
CANDIDATE = re.compile(r"(?:virt/)?tdx: |kvm_intel: |SEAMCALL \(|seamldr: ")
"""How each of these begins: one cheap test before some thirty, for nearly all lines tell something else."""

REPEATED = frozenset({"runtime-seamcall", "seamldr-seamcall", "packages"})
"""Kinds that come over and over while guests run, and of which one tells as much as a thousand."""

LOOKS_LIKE_TDX = re.compile(r"\s*(?:(?:virt/)?tdx: |SEAMCALL )")
"""What a record must begin with to count as a forgery when user space wrote it."""

HARMLESS = re.compile(
    _PREFIX
    + r"(?:R0?[0-9]{1,2} 0x|TDH\.SYS\.DISABLE failed|SEAMCALL failed: |TDX module: features|TDDEBUGCONFIG"
    r"|Disable Kexec\.|Guest )"
)
"""How lines begin that mean nothing for the initialisation."""

KVM_HARMLESS = re.compile(
    r"kvm_intel: (?:tdx: )?(?:TDX is supported\.(?: x86 phys bits [0-9]{1,3})?|live migration supported"
    r"|td partitioning supported|max servtds supported per user TD is [0-9]{1,5})",
    re.ASCII,
)
"""What vendors' KVM before 6.16 says of TDX that is up."""

_MENTION = re.compile(
    r"\bkvm_intel: .*\btdx\b"
    r"|\btdx\W{0,8}[:=] *\S|\bvirt/tdx\W{0,8}$|\bSEAMCALL\b|private KeyID|for PAMT|areas exhausted",
    re.IGNORECASE,
)
_BAD = re.compile(
    r"fail|exhausted|not loaded|not enabled|not supported|too few|required|error|bug|cannot", re.IGNORECASE
)
_OF_FAILURES = (
    "module initialization failed (",
    "TDX-Module initialization failed (",
    "TDX module initialization failed (",
    "initialization failed",
    "module not loaded",
    "TDX module is not loaded",
    "[firmware bug]: TDX is not enabled",
    "not enabled by BIOS",
    "SEAMCALL (",
)


def mentions_tdx(text: str) -> bool:
    """Whether a line that could not be read may hold one of these."""
    return _MENTION.search(text) is not None


def may_hide_failure(text: str) -> bool:
    """Whether what is left of a line may be a failure, or the beginning of one."""
    if KVM_SAYS_TDX.search(text):
        # Nearly all that it says is what does not work.
        return not KVM_HARMLESS.search(text)
    _, _, rest = text.rpartition("tdx: ")
    return _BAD.search(text) is not None or any(line.startswith(rest.rstrip()) for line in _OF_FAILURES)


FAILURES: dict[str, tuple[FailureReason, int | None]] = {
    "init-failed-keyids": (FailureReason.KEYIDS, None),
    "init-failed-hibernation": (FailureReason.HIBERNATION, None),
    "init-failed-notifier": (FailureReason.MEMORY_NOTIFIER, None),
    "not-loaded": (FailureReason.NOT_LOADED, -19),
    "not-loaded-old": (FailureReason.NOT_LOADED, None),
    "init-failed-tdmrs": (FailureReason.TDMRS, -28),
    "init-failed-areas": (FailureReason.RESERVED_AREAS, -28),
}
"""Lines that end an attempt by themselves, with the reason and the errno that they prove."""

NO_TDX = {
    "guest": NoTdx.GUEST,
    "disabled-platform": NoTdx.DISABLED,
    "unsupported": NoTdx.PLATFORM,
    "cpu-feature": NoTdx.CPU_FEATURE,
}
"""Lines that say that TDX is not available here, and why."""

KVM_GIVES_UP = {
    "kvm-failed": FailureReason.OTHER,
    "kvm-old-module": FailureReason.RBP_BUG,
    "kvm-no-keyids": FailureReason.KEYIDS,
    "kvm-ept": FailureReason.KVM_EPT,
    "kvm-mmu": FailureReason.KVM_MMU,
    "kvm-apicv": FailureReason.KVM_APICV,
    "kvm-virtualization": FailureReason.KVM_VIRTUALIZATION,
}
"""Lines by which KVM says that it gives TDX up, and why; what became of the module they do not say."""

OUTCOMES = frozenset(
    {
        *FAILURES,
        *NO_TDX,
        *KVM_GIVES_UP,
        "initialized",
        "pamt-kib",
        "pamt-pages",
        "init-failed",
        "init-failed-other",
    }
)
"""Kinds that tell how an attempt has ended."""


def match_tdx_line(message: str) -> TdxLine | None:
    """The line's kind and contents, or None when it is none of the kernel's TDX lines."""
    if not CANDIDATE.match(message):
        return None
    for kind, pattern in _PATTERNS:
        if match := pattern.fullmatch(message):
            return TdxLine(kind, match.groupdict())
    return None


def range_of(line: TdxLine) -> Range:
    """The range that a line names."""
    return Range(int(line.groups["start"] or "0", 16), int(line.groups["end"] or "0", 16))


def number_of(line: TdxLine, group: str) -> int:
    """A number of a line's."""
    return int(line.groups[group] or "0")
