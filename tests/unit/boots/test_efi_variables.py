# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.efi import disk_path, load_option, network_path, node, numbers, variable

from tdx_headroom.boots.firmware.efi_variables import (
    DevicePath,
    parse_device_path,
    parse_load_option,
    parse_number,
    parse_numbers,
    parse_text,
    parse_texts,
    parse_value,
    read_value,
)
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]


def test_a_boot_option_tells_file_and_data() -> None:
    """Description, file and the load options come out of a Boot#### variable."""
    option = parse_load_option(load_option("debian", disk_path(r"\EFI\debian\shimx64.efi"), data=b"\1\2"))
    assert option.description == "debian"
    assert option.path == DevicePath(r"\EFI\debian\shimx64.efi")
    assert option.data == b"\1\2"
    assert option.boots


def test_inactive_options_and_applications_do_not_boot_unasked() -> None:
    """Only an active option of the boot category is tried by itself."""
    path = disk_path(r"\a.efi")
    assert not parse_load_option(load_option("off", path, attributes=0)).boots
    assert not parse_load_option(load_option("app", path, attributes=0x101)).boots
    assert parse_load_option(load_option("hidden", path, attributes=0x9)).boots


def test_a_network_path_is_told_as_one() -> None:
    """MAC and IP nodes are the network."""
    assert parse_device_path(network_path()).network


def test_firmware_and_bios_paths_are_told() -> None:
    """Programs inside the firmware, and BIOS boots, are no files on a disk."""
    assert parse_device_path(node(4, 7, bytes(16)) + node(4, 6, bytes(16))).firmware
    assert parse_device_path(node(5, 1, bytes(8))).legacy


def test_a_file_path_in_pieces_is_joined() -> None:
    """The nodes of one path are one path, with one backslash at the seam."""
    pieces = [(text + "\0").encode("utf-16-le") for text in ("\\EFI\\", "\\debian", "grubx64.efi")]
    assert parse_device_path(b"".join(node(4, 4, one) for one in pieces)).file == r"\EFI\debian\grubx64.efi"


def test_lists_and_numbers() -> None:
    """BootOrder is a list, BootNext one number, LoaderEntries texts."""
    assert parse_numbers(numbers(1, 0x2A, 0xFFFF)) == (1, 0x2A, 0xFFFF)
    assert parse_number(numbers(7)) == 7
    assert parse_texts("a.conf\0b.efi\0".encode("utf-16-le")) == ("a.conf", "b.efi")
    assert parse_text("ab\0rest".encode("utf-16-le")) == "ab"


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (parse_value, b"\7\0\0"),
        (parse_text, b"a"),
        (parse_text, b"\0\xd8a\0"),
        (parse_texts, b"abc"),
        (parse_numbers, b"\1"),
        (parse_number, b""),
        (parse_number, b"\1\0\2\0"),
        (parse_load_option, b"\1\0\0\0\4"),
        (parse_load_option, b"\1\0\0\0\4\0a\0b\0"),
        (parse_load_option, load_option("x", disk_path("a"))[:30]),
        (parse_device_path, b"\4\4"),
        (parse_device_path, b"\4\4\3\0"),
        (parse_device_path, b"\4\4\xff\xff"),
        (parse_device_path, node(4, 4) * 300),
    ],
)
def test_damaged_values_give_a_reason(parse: Callable[[bytes], object], value: bytes) -> None:
    """What is cut off or does not fit is told, not guessed."""
    with pytest.raises(SourceError):
        parse(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_option_or_a_reason(value: bytes) -> None:
    """No boot option raises anything else than its reason."""
    with contextlib.suppress(SourceError):
        assert parse_load_option(value).description.isprintable()


def test_variables_are_read_without_their_attributes(host_tree: HostTree) -> None:
    """A missing and an empty variable are not set; one that is too short has a reason."""
    root = host_tree(
        {
            **variable("BootNext", numbers(3)),
            "sys/firmware/efi/efivars/Empty-8be4df61-93ca-11d2-aa0d-00e098032b8c": b"",
            "sys/firmware/efi/efivars/Short-8be4df61-93ca-11d2-aa0d-00e098032b8c": b"\7",
        }
    )
    assert read_value(root, "BootNext") == numbers(3)
    assert read_value(root, "Empty") is None
    assert read_value(root, "Missing") is None
    with pytest.raises(SourceError):
        read_value(root, "Short")
