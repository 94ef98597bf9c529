# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.sources.firmware_memmap import (
    firmware_ram,
    parse_entries,
    parse_firmware_entry,
    read_firmware_memmap,
    with_entries,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

FOLDER = "sys/firmware/memmap"


def entry(name: str, start: str, end: str, kind: str) -> dict[str, str | bytes]:
    return {
        f"{FOLDER}/{name}/start": start + "\n",
        f"{FOLDER}/{name}/end": end + "\n",
        f"{FOLDER}/{name}/type": kind + "\n",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "System RAM",
        "Reserved",
        "ACPI Tables",
        "ACPI Non-volatile Storage",
        "Persistent Memory",
        "Soft Reserved",
        "Unusable memory",
    ],
)
def test_entry(kind: str) -> None:
    """An entry keeps its type as the kernel names it, and its last address is part of it."""
    assert parse_firmware_entry("3", "0x100000\n", "0x5d168fff\n", f"{kind}\n") == (
        0x100000,
        0x5D169000,
        kind,
    )


def test_last_address_of_all() -> None:
    """An entry up to the last address of 64 bits ends at 2^64."""
    assert parse_firmware_entry("0", "0x0", "0xffffffffffffffff", "Reserved").end == 1 << 64


@pytest.mark.parametrize(
    "text", ["", "100000", "0x", "0xg", "0x10000000000000000", "0x1 0x2", "-0x1", "\\xff"]
)
@pytest.mark.parametrize("which", ["start", "end"])
def test_no_address(which: str, text: str) -> None:
    """A file without an address is named by entry and file."""
    texts = {"start": "0x0", "end": "0xffffffff", which: text}
    with pytest.raises(SourceError) as caught:
        parse_firmware_entry("7", texts["start"], texts["end"], "Reserved")
    assert caught.value.reason == f"7/{which} holds no address"
    assert caught.value.text == text


def test_entry_that_ends_before_it_starts() -> None:
    """An empty or inverted entry is refused."""
    with pytest.raises(SourceError) as caught:
        parse_firmware_entry("2", "0x1000\n", "0xfff\n", "Reserved\n")
    assert str(caught.value) == "firmware-memmap: 2 ends before it starts: '0x1000 0xfff'"


def test_ram_only() -> None:
    """Only System RAM is memory: neither soft-reserved nor persistent memory is."""
    ranges = [
        FirmwareRange(0, 0x1000, "System RAM"),
        FirmwareRange(0x1000, 0x2000, "Soft Reserved"),
        FirmwareRange(0x2000, 0x3000, "Persistent Memory"),
        FirmwareRange(0x3000, 0x4000, "System RAM"),
    ]
    assert firmware_ram(ranges) == [(0, 0x1000), (0x3000, 0x4000)]


def test_what_is_not_ram_wins() -> None:
    """Where entries overlap the kernel takes the memory away."""
    ranges = [
        FirmwareRange(0, 0x10000, "System RAM"),
        FirmwareRange(0x4000, 0x5000, "Reserved"),
        FirmwareRange(0xF000, 0x20000, "ACPI Tables"),
    ]
    assert firmware_ram(ranges) == [(0, 0x4000), (0x5000, 0xF000)]


def test_entries_come_in_the_order_of_their_numbers(host_tree: HostTree) -> None:
    """10 comes behind 2; hot-added memory, which gets the last number, comes behind all."""
    files: dict[str, str | bytes] = {}
    for number, start in (("0", 0x5000), ("1", 0x0), ("2", 0x3000), ("10", 0x1000), ("11", 0x2000)):
        files |= entry(number, f"{start:#x}", f"{start + 0xFFF:#x}", "System RAM")
    value = read_firmware_memmap(host_tree(files)).value
    assert value is not None
    assert [r.start for r in value] == [0x5000, 0, 0x3000, 0x1000, 0x2000]


