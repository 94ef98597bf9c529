# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.kernel_images import RELEASE, bzimage

from tdx_headroom.boots.kernels.image import MAX_HEAD, parse_head, read_head, read_version
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]


def release_of(root: Root, path: str, *, offset: int = 0) -> str | None:
    version = read_version(root, path, offset=offset)
    return None if version is None else version.partition(" ")[0]


@pytest.mark.parametrize(
    "release", [RELEASE, "6.12.117+deb12-amd64", "5.14.0-570.el9_6.x86_64", "7.3.0-rc1~x"]
)
def test_release(release: str) -> None:
    """The release is the first word of the version, and the payload is where the kernel looks for it."""
    head = parse_head(bzimage(b"x" * 10, release=release))
    assert (head.payload, head.length) == (5 * 512 + 700, 10)
    assert head.version is not None
    assert head.version.startswith(f"{release} (")


def test_no_count_of_sectors() -> None:
    """No sectors of setup code means four, as in the time of floppy disks."""
    data = bytearray(bzimage(b"x" * 10))
    data[0x1F1] = 0
    assert parse_head(bytes(data)).payload == 5 * 512 + 700


def test_old_protocol() -> None:
    """An image of before 2.08 has a version and tells no payload."""
    head = parse_head(bzimage(b"x" * 10, version=0x207))
    assert (head.version or "").startswith(f"{RELEASE} (")
    assert (head.payload, head.length) == (None, 0)


@pytest.mark.parametrize("pointer", [0, 4 * 512, 0xFFFF])
def test_version_outside_of_the_setup_code(pointer: int) -> None:
    """A pointer that leads out of the setup code leads to no version."""
    data = bytearray(bzimage(b"x" * 5000))
    struct.pack_into("<H", data, 0x20E, pointer)
    assert parse_head(bytes(data)).version is None


@pytest.mark.parametrize(
    "text", [b" 6.1\0", b"\0", b"../../etc/passwd (x)\0", b"6.1\xff\0", b"6.1\n2\0", b"6.1" * 300]
)
def test_no_release(text: bytes) -> None:
    """What cannot be a release, and part of a file's name, is none."""
    data = bytearray(bzimage(b"x" * 5000))
    data[0x300 : 0x300 + len(text)] = text
    assert parse_head(bytes(data)).version is None


@pytest.mark.parametrize("size", [0, 1, 0x1FF, 0x202, 0x205, 0x206, 0x24F])
def test_cut_short(size: int) -> None:
    """An image that ends in its header is cut short."""
    with pytest.raises(SourceError, match="it is cut short"):
        parse_head(bzimage(b"")[:size])


def test_no_image() -> None:
    """A file without the magic number is no bzImage."""
    with pytest.raises(SourceError, match="no HdrS at 0x202"):
        parse_head(b"MZ" + bytes(4096))


def test_every_damaged_byte() -> None:
    """Whatever byte of the header is wrong, there is a head or a reason."""
    whole = bzimage(b"x" * 100)
    for place in range(0x1F0, 0x250):
        for value in (0, 0x7F, 0xFF):
            data = bytearray(whole)
            data[place] = value
            try:
                parse_head(bytes(data))
            except SourceError as error:
                assert error.reason  # noqa: PT017  either will do


def test_only_the_head_is_read(host_tree: HostTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an image of any size not more than its head is read."""
    root = host_tree({"boot/vmlinuz": bzimage(b"x" * (1 << 20))})
    read: list[int] = []
    pread = os.pread

    def count(fd: int, size: int, offset: int) -> bytes:
        data = pread(fd, size, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", count)
    assert release_of(root, "boot/vmlinuz") == RELEASE
    assert sum(read) <= MAX_HEAD


def test_inside_another_file(host_tree: HostTree) -> None:
    """An image inside a unified kernel image is read from where it begins."""
    root = host_tree({"efi/x.efi": b"MZ" + bytes(1000) + bzimage(b"x" * 10)})
    assert release_of(root, "efi/x.efi", offset=1002) == RELEASE
    assert release_of(root, "efi/x.efi") is None


def test_missing_and_no_file(host_tree: HostTree) -> None:
    """What is missing, a directory, or empty has no release, and a reason."""
    root = host_tree({"boot/empty": b""})
    for path, reason in (("boot/no", "No such file"), ("boot", "not a regular"), ("boot/empty", "cut short")):
        assert release_of(root, path) is None
        with pytest.raises(SourceError, match=reason):
            read_head(root, path)


@pytest.mark.parametrize("offset", [-1, 1 << 70])
def test_impossible_offset(host_tree: HostTree, offset: int) -> None:
    """An offset that no file has is an error like others."""
    root = host_tree({"boot/vmlinuz": bzimage(b"x" * 10)})
    assert release_of(root, "boot/vmlinuz", offset=offset) is None
