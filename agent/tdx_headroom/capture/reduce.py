# SPDX-License-Identifier: Apache-2.0
"""Each file of a host without anything private: what the agent's parser needs of it, written anew.

There is one function a file and none for files in general: a path that has none does not get into a capture.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import SourceError
from tdx_headroom.sources import firmware_memmap, iomem, memblock, zoneinfo
from tdx_headroom.sources.platform import (
    parse_boot_time,
    parse_cpuinfo,
    parse_hugetlb,
    parse_meminfo_total,
    parse_misc_capacity,
    relevant_arguments,
)
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

NO_BOOT = "00000000-0000-0000-0000-000000000000"

_IOMEM_KEPT = re.compile(
    r"System RAM(?: \([A-Za-z0-9_.]{1,40}\))?|Crash kernel|[Rr]eserved|ACPI Tables"
    r"|ACPI Non-volatile Storage|Persistent Memory(?: \(legacy\))?|Soft Reserved|Unusable memory"
)
_FIRMWARE_TYPE = re.compile(r"[A-Za-z][A-Za-z ()-]{0,40}")
_FLAGS = ("fpu", "vmx", "svm", "hypervisor", "tme", "tdx_host_platform", "tdx_guest")
_BUGS = ("tdx_pw_mce",)
_ZONEINFO_KEPT = re.compile(
    r"Node [0-9]{1,5}, zone +[A-Za-z0-9]{1,20}| +(?:spanned|present) +[0-9]{1,15}| +start_pfn: +[0-9]{1,15}"
)


class Reduction(NamedTuple):
    """How a file is reduced.

    Args:
        pattern: of its path.
        kept: what stays of it, for the manifest.
        reduce: from its text to what stays; None when nothing may.
    """

    pattern: re.Pattern[str]
    kept: str
    reduce: Callable[[str], str | None]


def reduce_file(path: str, text: str) -> tuple[str | None, str]:
    """What stays of a file, and that in words; None when the file must not be in a capture."""
    for pattern, kept, reduce in _REDUCTIONS:
        if pattern.fullmatch(path):
            try:
                return reduce(text), kept
            except SourceError as error:
                # A parser that refuses it here will miss it there: the plan stays the same.
                return None, f"left out: {error.reason}"
    return None, "left out: not known to be free of private things"


def _iomem(text: str) -> str:
    try:
        rows = iomem.parse_iomem(text)
    except SourceError:
        if _all_zero(text):
            return "00000000-00000000 : System RAM\n"
        raise
    return "".join(
        f"{'  ' * row.depth}{row.start:08x}-{row.end - 1:08x} : {row.name}\n"
        for row in rows
        if _IOMEM_KEPT.fullmatch(row.name)
    )


def _all_zero(text: str) -> bool:
    return bool(text) and all(re.match(r" *0+-0+ : ", line) for line in lines_of(text))


def _memblock(text: str) -> str:
    memblock.parse_memblock(text)
    return text


def _firmware_address(text: str) -> str:
    firmware_memmap.parse_firmware_entry("entry", "0x0", text, "")
    return text


def _firmware_type(text: str) -> str:
    """What is RAM and what is not has to stay, whatever the kernel calls it."""
    return text if _FIRMWARE_TYPE.fullmatch(text.strip()) else "another type\n"


def _zoneinfo(text: str) -> str:
    zoneinfo.parse_zoneinfo(text)
    return "".join(f"{line}\n" for line in lines_of(text) if _ZONEINFO_KEPT.fullmatch(line))


def _cpuinfo(text: str) -> str:
    model, cpus, flags, bugs = parse_cpuinfo(text)
    lines = [f"processor\t: {i}" for i in range(cpus)]
    if model is not None:
        lines.append(f"model name\t: {model[:80]}")
    if flags:
        lines.append(f"flags\t\t: {' '.join(flag for flag in _FLAGS if flag in flags) or 'other'}")
    lines.append(f"bugs\t\t: {' '.join(bug for bug in _BUGS if bug in bugs)}")
    return "".join(f"{line}\n" for line in lines)


def _meminfo(text: str) -> str:
    rows = (("MemTotal", parse_meminfo_total(text)), ("Hugetlb", parse_hugetlb(text)))
    return "".join(f"{name}: {size // 1024} kB\n" for name, size in rows if size is not None)


def _stat(text: str) -> str:
    btime = parse_boot_time(text)
    return "" if btime is None else f"btime {int(btime)}\n"


def _misc(text: str) -> str:
    capacity = parse_misc_capacity(text)
    return "" if capacity is None else f"tdx {capacity}\n"


def _command_line(text: str) -> str:
    return " ".join(relevant_arguments(text)) + "\n"


def _matching(pattern: str) -> Callable[[str], str | None]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: text if compiled.fullmatch(text.strip()) else None


_REDUCTIONS = tuple(
    Reduction(re.compile(pattern), kept, reduce)
    for pattern, kept, reduce in (
        (r"proc/iomem", "rows of memory; no devices, no rows of the kernel's image", _iomem),
        (r"sys/kernel/debug/memblock/(?:memory|reserved)", "all", _memblock),
        (r"sys/firmware/memmap/[0-9]+/(?:start|end)", "all", _firmware_address),
        (r"sys/firmware/memmap/[0-9]+/type", "all", _firmware_type),
        (r"proc/zoneinfo", "where each zone lies", _zoneinfo),
        (r"proc/cpuinfo", "model, number of CPUs, flags and bugs about TDX and virtualization", _cpuinfo),
        (r"proc/meminfo", "MemTotal and Hugetlb", _meminfo),
        (r"proc/stat", "the time of the boot", _stat),
        (r"proc/cmdline", "arguments about memory, TDX and hibernation", _command_line),
        (r"proc/sys/kernel/osrelease", "all", _matching(r"[0-9][A-Za-z0-9._+~-]{0,80}")),
        (r"proc/sys/kernel/hostname", "all, as was asked for", _matching(r"[A-Za-z0-9._-]{1,253}")),
        (r"proc/sys/kernel/random/boot_id", "nothing: it is all zeros", lambda _text: NO_BOOT + "\n"),
        (r"sys/devices/system/memory/block_size_bytes", "all", _matching(r"[0-9a-f]{1,16}")),
        (r"sys/devices/system/memory/memory[0-9]+/state", "all", _matching(r"[a-z-]{1,20}")),
        (
            r"sys/module/(?:kvm_intel/parameters/tdx|kvm/parameters/enable_virt_at_load)",
            "all",
            _matching(r"[YN01]"),
        ),
        (r"sys/power/disk", "all", _matching(r"[a-z_ \[\]]{1,80}")),
        (r"sys/fs/cgroup/misc\.capacity", "the row tdx", _misc),
        (r"sys/devices/faux/tdx_host/version", "all", _matching(r"[0-9]{1,5}(?:\.[0-9]{1,5}){1,5}")),
        (r"sys/class/dmi/id/bios_version", "all", _matching(r"[A-Za-z0-9 ._()\[\]/-]{1,64}")),
    )
)
