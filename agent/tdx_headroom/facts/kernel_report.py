# SPDX-License-Identifier: Apache-2.0
"""What the kernel's log says about TDX in this boot, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tdx_headroom.address import Range  # noqa: TC001  the codec reads the annotation


class ModuleState(StrEnum):
    """How far TDX got in this boot."""

    INITIALIZED = "initialized"
    FAILED = "failed"
    NOT_ATTEMPTED = "not-attempted"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


class FailureReason(StrEnum):
    """Why an initialisation failed, as far as the kernel's line says."""

    RESERVED_AREAS = "reserved-areas-exhausted"
    TDMRS = "tdmrs-exhausted"
    AREAS_OR_TDMRS = "areas-or-tdmrs-exhausted"
    NO_MEMORY = "no-memory"
    KEYIDS = "too-few-keyids"
    HIBERNATION = "hibernation-enabled"
    MEMORY_NOTIFIER = "memory-notifier"
    CPU_FEATURE = "cpu-feature-missing"
    NOT_LOADED = "module-not-loaded"
    RBP_BUG = "rbp-clobber-bug"
    NOT_CONVERTIBLE = "memory-not-convertible"
    SEAMCALL = "seamcall-error"
    METADATA = "metadata-or-rbp"
    EXCEPTION = "seamcall-exception"
    KVM_EPT = "kvm-without-ept"
    KVM_MMU = "kvm-without-tdp-mmu"
    KVM_APICV = "kvm-without-apicv"
    KVM_VIRTUALIZATION = "kvm-without-virtualization"
    OTHER = "other"


KVM_REASONS = (
    FailureReason.KVM_EPT,
    FailureReason.KVM_MMU,
    FailureReason.KVM_APICV,
    FailureReason.KVM_VIRTUALIZATION,
)
"""Why KVM gives TDX up before it asks the module for anything: it lacks something that TDX needs of it."""


class NoTdx(StrEnum):
    """Why TDX is not available where a log comes from."""

    GUEST = "guest"
    CPU = "cpu"
    CPU_FEATURE = "cpu-feature"
    TME = "tme-not-enabled"
    DISABLED = "disabled-platform"
    PLATFORM = "platform"


@dataclass(frozen=True, slots=True)
class SeamcallFailure:
    """A SEAMCALL that failed: leaf number, completion status, and RDX (the field, for leaf 0x22)."""

    leaf: int
    status: int
    rdx: int | None = None


class ContradictionKind(StrEnum):
    """In what way an unverified log contradicts itself."""

    SECOND_BOOT = "second-boot"
    TWO_OUTCOMES = "two-outcomes"
    OUTSIDE_THE_LOG = "outside-the-log"
    MEMORY_MAP = "memory-map"
    SAME_MOMENT = "same-moment"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A line of an unverified log that does not go with the lines before it.

    Args:
        kind: in what way; ``same-moment`` is only a hint.
        line: the message; of a kernel version or command line only what the agent reads of it.
    """

    kind: ContradictionKind
    line: str


@dataclass(frozen=True, slots=True)
class KernelReport:
    """Everything that the kernel's own lines tell (docs/kernel-log.md lists them).

    Args:
        state: how far the last attempt of this boot got.
        reason: why it failed, when it did or will.
        errno: the negative errno that the log proves; None when it prints none.
        message: the line that decided ``state``, without its prefix.
        keyids: private KeyIDs ``[first, end)``.
        module_version: the TDX module's version, or its parts when the kernel prints no version.
        module_build: build number and date as printed, where the kernel prints them.
        cmrs: CMRs as printed, in order; None when none is printed.
        cmrs_complete: whether a later line shows that the list is whole.
        pamt_kib: KiB allocated for PAMT.
        dynamic_pamt: True when the kernel says that it uses Dynamic PAMT.
        failed_tdmr: the TDMR whose reserved areas ran out.
        tdmrs_used: ``(used, limit)`` from the warning that TDMRs run out.
        seamcall: the failing SEAMCALL of the attempt.
        acpi_s3_disabled: whether the kernel gave up ACPI S3 for TDX.
        not_convertible: whether the kernel named memory that is not TDX convertible.
        package_offline: whether the kernel said that a CPU package has no online CPU.
        kvm_failed: whether kvm_intel said that it could not bring TDX up, or gives it to no guest.
        verified: whether every line came from a record that only the kernel can write.
        contradictions: lines of an unverified log that do not go with what is before them. Somebody may have
            forged them, or what they contradict; where they tell different outcomes, the worse one counts.
        no_tdx: why TDX is not available, where ``state`` is unsupported; a guest's log tells of no host.
        bios_version: of the firmware, as the kernel printed it.
    """

    state: ModuleState = ModuleState.UNKNOWN
    reason: FailureReason | None = None
    errno: int | None = None
    message: str | None = None
    keyids: tuple[int, int] | None = None
    module_version: str | None = None
    module_build: str | None = None
    cmrs: tuple[Range, ...] | None = None
    cmrs_complete: bool = False
    pamt_kib: int | None = None
    dynamic_pamt: bool | None = None
    failed_tdmr: Range | None = None
    tdmrs_used: tuple[int, int] | None = None
    seamcall: SeamcallFailure | None = None
    acpi_s3_disabled: bool = False
    not_convertible: bool = False
    package_offline: bool = False
    kvm_failed: bool = False
    verified: bool = False
    contradictions: tuple[Contradiction, ...] = ()
    no_tdx: NoTdx | None = None
    bios_version: str | None = None

    @property
    def shows_nothing(self) -> bool:
        """Whether no line is one that only a host with TDX prints; KVM looks at itself before the host."""
        told = (self.keyids, self.cmrs, self.module_version, self.seamcall)
        nothing = self.state is ModuleState.UNKNOWN or self.reason in KVM_REASONS
        return nothing and all(value is None for value in told)
