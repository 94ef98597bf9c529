# SPDX-License-Identifier: Apache-2.0
"""Values that sources hand to the facts; pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

KVM_IS_LOADED = 300.0
"""Seconds since the boot: 245 is the latest at which a host has been seen to load KVM, which tries TDX."""


class FirmwareRange(NamedTuple):
    """One entry of a firmware memory map: ``[start, end)`` in bytes and its type, as the kernel names it."""

    start: int
    end: int
    kind: str


class NodeRange(NamedTuple):
    """Memory ``[start, end)`` in bytes that belongs to one NUMA node."""

    start: int
    end: int
    node: int


class Zone(NamedTuple):
    """A zone of a node: ``[start, end)`` in bytes, holes included; the node is None where it is unknown."""

    node: int | None
    name: str
    start: int
    end: int


class Origin(StrEnum):
    """What makes it likely that memory lies in no CMR: firmware makes convertible what is there at boot."""

    KMEM = "kmem"
    """The driver of that name has added it: CXL memory, or another DAX device's."""
    VIRTIO_MEM = "virtio_mem"
    DRIVER = "driver"
    """Another driver has added it."""
    SOFT_RESERVED = "soft-reserved"
    PERSISTENT = "persistent"
    HOTPLUG = "hotplug"
    """It lies where SRAT says that memory may be hot-plugged."""
    ADDED = "added"
    """It was not there at boot."""
    NO_CPU = "no-cpu"
    """Its NUMA node has no CPU."""


class Suspect(NamedTuple):
    """Memory in use, ``[start, end)`` in bytes, that is most likely not convertible.

    ``device`` is the DAX device, the driver or the node, where that is known; ``late`` memory was added since
    the boot.
    """

    start: int
    end: int
    origin: Origin
    device: str | None
    late: bool


class HolesBefore(NamedTuple):
    """How many holes a TDMR has had in earlier boots like the present one.

    Args:
        strategy: how holes are looked for.
        base, size: of the TDMR, in bytes.
        boots: how many they are.
        least, most: holes.
    """

    strategy: str
    base: int
    size: int
    boots: int
    least: int
    most: int


class TdxSeen(StrEnum):
    """What a boot has shown of TDX, from nothing to all; whether it was tried cannot be told of ``SHOWN``."""

    NONE = "none"
    SHOWN = "shown"
    NOT_TRIED = "not-tried"
    FAILED = "failed"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Platform:
    """Facts about the machine; None where unknown.

    Args:
        tdx_host_platform: the CPU flag of that name: the kernel's platform checks passed.
        tdx_guest: the CPU flag of that name: this is a guest, and not a host.
        virtual_machine: the CPU flag ``hypervisor``: no virtual machine is a TDX host.
        sgx: whether SGX is on, which the SEAM loader needs.
        tdx_pw_mce: the CPU has the partial-write machine check erratum.
        kvm_intel_tdx: the module parameter ``kvm_intel.tdx``.
        enable_virt_at_load: that of ``kvm.enable_virt_at_load``, without which KVM does not try TDX.
        tdx_module_version: ``/sys/devices/faux/tdx_host/version``, there only once initialised (7.2+).
        guest_keyids: row ``tdx`` of the cgroup file ``misc.capacity``.
        hibernation: whether the kernel can hibernate, which blocks TDX.
        lockdown: whether it is locked down, in which it cannot.
        command_line: the arguments that matter for TDX or memory, others left out.
        physical_address_bits: of the CPU, without those that encryption keys take.
        cpu_model, cpus, memory_total: as the host reports them; bytes.
        cpu_can_tdx: whether the CPU is of a model that can have TDX.
        boot_time: seconds since the epoch.
        boot_id: the kernel's random id of this boot.
        bios_version: of the DMI table.
        product: what its maker calls the machine, by the DMI table.
        hypervisor: what the boot loader starts below the kernel, such as Xen; of a boot that is judged only.
    """

    tdx_host_platform: bool | None = None
    tdx_guest: bool | None = None
    virtual_machine: bool | None = None
    sgx: bool | None = None
    tdx_pw_mce: bool | None = None
    kvm_intel_tdx: bool | None = None
    enable_virt_at_load: bool | None = None
    tdx_module_version: str | None = None
    guest_keyids: int | None = None
    hibernation: bool | None = None
    lockdown: bool | None = None
    command_line: tuple[str, ...] | None = None
    physical_address_bits: int | None = None
    cpu_model: str | None = None
    cpu_can_tdx: bool | None = None
    cpus: int | None = None
    memory_total: int | None = None
    boot_time: float | None = None
    boot_id: str | None = None
    bios_version: str | None = None
    product: str | None = None
    hypervisor: str | None = None


@dataclass(frozen=True, slots=True)
class LogHealth:
    """How much of the kernel's log could be seen and trusted.

    Args:
        lost: records that were overwritten before they were read.
        untrusted: records that user space wrote and that look like TDX lines; they are never used.
        from_boot: whether the log reaches back to the boot.
        whole_start: whether it reaches, without a gap, from the boot to where all processors run: before
            that a kernel names the KeyIDs of TDX, if there are any.
        filtered: whether lines about TDX may have been taken out of what would be such a start.
        verified: whether its format tells who wrote a record (plain text never does).
        loose: TDX lines of a text that do not have its prefix, so that they prove nothing good.
        unread: lines of a text that mention TDX and could not be read.
        first_unread: the first of them, clipped.
        hides_failure: whether one of them may be a failure.
        excerpt: whether there are but a few lines about TDX, in a text of another kind.
        until: seconds since the boot at the last record; None where the log shows no times.
        earlier_boots: boots before this one that the text held, of this host or another; they are not used.
    """

    lost: int = 0
    untrusted: int = 0
    from_boot: bool = False
    whole_start: bool = False
    filtered: bool = False
    verified: bool = False
    earlier_boots: int = 0
    loose: int = 0
    unread: int = 0
    first_unread: str | None = None
    hides_failure: bool = False
    excerpt: bool = False
    until: float | None = None


def unread_in_words(number: int, first: str) -> str:
    """How many lines could not be read, and the first of them."""
    lines = "1 line mentions" if number == 1 else f"{number} lines mention"
    return f"{lines} TDX and could not be read; the first: {first}"
