# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.address import page_round
from tdx_headroom.errors import SourceError
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.iomem import IomemRow, parse_iomem, read_iomem, system_ram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

HOST = """\
00000000-00000fff : Reserved
00001000-0009ffff : System RAM
000a0000-000fffff : Reserved
  000a0000-000bffff : PCI Bus 0000:00
00100000-5d168fff : System RAM
  01000000-01ffffff : Kernel code
  02000000-029fffff : Kernel rodata
  02a00000-02c1d0ff : Kernel data
  0309b000-035fffff : Kernel bss
5d169000-5d22afff : ACPI Tables
100000000-107fffffff : System RAM
"""


def test_inclusive_ends_become_exclusive() -> None:
    """A row's last address is part of it, so the range ends one byte later."""
    assert parse_iomem("00001000-0009ffff : System RAM\n") == [IomemRow(0x1000, 0xA0000, "System RAM", 0)]


def test_ram_of_a_host() -> None:
    """The System RAM rows, and only they, are the host's memory."""
    assert system_ram(parse_iomem(HOST)) == [
        (0x1000, 0xA0000),
        (0x100000, 0x5D169000),
        (0x1_0000_0000, 0x10_8000_0000),
    ]


def test_rows_of_the_kernel_image_are_dropped() -> None:
    """Nothing that the parser gives tells where the kernel's image lies."""
    rows = parse_iomem(HOST)
    assert not [row for row in rows if row.name.startswith("Kernel")]
    assert 0x1000000 not in {address for row in rows for address in row[:2]}
    assert len(rows) == 7


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("name", ["System RAM", "System RAM (kmem)", "System RAM (virtio_mem)"])
def test_ram_at_any_depth(name: str, depth: int) -> None:
    """Hot-added memory counts however deep it lies below its device."""
    parents = [f"{'  ' * i}2000000000-2fffffffff : parent{i}" for i in range(depth)]
    text = "\n".join([*parents, f"{'  ' * depth}2000000000-20ffffffff : {name}"])
    rows = parse_iomem(text)
    assert rows[-1].depth == depth
    assert system_ram(rows) == [(0x20_0000_0000, 0x21_0000_0000)]


@pytest.mark.parametrize(
    "name", ["System RAMBUS", "System ROM", "Soft Reserved", "dax0.0", "Persistent Memory"]
)
def test_other_names_are_no_ram(name: str) -> None:
    """A name that only begins like System RAM, or memory that is not given to the kernel, is no RAM."""
    rows = parse_iomem(f"00100000-001fffff : System RAM\n00300000-003fffff : {name}\n")
    assert system_ram(rows) == [(0x100000, 0x200000)]


def test_a_resource_may_have_no_name() -> None:
    """A driver's resource with an empty name is a row like any other."""
    rows = parse_iomem("00001000-0009ffff : System RAM\nfed10000-fed17fff : \n")
    assert rows[1] == IomemRow(0xFED10000, 0xFED18000, "", 0)


def test_byte_granular_neighbours_are_joined_before_rounding() -> None:
    """RAM that is split inside a page stays whole: rounding each part would lose pages."""
    text = """\
00100000-3916f01f : System RAM
3916f020-3919e05f : System RAM
3919e060-3919f01f : System RAM
"""
    ram = system_ram(parse_iomem(text))
    assert ram == [(0x100000, 0x3919F020)]
    assert page_round(ram) == [(0x100000, 0x3919F000)]


def test_gap_of_one_byte_is_kept() -> None:
    """Rows that do not quite touch stay apart."""
    ram = system_ram(parse_iomem("00001000-00001ffe : System RAM\n00002000-00002fff : System RAM\n"))
    assert ram == [(0x1000, 0x1FFF), (0x2000, 0x3000)]


def test_whole_address_space() -> None:
    """A range up to the last address of 64 bits ends at 2^64."""
    rows = parse_iomem("0000000000000000-ffffffffffffffff : PCI mem\n00001000-00001fff : System RAM\n")
    assert rows[0][:2] == (0, 1 << 64)


