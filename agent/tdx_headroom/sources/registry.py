# SPDX-License-Identifier: Apache-2.0
"""Every source of a host, one row each: its name, its reader, its files, and what a capture keeps of them.

All that goes by a file's path is taken from here: what of an archive is looked at, what a capture holds, and
what systemd may hand over. A new source is a row, with its parser, its reduction, and tests of both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH
from tdx_headroom.facts.record_file import FIRMWARE_VERSION, RECORDS_PATH
from tdx_headroom.facts.sources import RESERVED, MemorySource
from tdx_headroom.hostfs.files import MAX_FILE, NameKind, Selection
from tdx_headroom.sources import (
    firmware_memmap,
    iomem,
    memblock,
    memory_blocks,
    nodes,
    platform,
    reduce,
    zoneinfo,
)
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.reader import ALL_LOG_PATHS, MAX_LOG
from tdx_headroom.sources.kernel_log.records import SOURCE as LOG
from tdx_headroom.sources.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.address import Range
    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.records import KernelLog

T = TypeVar("T")

_IN_INVENTORY = f"left out: what of it matters is in {INVENTORY_PATH}"
BOOT_TEXTS = (
    r"(?:boot|efi)/(?:[^/]+/){0,6}(?:[^/]+\.(?:cfg|conf)|grubenv|entry-token)"
    r"|etc/(?:default/grub|kernel/cmdline)|boot/loader"
)
BOOT_NAMES = (
    r"(?:boot|efi|(?:usr/)?lib/modules)/.+|run/ostree/staged-deployment(?:-locked)?"
    r"|\.snapshots/[0-9]{1,9}/snapshot/boot/grub2?/grub\.cfg"
)
_IOMEM_KEPT = "rows of memory; no devices, no rows of the kernel's image"
_RECORDS_KEPT = "earlier boots: kernel, firmware's version, arguments, memory, CMRs, fate of TDX, time"
_CPUINFO_KEPT = "vendor, model, address bits, number of CPUs, flags and bugs about TDX and virtualization"


class File(NamedTuple):
    """A file that a source reads, or several of one kind.

    Args:
        path: a pattern of its path, relative to the host's root; where it is handed over, the path itself.
        reduce: from its text to what a capture keeps of it; None where it gets into no capture as a file.
        kept: what that is, in words.
        handed_over: the name of the descriptor that systemd may hand over.
        privileged: whether only root can open it, or sees what is in it.
    """

    path: str
    reduce: Callable[[str], str | None] | None = None
    kept: str = "all"
    handed_over: str | None = None
    privileged: bool = False


class Names(NamedTuple):
    """Paths of which nothing but the names is read.

    Args:
        path: a pattern of them, relative to the host's root, without groups that are counted.
        kind: what a capture keeps of them.
    """

    path: str
    kind: NameKind = NameKind.UNKEPT


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """A source.

    Args:
        name: as in the metrics.
        read: its reader; None where that needs to know what other sources say.
        files: that it reads.
        names: paths of which nothing but the names is read.
        reported: whether facts tell how reading it went.
        required: whether every Linux host has it, and no other stands in for it.
    """

    name: str
    read: Callable[[HostFiles], Reading[T]] | None
    files: tuple[File, ...]
    names: tuple[Names, ...] = ()
    reported: bool = True
    required: bool = False


def _value(name: str, path: str, read: Callable[[HostFiles], T | None]) -> Callable[[HostFiles], Reading[T]]:
    """The reader of what is a value or nothing, and never an error."""
    return lambda files: Reading(name, files.locate(path), read(files))


MEMBLOCK = Source(
    MemorySource.MEMBLOCK,
    memblock.read_memblock,
    (File(memblock.MEMORY_PATH, reduce.memblock_rows, handed_over="memblock-memory", privileged=True),),
)
IOMEM = Source(
    MemorySource.IOMEM,
    iomem.read_iomem,
    (File(iomem.PATH, reduce.iomem_rows, _IOMEM_KEPT, handed_over="iomem", privileged=True),),
)
FIRMWARE = Source(
    MemorySource.FIRMWARE_MEMMAP,
    firmware_memmap.read_firmware_memmap,
    (
        File(r"sys/firmware/memmap/[0-9]{1,6}/(?:start|end)", reduce.firmware_address),
        File(r"sys/firmware/memmap/[0-9]{1,6}/type", reduce.firmware_type),
        File(re.escape(firmware_memmap.ENTRIES_PATH), reduce.firmware_entries, "all entries, one a row"),
    ),
    required=True,
)
NODES = Source(
    nodes.SOURCE,
    nodes.read_nodes,
    (
        File(nodes.BLOCK_SIZE_PATH, reduce.matching(r"[0-9a-f]{1,16}")),
        File(
            rf"{nodes.PATH}/node[0-9]{{1,5}}/{nodes.BLOCKS_FILE}",
            reduce.block_list,
            "numbers of the node's memory blocks",
        ),
    ),
    names=(
        Names(rf"{nodes.PATH}/node[0-9]{{1,5}}", NameKind.DIRECTORY),
        Names(rf"{nodes.PATH}/node[0-9]{{1,5}}/memory[0-9]{{1,9}}", NameKind.NAME),
        # Whatever lies in a node's directory shows that there is the node.
        Names(rf"{nodes.PATH}/node[0-9]{{1,5}}/(?:meminfo|cpulist|distance)"),
    ),
    required=True,
)
CPU_NODES = Source(
    "cpu-nodes",
    _value("cpu-nodes", nodes.HAS_CPU_PATH, nodes.read_cpu_nodes),
    (File(nodes.HAS_CPU_PATH, reduce.matching(r"[0-9,-]{1,4096}")),),
    reported=False,
)
ZONEINFO = Source(
    zoneinfo.SOURCE,
    zoneinfo.read_zoneinfo,
    (File(zoneinfo.PATH, reduce.zones, "where each zone lies", handed_over="zoneinfo"),),
    required=True,
)
PLATFORM = Source(
    platform.SOURCE,
    platform.read_platform,
    (
        File("proc/cpuinfo", reduce.cpuinfo, _CPUINFO_KEPT, handed_over="cpuinfo"),
        File(
            "proc/cmdline",
            reduce.command_line,
            "arguments about memory, TDX and hibernation",
            handed_over="cmdline",
        ),
        File("proc/stat", reduce.stat, "the time of the boot"),
        File(platform.BOOT_ID_PATH, reduce.no_boot, "nothing: it is all zeros"),
        File("sys/module/kvm_intel/parameters/tdx", reduce.matching(r"[YN01]")),
        File("sys/module/kvm/parameters/enable_virt_at_load", reduce.matching(r"[YN01]")),
        File("sys/power/disk", reduce.matching(r"[a-z_ \[\]]{1,80}")),
        File("sys/kernel/security/lockdown", reduce.matching(r"[a-z_ \[\]]{1,80}")),
        File(r"sys/fs/cgroup/misc\.capacity", reduce.misc, "the row tdx"),
        File("sys/devices/faux/tdx_host/version", reduce.matching(r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,5}")),
        File("sys/class/dmi/id/bios_version", reduce.matching(FIRMWARE_VERSION.pattern)),
        File("sys/class/dmi/id/product_name", reduce.matching(r"[A-Za-z0-9 ._()\[\]/+-]{1,64}")),
    ),
    required=True,
)
KERNEL_LOG: Source[KernelLog] = Source(
    LOG,
    None,
    (File(kmsg.PATH, handed_over="kmsg", privileged=True), File(ALL_LOG_PATHS.pattern)),
    required=True,
)
MEMBLOCK_RESERVED = Source(
    RESERVED,
    memblock.read_memblock_reserved,
    (File(memblock.RESERVED_PATH, reduce.memblock_rows, handed_over="memblock-reserved", privileged=True),),
    reported=False,
)
MEMORY_BLOCKS: Source[list[Range]] = Source(
    memory_blocks.SOURCE,
    None,
    (File(r"sys/devices/system/memory/memory[0-9]{1,9}/state", reduce.matching(r"[a-z-]{1,20}")),),
    reported=False,
)
HUGETLB = Source(
    "hugetlb",
    _value("hugetlb", "proc/meminfo", platform.read_hugetlb),
    (File("proc/meminfo", reduce.meminfo, "MemTotal and Hugetlb"),),
    reported=False,
)
HOST_NAME = Source(
    "hostname",
    _value("hostname", platform.HOST_NAME_PATH, platform.read_hostname),
    (
        File(platform.HOST_NAME_PATH, reduce.matching(r"[A-Za-z0-9._-]{1,253}"), "all, as was asked for"),
        File("sos_commands/host/hostname"),
    ),
    reported=False,
)
RELEASE = Source(
    "release",
    _value("release", platform.RELEASE_PATH, platform.read_release),
    (
        File(platform.RELEASE_PATH, reduce.matching(r"[0-9][A-Za-z0-9._+~-]{0,80}")),
        File(r"sos_commands/(?:kernel|host)/uname_-a"),
    ),
    reported=False,
)
BOOTS: Source[BootInventory] = Source(
    "boots",
    None,
    (
        File(BOOT_TEXTS, reduce.nothing, _IN_INVENTORY),
        File(r"\.snapshots/[0-9]{1,9}/info\.xml", reduce.nothing, _IN_INVENTORY),
        File(r"etc/fstab|etc/kernel/proxmox-boot-uuids|proc/self/mountinfo", reduce.nothing, _IN_INVENTORY),
        File(
            r"(?:boot|usr/lib/ostree-boot|(?:usr/)?lib/modules/[^/]+)/config(?:-[^/]+)?",
            reduce.nothing,
            _IN_INVENTORY,
        ),
        File(r"(?:etc|run|(?:usr/(?:local/)?)?lib)/modprobe\.d/[^/]+\.conf", reduce.nothing, _IN_INVENTORY),
        File(r"etc/machine-id|proc/version", reduce.nothing, _IN_INVENTORY),
        File(r"sys/kernel/kexec(?:/|_)loaded", reduce.nothing, _IN_INVENTORY),
        File(r"sys/hypervisor/(?:type|guest_type)", reduce.nothing, _IN_INVENTORY),
        File(INVENTORY_PATH, reduce.inventory, "boot entries: kernels, and arguments about memory and TDX"),
    ),
    names=(Names(BOOT_NAMES),),
    reported=False,
)
RECORDS: Source[tuple[BootRecord, ...]] = Source(
    "boot-records",
    None,
    (File(re.escape(RECORDS_PATH), reduce.records, _RECORDS_KEPT),),
    reported=False,
)

SOURCES: tuple[Source[Any], ...] = (
    *(MEMBLOCK, IOMEM, FIRMWARE, NODES, ZONEINFO, PLATFORM, KERNEL_LOG),
    *(MEMBLOCK_RESERVED, MEMORY_BLOCKS, CPU_NODES, HUGETLB, HOST_NAME, RELEASE, BOOTS, RECORDS),
)
"""All of them, in the order in which they are reported."""

_NAMES = tuple(names for source in SOURCES for names in source.names)
_FILES = tuple(file for source in SOURCES for file in source.files)

HANDED_OVER = {file.handed_over: file.path for file in _FILES if file.handed_over}
"""The path, relative to the host's root, that each name of a descriptor stands for."""

