# SPDX-License-Identifier: Apache-2.0
"""What is staged on a host: boot entries, the one that comes next, and what each kernel does; values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RUNNING_KERNEL = "the running kernel"
"""What tells of an entry that no file has: the running boot itself."""


class Role(StrEnum):
    """What a boot entry is to this host."""

    RUNNING = "running"
    NEXT = "next"
    ONE_SHOT = "one-shot"
    """It comes next, and only once."""
    KEXEC = "kexec"
    INSTALLED = "installed"


class Loader(StrEnum):
    """What loads a kernel."""

    GRUB = "grub"
    SYSTEMD_BOOT = "systemd-boot"
    KEXEC = "kexec"


class Change(StrEnum):
    """In what the next boot differs from the running one."""

    KERNEL = "kernel"
    IMAGE = "image"
    """The same release, built anew."""
    COMMAND_LINE = "command-line"
    INITRD = "initrd"
    HYPERVISOR = "hypervisor"
    """One below the kernel where there is none now, or none where there is one."""


class Starts(StrEnum):
    """When a kernel initializes the TDX module."""

    BOOT = "boot"
    KVM_LOAD = "kvm-load"
    NEVER = "never"
    NOT_BUILT = "not-built"
    UNKNOWN = "unknown"


class TraitsFrom(StrEnum):
    """From what it is known what a kernel does."""

    IMAGE = "image"
    CONFIG = "config"
    TABLE = "table"
    MAINLINE = "mainline"


class Lockdown(StrEnum):
    """What locks a kernel down before it looks for TDX; a kernel that is locked down cannot hibernate."""

    NEVER = "never"
    """Nothing: it is built without lockdown, or with one that begins later (``security_init()``)."""
    ASKED = "asked"
    """``lockdown=`` alone."""
    SECURE_BOOT = "secure-boot"
    """Secure Boot, too, by a patch of its distribution: mainline's does not look at it."""
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class KvmLoading:
    """How modprobe's configuration loads KVM.

    Args:
        options: those of kvm and kvm_intel that decide whether KVM starts TDX, as they would stand on the
            kernel's command line, in order.
        passed_over: the ones of kvm and kvm_intel that are not loaded for the CPU's sake (``blacklist``).
        never: the ones that are not loaded at all, since ``install`` runs a command that does nothing.
    """

    options: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelTraits:
    """What one kernel does about TDX, by its own files; None where they do not tell.

    Args:
        starts: when it initializes the module.
        known_from: the files that tell it; None where they tell nothing of TDX.
        walks_cmrs: whether it looks for holes in the CMRs of the whole map (``cmr-walk``).
        reads_cmrs: whether it reads CMRs, be it only to print them.
        dynamic_pamt: whether it can use Dynamic PAMT.
        hibernation: whether it is built with hibernation.
        lockdown: what locks it down, by its configuration.
        tdx_host: whether it is built with TDX for hosts, be it unknown when it initializes the module.
        kvm_built_in: whether KVM for Intel is no module, which something else would have to load.
        built_in: arguments that its build puts before the command line; they may be in none of the loader's.
        overrides: whether those replace the command line.
        unread: why a file of it could not be read, a clause each.
    """

    starts: Starts = Starts.UNKNOWN
    known_from: TraitsFrom | None = None
    walks_cmrs: bool | None = None
    reads_cmrs: bool | None = None
    dynamic_pamt: bool | None = None
    hibernation: bool | None = None
    lockdown: Lockdown | None = None
    tdx_host: bool | None = None
    kvm_built_in: bool | None = None
    built_in: tuple[str, ...] = ()
    overrides: bool = False
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One way to boot this host.

    Args:
        entry: its id, as the boot loader's own commands take it; None where it has none.
        title: for people.
        release: of its kernel (``uname -r``).
        arguments: of its command line those that matter for TDX or memory, in order; None: unknown.
        loader: that shows it.
        roles: what it is to this host.
        known_from: the files, or what else, that tell of it.
        recovery: whether it is for recovery or rescue, or boots to a single user.
        differs: in what it differs from the running boot; None where that cannot be told.
        traits: of its kernel, by its own files.
        unknown: why release or command line are unknown, or whether the loader can start it: its image is
            missing or damaged, or lies where nobody can look; a clause.
        file: that has its command line, relative to the host's root; None where it has none.
        hypervisor: that is started below its kernel, such as ``xen-4.17-amd64.gz``; None: there is none.
    """

    entry: str | None = None
    title: str | None = None
    release: str | None = None
    arguments: tuple[str, ...] | None = None
    loader: Loader | None = None
    roles: tuple[Role, ...] = ()
    known_from: str = ""
    recovery: bool = False
    differs: tuple[Change, ...] | None = None
    traits: KernelTraits | None = None
    unknown: str | None = None
    file: str | None = None
    hypervisor: str | None = None


@dataclass(frozen=True, slots=True)
class BootInventory:
    """All of them, the running one first.

    Args:
        entries: those of the boot loader that comes next, and kernels that are only installed.
        unknown: why it cannot be told which comes next, a clause; None where it is known or taken to be the
            running one.
        configured: whether this host has a boot configuration, or boots from the network; if not, the running
            kernel is taken to come again.
        kexec_loaded: whether a kernel waits to be started without the firmware.
        firmware_update: the firmware that is staged for the next boot, in words; None: none is seen.
        kvm_intel_tdx: what modprobe's configuration sets ``kvm_intel.tdx`` to; None: nothing, or unknown.
        kvm_loading: what else that configuration says of KVM.
        modprobe_read: whether that configuration could be read.
        takes_once: whether the entry that the loader's command names for one boot (``grub-reboot``, ``bootctl
            set-oneshot``) is known to come next then.
        takes_default: the same of the one that is named for good (``grub-set-default``, ``bootctl
            set-default``).
        notes: what else of the boot configuration could not be read or understood, a clause each.
    """

    entries: tuple[BootEntry, ...] = ()
    unknown: str | None = None
    configured: bool = False
    kexec_loaded: bool = False
    firmware_update: str | None = None
    kvm_intel_tdx: bool | None = None
    kvm_loading: KvmLoading = KvmLoading()
    modprobe_read: bool = False
    takes_once: bool = False
    takes_default: bool = False
    notes: tuple[str, ...] = ()
