# SPDX-License-Identifier: Apache-2.0
"""Each file of a host without anything private: what the agent's parser needs of it, written anew.

Each takes a file's text, and raises what the file's parser raises; None where nothing of it may stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_inventory import parse_inventory, redacted, write_inventory
from tdx_headroom.facts.record_file import parse_records, write_records
from tdx_headroom.facts.record_file import redacted as redacted_record
from tdx_headroom.sources import firmware_memmap, iomem, memblock, nodes, zoneinfo
from tdx_headroom.sources.platform import (
    CAPTURED_FLAGS,
    flags_are_whole,
    parse_address_bits,
    parse_boot_time,
    parse_cpuinfo,
    parse_hugetlb,
    parse_meminfo_total,
    parse_misc_capacity,
    processor,
    relevant_arguments,
)
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

_IOMEM_KEPT = re.compile(
    r"System RAM(?: \([A-Za-z0-9_.]{1,40}\))?|Crash kernel|[Rr]eserved|ACPI Tables"
    r"|CXL Window [0-9]{1,4}|region[0-9]{1,4}|dax[0-9]{1,4}\.[0-9]{1,4}"
    r"|ACPI Non-volatile Storage|Persistent Memory(?: \(legacy\))?|Soft Reserved|Unusable memory"
)
_FIRMWARE_TYPE = re.compile(r"[A-Za-z][A-Za-z ()-]{0,40}")
_BUGS = ("tdx_pw_mce",)
_ZONEINFO_KEPT = re.compile(
    r"Node [0-9]{1,5}, zone +[A-Za-z0-9]{1,20}| +(?:spanned|present) +[0-9]{1,15}| +start_pfn: +[0-9]{1,15}"
)


def nothing(text: str) -> None:
    """Nothing: what of it matters is kept elsewhere."""


def inventory(text: str) -> str:
    """An inventory of boot entries without what names a machine."""
    return write_inventory(redacted(parse_inventory(text)))


def records(text: str) -> str:
    """Records of boots without what names a machine."""
    return write_records(redacted_record(record, relevant_arguments) for record in parse_records(text))


def iomem_rows(text: str) -> str:
    """Rows of memory: no devices, no rows of the kernel's image."""
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


def memblock_rows(text: str) -> str:
    """All, once it has been seen to be nothing else."""
    memblock.parse_memblock(text)
    return text


def firmware_address(text: str) -> str:
    """All of an address."""
    firmware_memmap.parse_firmware_entry("entry", "0x0", text, "")
    return text


def firmware_type(text: str) -> str:
    """What is RAM and what is not has to stay, whatever the kernel calls it."""
    return text if _FIRMWARE_TYPE.fullmatch(text.strip()) else "another type\n"


def firmware_entries(text: str) -> str:
    """All rows, types as in :func:`firmware_type`."""
    firmware_memmap.parse_entries(text)
    rows = (line.split(" ", 3) for line in lines_of(text))
    return "".join(
        f"{number} {start} {end} {firmware_type(kind).strip()}\n" for number, start, end, kind in rows
    )


def block_list(text: str) -> str:
    """All, once it has been seen to be nothing else.

    A node without its list would pass for one without memory.
    """
    try:
        nodes.parse_blocks(text)
    except SourceError:
        return "unreadable\n"
    return text


def zones(text: str) -> str:
    """Where each zone lies."""
    zoneinfo.parse_zoneinfo(text)
    return "".join(f"{line}\n" for line in lines_of(text) if _ZONEINFO_KEPT.fullmatch(line))


def cpuinfo(text: str) -> str:
    """Model, number of CPUs, flags and bugs about TDX and virtualization."""
    model, cpus, flags, bugs = parse_cpuinfo(text)
    lines = [f"processor\t: {i}" for i in range(cpus)]
    first = processor(text)
    lines += [f"{key}\t: {first[key][:20]}" for key in ("vendor_id", "cpu family", "model") if first.get(key)]
    if (bits := parse_address_bits(text)) is not None:
        lines.append(f"address sizes\t: {bits} bits physical, - bits virtual")
    if model is not None:
        lines.append(f"model name\t: {model[:80]}")
    rows = [f"bugs\t\t: {' '.join(bug for bug in _BUGS if bug in bugs)}"]
    if flags:
        # By the row behind them it is told that they are all there are.
        place = 0 if flags_are_whole(text, flags) else 1
        kept = " ".join(flag for flag in CAPTURED_FLAGS if flag in flags) or "other"
        rows.insert(place, f"flags\t\t: {kept}")
    lines += rows
    return "".join(f"{line}\n" for line in lines)


def meminfo(text: str) -> str:
    """Memory, and what of it is in huge pages."""
    rows = (("MemTotal", parse_meminfo_total(text)), ("Hugetlb", parse_hugetlb(text)))
    return "".join(f"{name}: {size // 1024} kB\n" for name, size in rows if size is not None)


def stat(text: str) -> str:
    """The time of the boot."""
    btime = parse_boot_time(text)
    return "" if btime is None else f"btime {int(btime)}\n"


def no_boot(_text: str) -> str:
    """Nothing of a boot's id but its form."""
    return "00000000-0000-0000-0000-000000000000\n"


def misc(text: str) -> str:
    """The row of the guests' KeyIDs."""
    capacity = parse_misc_capacity(text)
    return "" if capacity is None else f"tdx {capacity}\n"


def command_line(text: str) -> str:
    """Arguments about memory, TDX and hibernation."""
    return " ".join(relevant_arguments(text)) + "\n"


def matching(pattern: str) -> Callable[[str], str | None]:
    """All of a text that a pattern matches."""
    return lambda text: text if re.fullmatch(pattern, text.strip(), re.ASCII) else None