PRIVILEGED = tuple(sorted(file.handed_over for file in _FILES if file.privileged and file.handed_over))
"""Files that only root can open, or (``/proc/iomem``) that show zeros to everybody else."""


# Compiled when they are first asked for: what serves the running host never does.
@cache
def _texts() -> re.Pattern[str]:
    return re.compile("|".join(file.path for file in _FILES), re.ASCII)


@cache
def _names() -> re.Pattern[str]:
    return re.compile("|".join(f"({names.path})" for names in _NAMES), re.ASCII)


def _kind_of(path: str) -> NameKind | None:
    match = _names().fullmatch(path)
    return None if match is None or match.lastindex is None else _NAMES[match.lastindex - 1].kind


SELECTION = Selection(
    text=lambda path: _texts().fullmatch(path) is not None,
    name=_kind_of,
    limit=lambda path: MAX_LOG if ALL_LOG_PATHS.fullmatch(path) else MAX_FILE,
)
"""What is read of a host: of an archive no other file is looked at."""


def reduce_file(path: str, text: str) -> tuple[str | None, str]:
    """What a capture keeps of a file, and that in words; None when it must not be in a capture."""
    for file in _FILES:
        if file.reduce and re.fullmatch(file.path, path, re.ASCII):
            try:
                return file.reduce(text), file.kept
            except SourceError as error:
                # A parser that refuses it here will miss it there: the plan stays the same.
                return None, f"left out: {error.reason}"
    return None, "left out: not known to be free of private things"
