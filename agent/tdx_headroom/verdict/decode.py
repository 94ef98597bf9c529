# SPDX-License-Identifier: Apache-2.0
"""Numbers of the TDX module and the kernel in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import show
from tdx_headroom.errors import one_line
from tdx_headroom.facts.kernel_report import KVM_REASONS, FailureReason, ModuleState, NoTdx
from tdx_headroom.verdict.findings import CONFIG_ERRORS, Remedy, RemedyKind

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import KernelReport, SeamcallFailure

LEAVES = {
    0x1F: "TDH.SYS.KEY.CONFIG",
    0x21: "TDH.SYS.INIT",
    0x22: "TDH.SYS.RD",
    0x23: "TDH.SYS.LP.INIT",
    0x24: "TDH.SYS.TDMR.INIT",
    0x2D: "TDH.SYS.CONFIG",
    0x34: "TDH.SYS.SHUTDOWN",
    0x35: "TDH.SYS.UPDATE",
    0x45: "TDH.SYS.DISABLE",
    0x8000000000000000: "P-SEAMLDR.INFO",
    0x8000000000000001: "P-SEAMLDR.INSTALL",
}

# Upper 32 bits of the completion status (TDX module, tdx_error_codes_defs.h).
STATUSES = {
    0x80000200: "TDX_OPERAND_BUSY",
    0x80000202: "TDX_SYS_BUSY",
    0x80000203: "TDX_RND_NO_ENTROPY",
    0xC0000100: "TDX_OPERAND_INVALID",
    0xC0000500: "TDX_SYS_INIT_NOT_PENDING",
    0xC0000502: "TDX_SYS_LP_INIT_NOT_DONE",
    0xC0000503: "TDX_SYS_LP_INIT_DONE",
    0xC0000505: "TDX_SYS_NOT_READY",
    0xC0000506: "TDX_SYS_SHUTDOWN",
    0xC0000507: "TDX_SYS_KEY_CONFIG_NOT_PENDING",
    0xC000050A: "TDX_SYS_INCOMPATIBLE_SIGSTRUCT",
    0xC000050B: "TDX_SYS_LP_INIT_NOT_PENDING",
    0xC000050C: "TDX_SYS_CONFIG_NOT_PENDING",
    0xC000050D: "TDX_INCOMPATIBLE_SEAM_CAPABILITIES",
    0xC000050F: "TDX_INCOMPATIBLE_SEAM_FEATURES",
    0xC0000511: "TDX_CRYPTO_SELF_TEST_FAILED",
    0x80000800: "TDX_KEY_GENERATION_FAILED",
    0xC0000825: "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED",
    0xC0000900: "TDX_INCORRECT_CPUID_VALUE",
    0xC0000901: "TDX_LIMIT_CPUID_MAXVAL_SET",
    0xC0000902: "TDX_INCONSISTENT_CPUID_FIELD",
    0xC0000904: "TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED",
    0xC0000905: "TDX_INVALID_WBINVD_SCOPE",
    0xC0000906: "TDX_INVALID_PKG_ID",
    0xC0000908: "TDX_CPUID_LEAF_NOT_SUPPORTED",
    0xC0000910: "TDX_SMRR_NOT_LOCKED",
    0xC0000911: "TDX_INVALID_SMRR_CONFIGURATION",
    0xC0000912: "TDX_SMRR_OVERLAPS_CMR",
    0xC0000913: "TDX_SMRR_LOCK_NOT_SUPPORTED",
    0xC0000914: "TDX_SMRR_NOT_SUPPORTED",
    0xC0000920: "TDX_INCONSISTENT_MSR",
    0xC0000921: "TDX_INCORRECT_MSR_VALUE",
    0xC0000A00: "TDX_INVALID_TDMR",
    0xC0000A01: "TDX_NON_ORDERED_TDMR",
    0xC0000A02: "TDX_TDMR_OUTSIDE_CMRS",
    0xC0000A10: "TDX_INVALID_PAMT",
    0xC0000A11: "TDX_PAMT_OUTSIDE_CMRS",
    0xC0000A12: "TDX_PAMT_OVERLAP",
    0xC0000A20: "TDX_INVALID_RESERVED_IN_TDMR",
    0xC0000A21: "TDX_NON_ORDERED_RESERVED_IN_TDMR",
    0xC0000A22: "TDX_CMR_LIST_INVALID",
    0xC0000C00: "TDX_METADATA_FIELD_ID_INCORRECT",
    0xC0000C02: "TDX_METADATA_FIELD_NOT_READABLE",
}
_READ = 0x22
_NOT_READY = 0xC0000505

WHY = {
    FailureReason.RESERVED_AREAS: "a TDMR needs more reserved areas than the TDX module takes",
    FailureReason.TDMRS: "the memory map needs more TDMRs than the TDX module takes",
    FailureReason.AREAS_OR_TDMRS: "reserved areas or TDMRs ran out",
    FailureReason.NO_MEMORY: "no contiguous memory was free, most likely for a PAMT",
    FailureReason.KEYIDS: "the BIOS gives TDX too few private KeyIDs",
    FailureReason.HIBERNATION: "the kernel can hibernate, which TDX does not allow",
    FailureReason.MEMORY_NOTIFIER: "the kernel could not watch memory hotplug",
    FailureReason.CPU_FEATURE: "the CPU lacks a feature that TDX needs, or it is switched off",
    FailureReason.NOT_LOADED: "the BIOS has not loaded the TDX module",
    FailureReason.RBP_BUG: "the TDX module is too old: it clobbers the frame pointer (RBP)",
    FailureReason.NOT_CONVERTIBLE: "memory lies outside every CMR",
    FailureReason.SEAMCALL: "the TDX module refused a call",
    FailureReason.METADATA: "the TDX module lacks a field or a feature that the kernel needs",
    FailureReason.EXCEPTION: "SEAMCALL itself faulted: TDX is not enabled by the BIOS, or VMX is off",
    FailureReason.KVM_EPT: "KVM runs without EPT, which TDX needs",
    FailureReason.KVM_MMU: "KVM runs without the TDP MMU, MMIO caching or the accessed and dirty bits of EPT,"
    " all of which TDX needs",
    FailureReason.KVM_APICV: "KVM runs without APICv, which TDX needs",
    FailureReason.KVM_VIRTUALIZATION: "KVM does not turn virtualization on when it is loaded, as TDX needs",
    FailureReason.OTHER: "for a reason that the kernel does not name",
}

NEEDS = "Sapphire Rapids or a later Xeon"
_NO_TDX = {
    NoTdx.GUEST: "This is a TDX guest, whose log says nothing about its host: give the log of the host.",
    NoTdx.CPU: f"This CPU has no TDX, which needs {NEEDS} ({{}}).",
    NoTdx.CPU_FEATURE: "TDX is not available: {}.",
    NoTdx.TME: "The BIOS has not enabled TME, without which there is no TDX: in the BIOS, enable TME, TME-MT"
    " and TDX.",
    NoTdx.DISABLED: "KVM says that TDX is disabled on this platform: the CPU has no TDX, which needs"
    f" {NEEDS}, or the BIOS has not enabled it.",
    NoTdx.PLATFORM: "The kernel says that this platform does not support TDX.",
}

NO_HIBERNATE = Remedy(
    RemedyKind.ADD_ARGUMENTS, "Add nohibernate to the kernel's command line.", ("nohibernate",)
)
EARLIER = Remedy(
    RemedyKind.INITIALIZE_EARLY,
    "Initialize TDX early (load kvm_intel at boot); reserve fewer huge pages and less movable memory.",
)
CONVERTIBLE = Remedy(
    RemedyKind.CONVERTIBLE_MEMORY,
    "Have the firmware make all memory convertible (populate DIMMs evenly, no CXL or persistent"
    " memory as RAM), or keep the kernel off the rest with memmap=.",
)
PLATFORM_SET_UP = Remedy(
    RemedyKind.FIRMWARE_SETTING,
    "The BIOS has set the platform up so that the TDX module refuses it, whatever the module's age: update"
    " the BIOS, or load its defaults and enable TME, TME-MT, TDX and the SEAM loader again; then ask the"
    " vendor.",
)
KERNELS_PLAN = Remedy(
    RemedyKind.LOOK_FURTHER,
    "The kernel's own plan is at fault, not the memory: boot another kernel, and report it to the kernel's"
    " vendor with `sudo tdx-headroom capture -o host.tar.gz`.",
)
_ENABLE = Remedy(
    RemedyKind.FIRMWARE_SETTING,
    "In the BIOS, enable TME, TME-MT, TDX and the SEAM loader; update the BIOS if they are.",
)
UPDATE = Remedy(RemedyKind.UPDATE_MODULE, "Update the TDX module: with the BIOS, or through the SEAM loader.")
_FIELD = Remedy(
    RemedyKind.UPDATE_MODULE,
    "Update the TDX module (with the BIOS): it does not know a field that this kernel reads.",
)

_KEY_SPLIT = Remedy(
    RemedyKind.FIRMWARE_SETTING,
    "In the BIOS, give TDX fewer of the KeyIDs (the TME-MT/TDX key split), or update the TDX module.",
)
_NO_LIMIT = Remedy(RemedyKind.FIRMWARE_SETTING, "In the BIOS, turn off the limit of CPUID's leaves (maxval).")
_ALL_CPUS = Remedy(
    RemedyKind.REMOVE_ARGUMENTS,
    "Have every CPU online when TDX starts: no nosmt, maxcpus=, nr_cpus= or possible_cpus= on the kernel's"
    " command line, and no CPU set offline.",
)
_FRESH_BOOT = Remedy(
    RemedyKind.BOOT_AGAIN,
    "Boot again through the firmware, not by kexec: the TDX module is in another state than the kernel takes"
    " it to be. Should it come back, report it to the kernel's vendor.",
)
_RETRY = Remedy(
    RemedyKind.BOOT_AGAIN, "The TDX module was busy or short of entropy: load kvm_intel later, or boot again."
)
_VENDOR = Remedy(
    RemedyKind.LOOK_FURTHER,
    "The TDX module's own test of the CPU fails: have the machine's vendor look at it.",
)
_OF_STATUS: dict[int, Remedy] = {
    **dict.fromkeys((0x80000200, 0x80000202, 0x80000203, 0x80000800), _RETRY),
    0xC0000502: _ALL_CPUS,
    **dict.fromkeys(
        (0xC0000500, 0xC0000503, 0xC0000505, 0xC0000506, 0xC0000507, 0xC000050B, 0xC000050C), _FRESH_BOOT
    ),
    0xC0000511: _VENDOR,
    0xC0000825: _KEY_SPLIT,
    0xC0000901: _NO_LIMIT,
    **dict.fromkeys((0xC0000905, 0xC0000906, *range(0xC0000910, 0xC0000915)), PLATFORM_SET_UP),
    **dict.fromkeys((0xC0000920, 0xC0000921, 0xC0000A22), PLATFORM_SET_UP),
    **dict.fromkeys((0xC0000A00, 0xC0000A01, 0xC0000A10, 0xC0000A12, 0xC0000A20, 0xC0000A21), KERNELS_PLAN),
    **dict.fromkeys((0xC0000A02, 0xC0000A11), CONVERTIBLE),
    **dict.fromkeys((0xC0000C00, 0xC0000C02), _FIELD),
}
"""What to do about a refused call, by the status; all others ask for another module."""

_KVM_SWITCHES = {
    FailureReason.KVM_EPT: "kvm_intel.ept",
    FailureReason.KVM_MMU: "kvm.tdp_mmu, kvm.mmio_caching, kvm_intel.eptad and kvm_intel.ept",
    FailureReason.KVM_APICV: "kvm_intel.enable_apicv",
    FailureReason.KVM_VIRTUALIZATION: "kvm.enable_virt_at_load",
}


def _turn_on(switches: str) -> Remedy:
    text = (
        f"See that nothing turns off {switches}, on by default: not the kernel's command line, not modprobe's"
        " configuration (`modprobe -c`), not what loads KVM. Then load kvm_intel again, or boot."
    )
    return Remedy(RemedyKind.LOAD_KVM, text)


_REMEDIES = {
    **{reason: _turn_on(switches) for reason, switches in _KVM_SWITCHES.items()},
    FailureReason.HIBERNATION: NO_HIBERNATE,
    FailureReason.KEYIDS: Remedy(
        RemedyKind.FIRMWARE_SETTING,
        "In the BIOS, give TDX more of the KeyIDs (the TME-MT/TDX key split).",
    ),
    FailureReason.EXCEPTION: _ENABLE,
    FailureReason.RBP_BUG: Remedy(
        RemedyKind.UPDATE_MODULE,
        "Update the TDX module (with the BIOS, or through the SEAM loader) to 1.5.06 or later.",
    ),
    FailureReason.METADATA: UPDATE,
    FailureReason.CPU_FEATURE: Remedy(
        RemedyKind.FIRMWARE_SETTING,
        "Enable the feature in the BIOS, and take its clearcpuid= or no… off the command line.",
    ),
    FailureReason.NO_MEMORY: EARLIER,
    FailureReason.NOT_CONVERTIBLE: CONVERTIBLE,
    FailureReason.MEMORY_NOTIFIER: Remedy(
        RemedyKind.BOOT_AGAIN, "Boot again; should it come back, report it to the kernel's vendor."
    ),
    FailureReason.OTHER: Remedy(
        RemedyKind.LOOK_FURTHER,
        "Look for what the kernel says before it (`journalctl -k -b`); update kernel and TDX module.",
    ),
}

_PERSISTENT = (
    FailureReason.KEYIDS,
    FailureReason.HIBERNATION,
    FailureReason.NOT_LOADED,
    FailureReason.EXCEPTION,
    FailureReason.RBP_BUG,
    FailureReason.METADATA,
    FailureReason.CPU_FEATURE,
    *KVM_REASONS,
)
CONFIG_LEAF = 0x2D
_LASTS = 3
"""Bits 63 and 62 of a status: an error, and no matter of trying again."""


def is_persistent(log: KernelReport) -> bool:
    """Whether a failure has causes that neither the memory map nor another try changes."""
    if log.reason is FailureReason.SEAMCALL:
        call = log.seamcall
        return call is not None and call.leaf != CONFIG_LEAF and call.status >> 62 == _LASTS
    return log.reason in _PERSISTENT


def why_no_tdx(facts: HostFacts) -> str | None:
    """Why TDX is not available, where the log or the CPU says so by itself."""
    log, platform = facts.kernel_log, facts.platform
    if platform is not None and platform.tdx_guest:
        return _NO_TDX[NoTdx.GUEST]
    if log is None or log.state is not ModuleState.UNSUPPORTED:
        if platform is not None and platform.virtual_machine:
            return "This is a virtual machine, and TDX is its host's."
        if platform is None or platform.cpu_can_tdx is not False:
            return None
        return _NO_TDX[NoTdx.CPU].format(one_line(platform.cpu_model or "of an older model", 120))
    return _NO_TDX[log.no_tdx or NoTdx.PLATFORM].format(one_line(log.message or "", 120))


def describe_failure(log: KernelReport) -> str:
    """Why the initialisation failed, in words."""
    reason = WHY[log.reason or FailureReason.OTHER]
    if log.reason is FailureReason.RESERVED_AREAS and log.failed_tdmr is not None:
        reason = reason.replace("a TDMR", f"TDMR {show(*log.failed_tdmr)}")
    errno = f" (errno {log.errno})" if log.errno is not None else ""
    call = f": {describe_seamcall(log.seamcall)}" if log.seamcall is not None else ""
    return f"{reason}{call}{errno}"


def describe_seamcall(call: SeamcallFailure) -> str:
    """A failed SEAMCALL: leaf, status, and the TDMR or field that it names."""
    leaf = LEAVES.get(call.leaf, f"leaf 0x{call.leaf:x}")
    name = STATUSES.get(call.status >> 32, f"status 0x{call.status:016x}")
    where = ""
    if call.status >> 32 in CONFIG_ERRORS:
        where = f" for TDMR number {call.status & 0xFF}"
    elif call.leaf == _READ and call.rdx is not None:
        where = f" for field 0x{call.rdx:016x}"
    return f"{leaf} returned {name}{where}"


def failed_in_words(log: KernelReport) -> str:
    """That the initialisation failed in this boot, and why."""
    return f"TDX failed to initialize in this boot: {describe_failure(log)}."


def remedies_for(log: KernelReport) -> tuple[Remedy, ...]:
    """What to do about a failure that the memory map has no part in."""
    if log.reason is FailureReason.SEAMCALL:
        status = log.seamcall.status >> 32 if log.seamcall is not None else 0
        # Older modules read no field before all processors are ready.
        early = status == _NOT_READY and log.seamcall is not None and log.seamcall.leaf == _READ
        return (UPDATE if early else _OF_STATUS.get(status, UPDATE),)
    remedy = _REMEDIES.get(log.reason or FailureReason.OTHER)
    return () if remedy is None else (remedy,)
