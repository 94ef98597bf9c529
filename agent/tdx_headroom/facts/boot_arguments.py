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
    return switch(arguments, "kvm.enable_virt_at_load")


def is_of_kvm(argument: str) -> bool:
    """Whether it is a parameter of KVM or of KVM for Intel."""
    name, _ = name_and_value(argument)
    return name.startswith(("kvm.", "kvm_intel."))


def arguments_of_kvm(arguments: Sequence[str], *, module: bool | None) -> Sequence[str] | None:
    """The arguments of a line that count for KVM's parameters; None where its being a module decides that.

    The kernel sets those of what is built in, up to ``--`` (``parse_args()`` of kernel/params.c). Those of a
    module come from modprobe, which knows no ``--``.

    Args:
        arguments: of the line.
        module: whether KVM for Intel is a module of the kernel; None: unknown.
    """
    if DASHES not in arguments or module:
        return arguments
    own = arguments[: arguments.index(DASHES)]
    if module is None and _set_by(own) != _set_by(arguments):
        return None
    return own


def _set_by(arguments: Iterable[str]) -> tuple[bool | None, bool | None]:
    """What the parameters that decide are set to."""
    given = list(arguments)
    return asks_for_tdx(given), enables_virtualization(given)


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
