# SPDX-License-Identifier: Apache-2.0
"""One memory map to boot the kernel on: the machine, the kernel's arguments, what the stand-in reports."""

from __future__ import annotations

from dataclasses import dataclass, field

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

HIGH = 4 * GIB
"""Where QEMU puts the memory that does not fit below the PCI hole."""

KERNEL_END = 64 * MIB
"""The kernel lies below; a hole there would keep it from booting."""

MEMORY_REGIONS, CMR_SUBREGION, CMR_WALK = STRATEGIES = ("memory-regions", "cmr-subregion", "cmr-walk")
"""How the kernel looks for holes; the last two in a kernel that has them (``cmr_kernel.py``)."""

LOW_TAIL = 16 * MIB
"""At the end of low memory are the initramfs and the firmware's tables; no holes there either."""


@dataclass(frozen=True, slots=True)
class Module:
    """What the stand-in for the TDX module reports and does.

    Args:
        max_tdmrs, max_reserved: its limits.
        pamt_entry_size: bytes per PAMT entry for 4 KiB, 2 MiB and 1 GiB pages.
        cmrs: ``[start, end)`` of its CMRs in bytes, in table order, with the empty ones (both the same);
            None: all memory is convertible.
        fail_leaf, fail_code: the SEAMCALL leaf that fails, and with which status.
    """

    max_tdmrs: int = 64
    max_reserved: int = 16
    pamt_entry_size: tuple[int, int, int] = (16, 16, 16)
    cmrs: tuple[tuple[int, int], ...] | None = None
    fail_leaf: int | None = None
    fail_code: int | None = None

    def arguments(self) -> tuple[str, ...]:
        """Kernel arguments, without those that the stand-in has by default."""
        given = {
            "max_tdmrs": str(self.max_tdmrs) if self.max_tdmrs != 64 else None,
            "max_rsvd": str(self.max_reserved) if self.max_reserved != 16 else None,
            **{
                f"pamt_{level}": str(size) if size != 16 else None
                for level, size in zip(("4k", "2m", "1g"), self.pamt_entry_size, strict=True)
            },
            "cmrs": None if self.cmrs is None else ",".join(f"{a:#x}-{b:#x}" for a, b in self.cmrs),
            "fail_fn": None if self.fail_leaf is None else str(self.fail_leaf),
            "fail_code": None if self.fail_code is None else f"{self.fail_code:#x}",
        }
        return tuple(f"tdx_standin.{name}={value}" for name, value in given.items() if value is not None)


@dataclass(frozen=True, slots=True)
class GuestMap:
    """One guest.

    Args:
        number: its place in the run, from 0.
        family: what kind of map it is (a key of ``families.FAMILIES``).
        note: what is special about it, for the report.
        memory: RAM that the machine starts with, bytes, a multiple of 1 MiB.
        machine: QEMU's machine type; it decides where the PCI hole is.
        nodes: sizes of the NUMA nodes' memory in bytes, in order; empty: no NUMA.
        dimms: sizes of memory modules that the firmware does not list and ACPI adds, bytes.
        arguments: kernel arguments that make the map.
        module: the stand-in.
        strategy: how the kernel looks for holes.
    """

    number: int
    family: str
    memory: int
    note: str = ""
    machine: str = "q35"
    nodes: tuple[int, ...] = ()
    dimms: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    module: Module = field(default_factory=Module)
    strategy: str = MEMORY_REGIONS

    @property
    def name(self) -> str:
        """Number and family; the name of its folder."""
        return f"{self.number:04d}-{self.family}"

    @property
    def command_line(self) -> str:
        """All kernel arguments."""
        asked = () if self.strategy == MEMORY_REGIONS else (f"tdx_cmrs.strategy={self.strategy}",)
        return " ".join((*self.arguments, *asked, *self.module.arguments()))

    @property
    def low_end(self) -> int:
        """End of the memory below the PCI hole (QEMU: pc_q35_init, pc_init1)."""
        return low_end(self.memory, self.machine)

    @property
    def high_end(self) -> int:
        """End of the memory above 4 GiB; 4 GiB when there is none."""
        return HIGH + self.memory - self.low_end


def low_end(memory: int, machine: str) -> int:
    """End of the memory below the PCI hole, bytes."""
    if machine == "pc":
        return 3 * GIB if memory >= 0xE0000000 else memory
    return 2 * GIB if memory >= 0xB0000000 else memory
