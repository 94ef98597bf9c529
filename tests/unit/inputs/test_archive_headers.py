# SPDX-License-Identifier: Apache-2.0
"""Headers of tar archives, which are read in a shorter way than by the standard library."""

from __future__ import annotations

import random
import tarfile
from typing import Any

import pytest

from tdx_headroom.inputs.archive import _Member

FORMATS: tuple[Any, ...] = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = ("proc/iomem", "./dmesg", "sys/devices/", "é/x", "a" * 99, f"{'b' * 90}/{'c' * 60}")
ENCODING = ("utf-8", "backslashreplace")


def told(member: tarfile.TarInfo) -> tuple[object, ...]:
    link = member.linkname if member.issym() or member.islnk() else None
    return member.name, member.size, member.type, link, member.isreg(), member.isdir()


def outcome(kind: type[tarfile.TarInfo], header: bytes) -> object:
    try:
        return told(kind.frombuf(header, *ENCODING))
    except tarfile.HeaderError as error:
        return type(error)


def headers() -> list[bytes]:
    found = []
    for name in NAMES:
        for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.AREGTYPE):
            for form in FORMATS:
                member = tarfile.TarInfo(name)
                member.type, member.size, member.linkname = kind, 12345 * (kind == tarfile.REGTYPE), "x"
                data = member.tobuf(form, *ENCODING)
                found += [data[at : at + 512] for at in range(0, len(data), 512)]
    return found


def test_as_the_standard_library() -> None:
    """Every header of honest archives tells the same, in all formats."""
    assert len(headers()) > 90
    for header in headers():
        assert outcome(_Member, header) == outcome(tarfile.TarInfo, header)


@pytest.mark.parametrize("seed", range(20))
def test_damaged(seed: int) -> None:
    """A header with a wrong byte is refused where the standard library refuses it."""
    rng = random.Random(seed)
    for header in headers():
        damaged = bytearray(header)
        damaged[rng.randrange(512)] ^= 1 << rng.randrange(8)
        assert outcome(_Member, bytes(damaged)) == outcome(tarfile.TarInfo, bytes(damaged))


@pytest.mark.parametrize(
    "size", [b"\x80" + b"\0" * 10 + b"\7", b"      12345 ", b"12345\0junk!!", b"-1\0         "]
)
def test_odd_sizes(size: bytes) -> None:
    """What is no plain number is left to the standard library."""
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT, *ENCODING)[:512])
    header[124:136] = size[:12].ljust(12, b"\0")
    total = sum(header[:148]) + sum(header[156:]) + 8 * 32
    header[148:156] = b"%06o\0 " % total
    assert outcome(_Member, bytes(header)) == outcome(tarfile.TarInfo, bytes(header))