def test_all_zero_is_no_map() -> None:
    """What the kernel shows to an unprivileged opener is an error that says what to do."""
    masked = "".join(f"00000000-00000000 : {line.split(' : ')[1]}\n" for line in HOST.splitlines())
    with pytest.raises(SourceError) as caught:
        parse_iomem(masked)
    assert caught.value.reason == "not privileged: every address is zero"
    assert caught.value.line is None
    assert "CAP_SYS_ADMIN" in str(caught.value)


def test_one_row_of_zeros_is_fine() -> None:
    """A single byte at address zero does not make the whole file masked."""
    rows = parse_iomem("00000000-00000000 : Reserved\n00001000-00001fff : System RAM\n")
    assert system_ram(rows) == [(0x1000, 0x2000)]


@pytest.mark.parametrize("text", ["", "000a0000-000fffff : Reserved\n"], ids=["empty", "other-rows-only"])
def test_no_ram(text: str) -> None:
    """A map without System RAM is an error, not a host without memory."""
    with pytest.raises(SourceError) as caught:
        parse_iomem(text)
    assert str(caught.value) == "iomem: no System RAM in it"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("garbage", "not a row `start-end : name`"),
        ("", "not a row `start-end : name`"),
        ("00001000-00001fff System RAM", "not a row `start-end : name`"),
        ("00001000 : System RAM", "not a row `start-end : name`"),
        ("0x1000-0x1fff : System RAM", "not a row `start-end : name`"),
        ("-1000-1fff : System RAM", "not a row `start-end : name`"),
        ("\t00001000-00001fff : System RAM", "not a row `start-end : name`"),
        ("10000000000000000-10000000000000fff : System RAM", "not a row `start-end : name`"),
        ("\u0661000-\u0661fff : System RAM", "not a row `start-end : name`"),
        ("00002000-00001fff : System RAM", "range ends before it starts"),
        ("00002000-00000fff : Reserved", "range ends before it starts"),
    ],
)
def test_malformed_row(line: str, reason: str) -> None:
    """A row that cannot be read is named with its number and text."""
    with pytest.raises(SourceError) as caught:
        parse_iomem(f"00001000-00001fff : System RAM\n{line}\n00003000-00003fff : System RAM\n")
    error = caught.value
    assert (error.source, error.line, error.reason, error.text) == ("iomem", 2, reason, line)
    assert str(error).startswith(f"iomem line 2: {reason}: ")


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("\n", "\r\n"), lambda t: t.rstrip("\n")], ids=["crlf", "cut"]
)
def test_line_ends_do_not_matter(change: Callable[[str], str]) -> None:
    """CRLF and a missing last line break give the same rows."""
    assert parse_iomem(change(HOST)) == parse_iomem(HOST)


def test_reading_names_its_origin(host_tree: HostTree) -> None:
    """A reading tells which file it came from."""
    root = host_tree({"proc/iomem": HOST})
    reading = read_iomem(root)
    assert reading.error is None
    assert reading.value == parse_iomem(HOST)
    assert reading.origin == f"{root.path}/proc/iomem"


def test_missing_file_is_an_error(host_tree: HostTree) -> None:
    """Without the file there is no value, and the error says why."""
    root = host_tree({})
    reading = read_iomem(root)
    assert reading.value is None
    assert str(reading.error) == f"iomem: {root.path}/proc/iomem: No such file or directory"


def test_descriptor_is_read_from_its_start_each_time(tmp_path: Path) -> None:
    """A descriptor that was opened by somebody else gives the whole file again and again, as it is now."""
    path = tmp_path / "iomem"
    path.write_text(HOST)
    fd = os.open(path, os.O_RDONLY)
    try:
        root = Root(tmp_path, {"proc/iomem": fd})
        os.lseek(fd, 17, os.SEEK_SET)
        first = read_iomem(root)
        path.write_text(HOST + "1080000000-10bfffffff : System RAM\n")
        second = read_iomem(root)
    finally:
        os.close(fd)
    assert first.value == parse_iomem(HOST)
    assert second.value is not None
    assert len(second.value) == len(first.value) + 1


def test_this_machine() -> None:
    """The running kernel's own file is either read or refused for want of privilege."""
    reading = read_iomem(Root("/"))
    if reading.error is not None:
        assert "not privileged" in reading.error.reason or "Permission denied" in reading.error.reason
    else:
        assert reading.value is not None
        assert system_ram(reading.value)
