# SPDX-License-Identifier: Apache-2.0
"""What a command line does to memory that cannot be computed: to the regions, or to where PAMTs can lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.command_line import name_and_value, parse_amount, parse_unsigned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LARGEST_BUDDY = 4 * MIB
"""``MAX_PAGE_ORDER`` pages: larger huge pages are taken from memblock, before there is a page allocator."""

_OFF = re.compile("[nNfF0]|[oO][fF]")
_COUNT = re.compile(r"\s*([0-9]{1,20})", re.ASCII)
_NODE_COUNT = re.compile(r"[0-9]{1,20}:([0-9]{1,20})", re.ASCII)


class MapRisk(StrEnum):
    """One thing that cannot be computed."""

    EFI_IMPORT = "efi-import"
    """The whole EFI map is taken in after the command line's edits; nothing shows it to user space."""
    SOFT_RESERVE = "soft-reserve"
    """Specific-purpose memory becomes RAM, or RAM becomes that: ``efi=nosoftreserve``."""
    EFI_FAKE_MEM = "efi-fake-mem"
    NUMA_FAKE = "numa-fake"
    NODES = "nodes"
    """The node of some of the memory is unknown, so are the borders at which regions are split."""
    MIRROR = "kernelcore-mirror"
    """``kernelcore=mirror``: regions are split where mirrored memory ends."""
    KERNEL_IMAGE = "kernel-image"
    """RAM is taken away where the kernel itself may be: it makes it RAM again."""
    UNKNOWN_TYPE = "unknown-type"
    """Memory of a type is changed that the firmware's map does not name."""
    NO_BOOT = "no-boot"
    """The kernel panics over its own map."""
    HOT_ADDED = "hot-added"
    """The firmware's map may have memory in it that was added since the boot."""
    HUGE_PAGES = "hugepages"
    GIGANTIC_PAGES = "gigantic-pages"
    CMA = "cma"
    CRASH_KERNEL = "crashkernel"
    RESERVED_MEMORY = "reserve-mem"
    KERNEL_CORE = "kernelcore"
    MOVABLE_CORE = "movablecore"
    MOVABLE_NODE = "movable-node"
    HANDOVER = "kho"
    """Scratch memory for a kernel that takes over: ``kho=``, ``liveupdate=``."""

    @property
    def of_regions(self) -> bool:
        """Whether it is the regions that are not exact; else it is only where PAMTs can lie."""
        return self in _OF_REGIONS

    @property
    def may_leave_no_room(self) -> bool:
        """Whether it can take so much that a PAMT finds no place at all; the plan's worst case has the rest.

        Of huge pages so many may be asked for that the kernel does not even come up.
        """
        return self in _OF_ROOM


_OF_REGIONS = frozenset(
    {
        MapRisk.EFI_IMPORT,
        MapRisk.SOFT_RESERVE,
        MapRisk.EFI_FAKE_MEM,
        MapRisk.NUMA_FAKE,
        MapRisk.NODES,
        MapRisk.MIRROR,
        MapRisk.KERNEL_IMAGE,
        MapRisk.UNKNOWN_TYPE,
        MapRisk.NO_BOOT,
        MapRisk.HOT_ADDED,
    }
)

_OF_ROOM = frozenset(
    {
        MapRisk.HUGE_PAGES,
        MapRisk.GIGANTIC_PAGES,
        MapRisk.CMA,
        MapRisk.KERNEL_CORE,
        MapRisk.MOVABLE_CORE,
        MapRisk.MOVABLE_NODE,
        MapRisk.MIRROR,
    }
)

_BY_NAME = {
    "add_efi_memmap": MapRisk.EFI_IMPORT,
    "efi_fake_mem": MapRisk.EFI_FAKE_MEM,
    "hugetlb_cma": MapRisk.CMA,
    "cma": MapRisk.CMA,
    "numa_cma": MapRisk.CMA,
    "cma_pernuma": MapRisk.CMA,
    "crashkernel": MapRisk.CRASH_KERNEL,
    "reserve_mem": MapRisk.RESERVED_MEMORY,
    "movable_node": MapRisk.MOVABLE_NODE,
}
_PLACING = {
    *_BY_NAME,
    *("hugepages", "hugepagesz", "default_hugepagesz", "kernelcore", "movablecore", "kho", "liveupdate"),
}
_SIZES = {"hugetlb_cma", "cma", "numa_cma", "cma_pernuma", "crashkernel", "reserve_mem"}
"""Those that ask for sizes."""
_BY_NODE = {"hugetlb_cma", "numa_cma", "crashkernel"}
"""Of these with ``NODE:SIZE`` or ``RANGE:SIZE``, separated by commas."""
_NEEDS_VALUE = {*_SIZES, "efi_fake_mem"}


@dataclass(frozen=True, slots=True)
class Taker:
    """An argument that sets memory aside.

    Args:
        index: of the argument.
        count: pieces.
        size: of a piece, in bytes.
    """

    index: int
    count: int
    size: int

    @property
    def taken(self) -> int:
        """All of it, in bytes."""
        return self.count * self.size


