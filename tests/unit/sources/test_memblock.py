# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.memblock import (
    MemblockRegion,
    parse_memblock,
    read_memblock,
    read_memblock_reserved,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

MEMORY = "sys/kernel/debug/memblock/memory"
RESERVED = "sys/kernel/debug/memblock/reserved"

OLD = """\
   0: 0x0000000000001000..0x000000000009efff
   1: 0x0000000000100000..0x000000005d168fff
   2: 0x0000000100000000..0x000000107fffffff
"""
NEW = """\
   0: 0x0000000000001000..0x000000000009efff    0 NONE
   1: 0x0000000000100000..0x000000005d168fff    0 NONE
   2: 0x0000000100000000..0x000000107fffffff    1 HOTPLUG
"""


def test_old_format() -> None:
    """Before the node column there are ranges alone: nodes are unknown, flags none."""
    assert parse_memblock(OLD) == [
        MemblockRegion(0x1000, 0x9F000, None, ()),
        MemblockRegion(0x100000, 0x5D169000, None, ()),
        MemblockRegion(0x1_0000_0000, 0x10_8000_0000, None, ()),
    ]


def test_new_format() -> None:
    """With the node column each region has its node and its flags."""
    assert parse_memblock(NEW) == [
        MemblockRegion(0x1000, 0x9F000, 0, ()),
        MemblockRegion(0x100000, 0x5D169000, 0, ()),
        MemblockRegion(0x1_0000_0000, 0x10_8000_0000, 1, ("HOTPLUG",)),
    ]


@pytest.mark.parametrize(
    ("columns", "node", "flags"),
    [
        ("    0 NONE", 0, ()),
        ("    x NONE", None, ()),
        (" 1023 NONE", 1023, ()),
        ("    0 HOTPLUG|MIRROR", 0, ("HOTPLUG", "MIRROR")),
        ("    2 NOMAP", 2, ("NOMAP",)),
        ("    x DRV_MNG|KHO_SCRATCH", None, ("DRV_MNG", "KHO_SCRATCH")),
        ("    0 RSV_NIT|RSV_KERN|RSV_HUGETLB", 0, ("RSV_NIT", "RSV_KERN", "RSV_HUGETLB")),
        ("    0 UNKNOWN", 0, ("UNKNOWN",)),
        ("    0 A_FLAG_OF_TOMORROW|UNKNOWN|UNKNOWN", 0, ("A_FLAG_OF_TOMORROW", "UNKNOWN", "UNKNOWN")),
        ("    0 RSV_2M|HOTPLUG", 0, ("RSV_2M", "HOTPLUG")),
        ("    0 HOTPLUG ", 0, ("HOTPLUG",)),
        ("", None, ()),
    ],
)
def test_node_and_flags(columns: str, node: int | None, flags: tuple[str, ...]) -> None:
    """A node is a number or none, flags are names of any kind joined by bars."""
    rows = parse_memblock(f"   0: 0x0000000000001000..0x000000000009efff{columns}\n")
    assert rows == [MemblockRegion(0x1000, 0x9F000, node, flags)]


def test_touching_regions_stay_apart() -> None:
    """Regions that touch are not joined: each may cost a TDMR of its own."""
    text = """\
   0: 0x0000000000100000..0x000000003fffffff    0 NONE
   1: 0x0000000040000000..0x000000007fffffff    1 NONE
   2: 0x0000000080000000..0x00000000bfffffff    1 HOTPLUG
"""
    assert [r[:3] for r in parse_memblock(text)] == [
        (0x100000, 0x4000_0000, 0),
        (0x4000_0000, 0x8000_0000, 1),
        (0x8000_0000, 0xC000_0000, 1),
    ]


def test_regions_are_not_rounded_to_pages() -> None:
    """What the kernel rounds later comes raw from here."""
    rows = parse_memblock("   0: 0x0000000000001001..0x000000000009effe    0 NONE\n")
    assert rows == [MemblockRegion(0x1001, 0x9EFFF, 0, ())]


