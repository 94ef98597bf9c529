# SPDX-License-Identifier: Apache-2.0
"""``/proc/iomem``: the kernel's resource tree (kernel/resource.c, ``r_show()``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import Range, union
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.reading import Reading, attempt
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = MemorySource.IOMEM
PATH = "proc/iomem"

_ROW = re.compile(r"( *)([0-9a-f]{1,16})-([0-9a-f]{1,16}) :(?: (.*))?")
_KERNEL_IMAGE = re.compile(r"Kernel (code|rodata|data|bss)")


class IomemRow(NamedTuple):
    """One resource: ``[start, end)`` in bytes, its name, and how deep it lies in the tree."""

    start: int
    end: int
    name: str
    depth: int

    @property
    def is_ram(self) -> bool:
        """``System RAM``, hot-added memory included (``System RAM (kmem)``, ``System RAM (virtio_mem)``)."""
        return self.name == "System RAM" or self.name.startswith("System RAM (")


def parse_iomem(text: str) -> list[IomemRow]:
    """The rows of the file, in its order, without those that tell where the kernel itself lies.

    Rows of the kernel's image would reveal its random base, and split no memory: they go here, at once.

    Raises:
        SourceError: a row is malformed, or every address is zero, which is what a reader without
            CAP_SYS_ADMIN sees.
    """
    rows = []
    seen = 0
    for number, line in enumerate(lines_of(text), 1):
        match = _ROW.fullmatch(line.rstrip())
        if match is None:
            raise SourceError(SOURCE, "not a row `start-end : name`", line=number, text=line)
        indent, start, last, name = match.groups()
        seen += 1
        # A driver may give a resource an empty name.
        row = IomemRow(int(start, 16), int(last, 16) + 1, name or "", len(indent) // 2)
        if row.end <= row.start:
            raise SourceError(SOURCE, "range ends before it starts", line=number, text=line)
        if not _KERNEL_IMAGE.fullmatch(row.name):
            rows.append(row)
    if seen and all(row.end == 1 for row in rows):
        raise SourceError(
            SOURCE,
            "not privileged: every address is zero",
            hint="run as root, or let systemd open the file (OpenFile=): its opener needs CAP_SYS_ADMIN",
        )
    if not any(row.is_ram for row in rows):
        raise SourceError(SOURCE, "no System RAM in it")
    return rows


def system_ram(rows: Iterable[IomemRow]) -> list[Range]:
    """System RAM at any depth; touching rows are one range, as they are in memblock."""
    return union((row.start, row.end) for row in rows if row.is_ram)


def crash_kernel(rows: Iterable[IomemRow]) -> list[Range]:
    """Memory that is kept for a crash kernel."""
    return union((row.start, row.end) for row in rows if row.name == "Crash kernel")


def read_iomem(root: HostFiles) -> Reading[list[IomemRow]]:
    """Read and parse the file."""
    return attempt(SOURCE, root.locate(PATH), lambda: parse_iomem(root.read(SOURCE, PATH)))