def test_list_of_a_capture(host_tree: HostTree) -> None:
    """One file stands for three an entry, in the order of the numbers; all else stays."""
    files = {
        **entry("0", "0x0", "0x9efff", "System RAM"),
        **entry("2", "0x100000", "0x1fffff", "ACPI Non-volatile Storage"),
        **entry("10", "0x9f000", "0xfffff", "Reserved"),
    }
    texts = {path: str(text) for path, text in files.items()}
    listed = with_entries({**texts, "proc/iomem": "x", f"{FOLDER}/3/other": "y"}, readable=True)
    assert listed == {
        "proc/iomem": "x",
        f"{FOLDER}/3/other": "y",
        f"{FOLDER}/entries": "0 0x0 0x9efff System RAM\n2 0x100000 0x1fffff ACPI Non-volatile Storage\n"
        "10 0x9f000 0xfffff Reserved\n",
    }
    captured = read_firmware_memmap(host_tree({f"{FOLDER}/entries": listed[f"{FOLDER}/entries"]}))
    assert captured.value == read_firmware_memmap(host_tree(files)).value


@pytest.mark.parametrize("kind", ["System  RAM", "System\u00a0RAM", "System\nRAM", "", "Soft\tReserved"])
def test_a_type_that_a_row_cannot_have(kind: str) -> None:
    """What would be another type in a row stays a file each."""
    texts = {path: str(text) for path, text in entry("0", "0x0", "0xfff", kind).items()}
    assert with_entries(texts, readable=True) == texts


def test_a_map_that_cannot_be_read() -> None:
    """Its entries before the fault are no map; a list that is there already stays."""
    texts = {path: str(text) for path, text in entry("0", "0x0", "0xfff", "Reserved").items()}
    assert with_entries({**texts, "proc/iomem": "x"}, readable=False) == {"proc/iomem": "x"}
    listed = {f"{FOLDER}/entries": "0 0x0 0xfff Reserved\n"}
    assert with_entries(listed, readable=True) == with_entries(listed, readable=False) == listed


def test_two_entries_of_a_number() -> None:
    """017 is 17: of two such entries a list would have one."""
    files = entry("17", "0x0", "0xfff", "System RAM") | entry("017", "0x1000", "0x1fff", "Reserved")
    texts = {path: str(text) for path, text in files.items()}
    assert with_entries(texts, readable=True) == texts


@pytest.mark.parametrize("row", ["0 0x0 0xfff", "x 0x0 0xfff RAM", "0 0 0xfff RAM", " 0 0x0 0xf RAM", "0"])
def test_no_row(row: str) -> None:
    """A row has its number, two addresses with their prefix, and the type."""
    with pytest.raises(SourceError) as caught:
        parse_entries(f"0 0x0 0xfff System RAM\r\n{row}\n")
    assert (caught.value.reason, caught.value.line) == ("not a row `number start end type`", 2)


def test_other_names_in_the_folder(host_tree: HostTree) -> None:
    """What is not a numbered entry is no entry."""
    files = entry("0", "0x0", "0xfff", "System RAM")
    files |= {f"{FOLDER}/README": "x", f"{FOLDER}/\u0661/start": "x", f"{FOLDER}/-1/start": "x"}
    assert read_firmware_memmap(host_tree(files)).value == [(0, 0x1000, "System RAM")]


@pytest.mark.parametrize("part", ["start", "end", "type"])
def test_missing_part(host_tree: HostTree, part: str) -> None:
    """An entry with a file missing spoils the map: half a map would be a wrong one."""
    files = entry("0", "0x0", "0xfff", "System RAM") | entry("1", "0x1000", "0x1fff", "Reserved")
    del files[f"{FOLDER}/1/{part}"]
    root = host_tree(files)
    error = read_firmware_memmap(root).error
    assert str(error) == f"firmware-memmap: {root.path}/{FOLDER}/1/{part}: No such file or directory"


def test_empty_and_missing_folder(host_tree: HostTree) -> None:
    """A folder without entries and no folder are two different errors."""
    root = host_tree({})
    assert str(read_firmware_memmap(root).error).endswith("No such file or directory")
    root = host_tree({f"{FOLDER}/x": ""})
    assert str(read_firmware_memmap(root).error) == "firmware-memmap: the map is empty"
