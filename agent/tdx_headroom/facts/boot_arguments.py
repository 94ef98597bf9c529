# SPDX-License-Identifier: Apache-2.0
"""Arguments of the kernel's command line that decide whether TDX is tried at all, memory apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.command_line import DASHES, asks_for_tdx, name_and_value, parse_unsigned, switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAP = ("mem", "memmap", "numa", "acpi", "efi", "add_efi_memmap", "efi_fake_mem", "disable_mtrr_trim")
"""Names of arguments that change the memory regions, as ``kernelcore=mirror`` does."""

_KEEP_HIBERNATION = ("noresume", "nocompress")
"""Values of ``hibernate=`` that begin as the one that forbids hibernation, and are looked for before it."""
_LOCKS_DOWN = {("lockdown", "integrity"), ("lockdown", "confidentiality")}


KVM_NEEDS = {
    "kvm_intel.ept": "EPT",
    "kvm_intel.eptad": "the accessed and dirty bits of EPT",
    "kvm_intel.enable_apicv": "APICv",
    "kvm.tdp_mmu": "the TDP MMU",
    "kvm.mmio_caching": "MMIO caching",
}
"""Switches of KVM, all on by default, without which it does not start TDX, and what each turns on.

After ``tdx_bringup()`` of arch/x86/kvm/vmx/tdx.c in mainline 6.16 to 7.0.
"""
KVM_MODULES = ("kvm_intel", "kvm")
"""The first starts TDX, and does not come without the second."""
KVM_VIRTUALIZATION = "kvm.enable_virt_at_load"
_CPU_FEATURES = {
    **dict.fromkeys(("movdir64b", "540", "16:28"), "MOVDIR64B"),
    **dict.fromkeys(("ss", "27", "0:27"), "self-snoop"),
    **dict.fromkeys(("xsave", "154", "4:26", "155", "4:27"), "XSAVE"),
}
"""Features that TDX needs, as ``clearcpuid=`` takes them: by name, number, or word and bit."""


class FeatureOff(NamedTuple):
    """An argument that turns off a feature of the CPU.

    Args:
        argument: the argument.
        feature: for people.
    """

    argument: str
    feature: str


class CpuLimit(NamedTuple):
    """An argument that may leave CPUs out.

    Args:
        argument: the argument.
        cpus: how many it leaves; None where it gives no number.
    """

    argument: str
    cpus: int | None


def map_arguments(arguments: Iterable[str]) -> list[str]:
    """Those that change the memory regions, in their order."""
    return [argument for argument in arguments if _changes_map(*name_and_value(argument))]


def _changes_map(name: str, value: str | None) -> bool:
    return name in _MAP or (name == "kernelcore" and value is not None and "mirror" in value)


def cpu_limits(arguments: Iterable[str]) -> list[CpuLimit]:
    """``nosmt``, ``nosmp``, ``maxcpus=``, ``nr_cpus=`` and ``possible_cpus=``."""
    found = []
    for argument in arguments:
        name, value = name_and_value(argument)
        if name in ("nosmt", "nosmp"):
            found.append(CpuLimit(argument, None))
        elif name in ("maxcpus", "nr_cpus", "possible_cpus") and value is not None:
            number, rest = parse_unsigned(value)
            if rest != value:
                found.append(CpuLimit(argument, number))
    return found


def enables_virtualization(arguments: Iterable[str]) -> bool | None:
    """What ``kvm.enable_virt_at_load`` is set to; None where it is not given."""
    return switch(arguments, KVM_VIRTUALIZATION)


def argument_of(arguments: Iterable[str], name: str) -> str | None:
    """The last argument of a name, as it stands there; None without one."""
    return next((a for a in reversed(tuple(arguments)) if name_and_value(a)[0] == name), None)


def barred_modules(arguments: Iterable[str]) -> frozenset[str]:
    """Modules that the kernel does not load, by whatever name they are asked for (``module_blacklist=``).

    The last such argument counts, and it takes a module's own name alone, with _ for - (``blacklisted()`` of
    kernel/module/main.c).
    """
    values = [value for name, value in map(name_and_value, arguments) if name == "module_blacklist"]
    return frozenset((values[-1] or "").split(",")) if values else frozenset()


def passed_over_modules(arguments: Iterable[str]) -> frozenset[str]:
    """Modules that are not loaded for a device's or CPU's sake (``modprobe.blacklist=``, modprobe(8))."""
    values = [value for name, value in map(name_and_value, arguments) if name == "modprobe.blacklist"]
    return frozenset(word.replace("-", "_") for value in values for word in (value or "").split(","))


def bars_all_modules(arguments: Iterable[str]) -> bool:
    """Whether the kernel loads no module at all (``nomodule``)."""
    return switch(arguments, "nomodule") is True


def features_off(arguments: Iterable[str]) -> list[FeatureOff]:
    """``clearcpuid=`` and ``noxsave``, as far as they turn off what TDX needs."""
    found = []
    for argument in arguments:
        name, value = name_and_value(argument)
        if (name, value) == ("noxsave", None):
            found.append(FeatureOff(argument, "XSAVE"))
        elif name == "clearcpuid" and value is not None:
            features = dict.fromkeys(_CPU_FEATURES.get(word) for word in value.split(","))
            found += [FeatureOff(argument, feature) for feature in features if feature is not None]
    return found


def is_modprobes(argument: str) -> bool:
    """Whether modprobe takes it, too: a parameter of KVM or of KVM for Intel, or a list of modules."""
    name, _ = name_and_value(argument)
    return name.startswith(("kvm.", "kvm_intel.")) or name == "modprobe.blacklist"


def arguments_of_kvm(arguments: Sequence[str], *, module: bool) -> tuple[str, ...]:
    """The arguments of a line that count for KVM's parameters.

    The kernel sets those of what is built in, up to ``--`` (``parse_args()`` of kernel/params.c). Those of a
    module come from modprobe, which knows no ``--``.

    Args:
        arguments: of the line.
        module: whether KVM for Intel is a module of the kernel.
    """
    given = tuple(arguments)
    return given if module or DASHES not in given else given[: given.index(DASHES)]


def matters_behind_dashes(arguments: Sequence[str]) -> bool:
    """Whether a line sets what decides in KVM to something else where KVM is a module."""
    return _set_by(arguments) != _set_by(arguments_of_kvm(arguments, module=False))


def _set_by(arguments: Sequence[str]) -> tuple[bool | None, list[str]]:
    """Whether TDX is asked for, and which of the switches are off that are on by default."""
    off = [name for name in (KVM_VIRTUALIZATION, *KVM_NEEDS) if switch(arguments, name) is False]
    return asks_for_tdx(arguments), off


def forbids_hibernation(arguments: Iterable[str]) -> bool:
    """Whether ``nohibernate`` or ``hibernate=no`` is among them, as every kernel that can hibernate takes it.

    ``__setup()`` compares beginnings (``obsolete_checksetup()`` of init/main.c): ``nohibernate=0`` is
    ``nohibernate``, too. So does ``hibernate_setup()`` of kernel/power/hibernate.c with its values, small
    letters alone. Nothing later on the line takes it back.
    """
    return any(_forbids(*name_and_value(argument)) for argument in arguments)


def _forbids(name: str, value: str | None) -> bool:
    if name == "hibernate" and value is not None:
        return value.startswith("no") and not value.startswith(_KEEP_HIBERNATION)
    return name.startswith("nohibernate")


def locks_down(arguments: Iterable[str]) -> bool:
    """Whether ``lockdown=`` gives a level that bars hibernation, compared whole (``lockdown_param()``)."""
    return any(name_and_value(argument) in _LOCKS_DOWN for argument in arguments)


def bars_hibernation(arguments: Iterable[str]) -> bool:
    """Whether the kernel is told not to hibernate: ``nohibernate``, ``hibernate=no``, ``lockdown=``."""
    given = list(arguments)
    return forbids_hibernation(given) or locks_down(given)