def argument_risks(arguments: Iterable[str]) -> list[MapRisk]:
    """The risks that the arguments alone tell, each once.

    Arguments that ask for nothing, such as ``hugepages=0``, are none.
    """
    given = [name_and_value(argument) for argument in arguments]
    found = [risk for name, value in given if (risk := _risk(name, value)) is not None]
    of_pages = (
        MapRisk.GIGANTIC_PAGES if pages.size > LARGEST_BUDDY else MapRisk.HUGE_PAGES
        for pages in huge_pages(given)
        if pages.count
    )
    return list(dict.fromkeys([*found, *of_pages]))


def placing_arguments(arguments: Iterable[str]) -> list[str]:
    """Those that decide where PAMTs can lie, in their order: two lines with the same ones are alike.

    How much they ask for counts: one huge page leaves more room than a million.
    """
    return [argument for argument in arguments if name_and_value(argument)[0] in _PLACING]


def set_aside(arguments: Iterable[str]) -> int:
    """Bytes in which no PAMT can lie, wherever: huge pages, CMA, the crash kernel, ``reserve_mem=``.

    For a plan they are what ``HostFacts.hugetlb_bytes`` is: they may fill a zone. Of ``crashkernel=`` all
    sizes count, whichever of its ranges is the machine's. What is no number of bytes, such as a share of
    memory, counts as nothing here: it stays a risk.
    """
    return sum(taker.taken for taker in takers(arguments))


def takers(arguments: Iterable[str]) -> list[Taker]:
    """The arguments that set memory aside, and how much each does."""
    given = [name_and_value(argument) for argument in arguments]
    sizes = [
        Taker(index, 1, sum(_sizes(name, value)))
        for index, (name, value) in enumerate(given)
        if name in _SIZES and value
    ]
    return [*huge_pages(given), *sizes]


def _sizes(name: str, value: str) -> Iterator[int]:
    """The sizes in the value of such an argument."""
    if name not in _BY_NODE:
        yield parse_amount(value)[0]
        return
    for part in value.split(","):
        amount, rest = parse_amount(part.rpartition(":")[2])
        if not rest.startswith("%"):
            yield amount


def huge_pages(given: Iterable[tuple[str, str | None]]) -> Iterator[Taker]:
    """Size and number of huge pages, as ``hugepages=``, ``hugepagesz=`` and ``default_hugepagesz=`` ask.

    A number belongs to the size before it; one before any size to the default (mm/hugetlb.c).
    """
    size: int | None = None
    default = 2 * MIB
    waiting: list[tuple[int, int]] = []
    for index, (name, value) in enumerate(given):
        if value is None:
            continue
        if name in ("hugepagesz", "default_hugepagesz"):
            amount = parse_amount(value)[0]
            size = amount if amount in (2 * MIB, GIB) else 0
            if name == "default_hugepagesz" and size:
                default = size
        elif name == "hugepages":
            count = _count(value)
            if size is None:
                waiting.append((index, count))
            elif size:
                yield Taker(index, count, size)
    for index, count in waiting:
        yield Taker(index, count, default)


def keeps_soft_reserved(arguments: Iterable[str]) -> bool:
    """Whether specific-purpose memory is set apart: not with ``efi=nosoftreserve``."""
    given = (name_and_value(argument) for argument in arguments)
    return not any(name == "efi" and "nosoftreserve" in (value or "").split(",") for name, value in given)


def _count(value: str) -> int:
    """How many pages: a number, or numbers by node."""
    if found := _NODE_COUNT.findall(value):
        return sum(map(int, found))
    match = _COUNT.match(value)
    return int(match[1]) if match else 0


def _risk(name: str, value: str | None) -> MapRisk | None:
    """What one argument makes uncertain, huge pages apart."""
    if name in ("kernelcore", "movablecore"):
        return _of_movable(name, value)
    if name in ("kho", "liveupdate"):
        return None if value is not None and _OFF.match(value) else MapRisk.HANDOVER
    if name == "numa":
        return MapRisk.NUMA_FAKE if value is not None and value.startswith("fake=") else None
    risk = _BY_NAME.get(name)
    if name in _NEEDS_VALUE and (not value or _asks_nothing(name, value)):
        return None
    return risk


def _of_movable(name: str, value: str | None) -> MapRisk | None:
    if not value:
        return None
    if name == "kernelcore" and "mirror" in value.split(","):
        return MapRisk.MIRROR
    if parse_unsigned(value)[0] == 0:
        return None
    return MapRisk.KERNEL_CORE if name == "kernelcore" else MapRisk.MOVABLE_CORE


def _asks_nothing(name: str, value: str) -> bool:
    """Whether a size of 0 is asked for: ``cma=0`` switches off what the kernel is built with."""
    return name in ("cma", "hugetlb_cma", "cma_pernuma") and value.strip("0") in ("", "M", "G", "K")
