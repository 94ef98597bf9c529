# SPDX-License-Identifier: Apache-2.0
"""Makes what an EFI host has: variables, boot options, programs with sections, fronts of kernels."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOOTS = Path(__file__).resolve().parents[1] / "boots"
"""Hosts as they are before a boot."""

VARS = "sys/firmware/efi/efivars"
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
PARTITION = "0d1e2f3a-4b5c-4d6e-8f70-8192a3b4c5d6"
SYSTEMD_BOOT = r"\EFI\systemd\systemd-bootx64.efi"
Tree = dict[str, str | bytes]


def variable(name: str, value: bytes, vendor: str = GLOBAL) -> Tree:
    return {f"{VARS}/{name}-{vendor}": struct.pack("<I", 7) + value}


def text_variable(name: str, text: str) -> Tree:
    return variable(name, (text + "\0").encode("utf-16-le"), LOADER)


def numbers(*values: int) -> bytes:
    return b"".join(struct.pack("<H", value) for value in values)


def node(kind: int, subkind: int, body: bytes = b"") -> bytes:
    return struct.pack("<BBH", kind, subkind, 4 + len(body)) + body


def disk_path(file: str | None, partition: str = PARTITION) -> bytes:
    """A device path: the partition, and a file on it."""
    hard_drive = struct.pack("<IQQ", 1, 2048, 1 << 20) + uuid.UUID(partition).bytes_le + bytes([2, 2])
    path = node(4, 1, hard_drive)
    if file is not None:
        path += node(4, 4, (file + "\0").encode("utf-16-le"))
    return path + node(0x7F, 0xFF)


def network_path() -> bytes:
    mac = node(3, 11, bytes.fromhex("525400123456").ljust(32, b"\0") + b"\1")
    return node(2, 1, bytes(8)) + mac + node(3, 12, bytes(23)) + node(0x7F, 0xFF)


def load_option(description: str, path: bytes, *, attributes: int = 1, data: bytes = b"") -> bytes:
    head = struct.pack("<IH", attributes, len(path))
    return head + (description + "\0").encode("utf-16-le") + path + data


def boot_option(number: int, description: str, file: str | None, *, active: bool = True) -> Tree:
    option = load_option(description, disk_path(file), attributes=int(active))
    return variable(f"Boot{number:04X}", option)


def systemd_boot_host(version: str = "257.9-1", **texts: str) -> Tree:
    """The variables of a host that systemd-boot started, and some texts of the loader's."""
    tree = {
        **boot_option(1, "Linux Boot Manager", SYSTEMD_BOOT),
        **variable("BootOrder", numbers(1)),
        **variable("BootCurrent", numbers(1)),
        **text_variable("LoaderInfo", f"systemd-boot {version}"),
    }
    for name, text in texts.items():
        tree |= text_variable(name, text)
    return tree


def program(sections: Sequence[tuple[str, bytes]], *, machine: int = 0x8664) -> bytes:
    """An EFI program of these sections, whatever is in them."""
    table_at = 64 + 24 + 240
    at = (table_at + 40 * len(sections) + 511) // 512 * 512
    table, bodies = b"", b""
    for name, body in sections:
        padded = body.ljust((len(body) + 511) // 512 * 512, b"\0")
        place = at + len(bodies)
        table += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(body), place, len(padded), place, 0, 0, 0, 0, 0
        )
        bodies += padded
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 240, 0x22)
    head = dos + coff + struct.pack("<H", 0x20B).ljust(240, b"\0") + table
    return head.ljust(at, b"\0") + bodies


def unified(
    line: str | None, release: str = "6.12.8-arch1-1", system: str = "ID=arch\nPRETTY_NAME=Arch\n"
) -> bytes:
    """A unified image, as small as can be."""
    sections = [(".osrel", system.encode()), (".uname", release.encode()), (".linux", kernel(release))]
    return program([*sections, *([] if line is None else [(".cmdline", line.encode())])])


def kernel(release: str) -> bytes:
    """The front of a bzImage that tells its release."""
    image = bytearray(0x600)
    image[0x1F1] = 4
    image[0x1FE:0x206] = b"\x55\xaa\xeb\x6aHdrS"
    struct.pack_into("<H", image, 0x206, 0x020F)
    struct.pack_into("<H", image, 0x20E, 0x400 - 0x200)
    told = f"{release} (builder@example) #1 SMP".encode() + b"\0"
    image[0x400 : 0x400 + len(told)] = told
    return bytes(image)


def entry(**fields: str) -> str:
    """A file of ``loader/entries``; underscores in keys are dashes."""
    return "".join(f"{key.replace('_', '-')} {value}\n" for key, value in fields.items())


def merged(*trees: Mapping[str, str | bytes]) -> Tree:
    return {path: content for tree in trees for path, content in tree.items()}