def test_index_wider_than_its_column() -> None:
    """Ten thousand regions and more are read although the index outgrows its four places."""
    text = "".join(f"{i:4d}: 0x{i << 13:016x}..0x{(i << 13) + 0xFFF:016x}    0 NONE\n" for i in range(10002))
    rows = parse_memblock(text)
    assert len(rows) == 10002
    assert rows[-1].start == 10001 << 13


def test_last_address_of_all() -> None:
    """A region up to the last address of 64 bits ends at 2^64."""
    rows = parse_memblock("   0: 0x0000000000001000..0xffffffffffffffff\n")
    assert rows[0].end == 1 << 64


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("\n", "\r\n"), lambda t: t.rstrip("\n")], ids=["crlf", "cut"]
)
def test_line_ends_do_not_matter(change: Callable[[str], str]) -> None:
    """CRLF and a missing last line break give the same regions."""
    assert parse_memblock(change(NEW)) == parse_memblock(NEW)
    assert parse_memblock(change(OLD)) == parse_memblock(OLD)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("   1: 0x100000..", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x100000-0x1fffff", "not a row `index: 0xstart..0xend`"),
        ("   1: 100000..1fffff", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x100000..0x1fffff 0", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x100000..0x1fffff NONE", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x100000..0x1fffff y NONE", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x100000..0x1fffff 0 HOTPLUG|", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x100000..0x1fffff 0 hotplug", "not a row `index: 0xstart..0xend`"),
        ("   1: 0x10000000000000000..0x10000000000000fff", "not a row `index: 0xstart..0xend`"),
        ("", "not a row `index: 0xstart..0xend`"),
        ("   2: 0x100000..0x1fffff", "row 1 is missing"),
        ("   0: 0x100000..0x1fffff", "row 1 is missing"),
        ("   1: 0x200000..0x1fffff", "region ends before it starts"),
        ("   1: 0x9efff..0x1fffff", "region overlaps the one before"),
        ("   1: 0x0..0xfff", "region overlaps the one before"),
        ("   1: 0x1000..0x9efff", "region overlaps the one before"),
    ],
)
def test_malformed_row(row: str, reason: str) -> None:
    """A row that memblock cannot have printed is named with its number and text."""
    with pytest.raises(SourceError) as caught:
        parse_memblock(f"   0: 0x0000000000001000..0x000000000009efff\n{row}\n")
    error = caught.value
    assert (error.source, error.line, error.reason, error.text) == ("memblock", 2, reason, row)


def test_list_without_its_head() -> None:
    """A list whose first row is missing is not taken for a whole one."""
    with pytest.raises(SourceError, match="row 0 is missing") as caught:
        parse_memblock(NEW.split("\n", 1)[1])
    assert caught.value.line == 1


def test_empty_file(host_tree: HostTree) -> None:
    """No region at all is an error: the running kernel has memory."""
    reading = read_memblock(host_tree({MEMORY: ""}))
    assert reading.value is None
    assert str(reading.error) == "memblock: the file is empty"


def test_reading(host_tree: HostTree) -> None:
    """Memory and reserved regions are read from their own files."""
    root = host_tree({MEMORY: NEW, RESERVED: OLD})
    memory, reserved = read_memblock(root), read_memblock_reserved(root)
    assert memory.value == parse_memblock(NEW)
    assert (memory.source, memory.origin) == ("memblock", f"{root.path}/{MEMORY}")
    assert reserved.value == parse_memblock(OLD)
    assert (reserved.source, reserved.origin) == ("memblock-reserved", f"{root.path}/{RESERVED}")


def test_error_in_the_reserved_list_names_that_list(host_tree: HostTree) -> None:
    """A malformed row of the reserved list is not blamed on the memory list."""
    reading = read_memblock_reserved(host_tree({RESERVED: "garbage\n"}))
    assert reading.error is not None
    assert reading.error.source == "memblock-reserved"


def test_missing_file(host_tree: HostTree) -> None:
    """A kernel without the file gives an error that names it."""
    root = host_tree({})
    assert str(read_memblock(root).error) == f"memblock: {root.path}/{MEMORY}: No such file or directory"
