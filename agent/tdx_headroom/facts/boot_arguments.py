# SPDX-License-Identifier: Apache-2.0
"""Arguments of the kernel's command line that decide whether TDX is tried at all, memory apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.command_line import name_and_value, parse_unsigned, switch

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAP = ("mem", "memmap", "numa", "acpi", "efi", "add_efi_memmap", "efi_fake_mem", "disable_mtrr_trim")
"""Names of arguments that change the memory regions, as ``kernelcore=mirror`` does."""

_BARS_HIBERNATION = {
    ("nohibernate", None),
    ("hibernate", "no"),
    ("lockdown", "integrity"),
    ("lockdown", "confidentiality"),
}


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


def bars_hibernation(arguments: Iterable[str]) -> bool:
    """Whether the kernel is told not to hibernate: ``nohibernate``, ``hibernate=no``, ``lockdown=``."""
    pairs = [name_and_value(argument) for argument in arguments]
    return any(pair in _BARS_HIBERNATION for pair in pairs)
