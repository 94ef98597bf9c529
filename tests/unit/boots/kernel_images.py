# SPDX-License-Identifier: Apache-2.0
"""Small kernels as the build makes them: an ELF file with sections, packed into a bzImage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RELEASE = "6.18.15-test"

MESSAGES = "\x016BIOS-provided physical RAM map:\n"
KEYIDS = "\x016virt/tdx: BIOS enabled: private KeyID range [%u, %u)\n"
INITIALIZED = "\x016virt/tdx: module initialized\n"
INITIALIZED_AT_BOOT = "\x016virt/tdx: TDX-Module initialized\n"

TEXT = bytes(range(256)) * 512
"""Stands for code; 128 KiB."""


def elf(sections: Mapping[str, bytes], *, machine: int = 62) -> bytes:
    """An ELF file of 64 bits with these sections, in order; their table is at the end, as of objcopy."""
    names = b"\0"
    body, rows = b"", [bytes(64)]
    for name in (*sections, ".shstrtab"):
        at = len(names)
        names += name.encode() + b"\0"
        data = sections.get(name, names)
        rows.append(struct.pack("<IIQQQQIIQQ", at, 1, 2, 0, 64 + len(body), len(data), 0, 0, 1, 0))
        body += data
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, len(rows), len(rows) - 1
    )
    return head + body + b"".join(rows)


def strings(texts: Iterable[str]) -> bytes:
    """Texts as an ELF section of strings has them."""
    return b"\0" + b"".join(text.encode() + b"\0" for text in texts)


def vmlinux(
    formats: Iterable[str] = (),
    *,
    exports: Iterable[str] | None = ("printk",),
    types: Iterable[str] | None = ("task_struct",),
    messages: bool = True,
    text: bytes = TEXT,
) -> bytes:
    """An unpacked kernel, with relocations behind it.

    Args:
        formats: of its messages, and other texts.
        exports: names of exported symbols; None: it has no such section.
        types: names in its BTF; None: it has none.
        messages: whether it has that message which all kernels have.
        text: its code.
    """
    every = [MESSAGES, *formats] if messages else list(formats)
    sections = {".text": text, ".rodata": strings(every)}
    if exports is not None:
        sections["__ksymtab_strings"] = strings(exports)
    if types is not None:
        sections[".BTF"] = b"\x9f\xeb\x01\0" + bytes(20) + strings(types)
    sections[".data"] = bytes(4096)
    return elf(sections) + bytes(1000)


def run(*command: str) -> Callable[[bytes], bytes]:
    return lambda data: subprocess.run(command, input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32),
    "zstd": run("zstd", "-22", "--ultra", "-c", "-q"),
    "lz4": run("lz4", "-l", "-9", "-c", "-q"),
    "lzo": run("lzop", "-9", "-c", "-q"),
}
"""As scripts/Makefile.lib packs kernels."""

KINDS = [
    pytest.param(kind, id=kind, marks=[pytest.mark.program(program)] if program else [])
    for kind, program in {**dict.fromkeys(PACKERS), "zstd": "zstd", "lz4": "lz4", "lzo": "lzop"}.items()
]
"""All of them, each for a test that is skipped where its program is not installed."""


def bzimage(
    payload: bytes, *, release: str = RELEASE, sectors: int = 4, version: int = 0x20F, gap: int = 700
) -> bytes:
    """A bzImage around a packed kernel (arch/x86/boot/header.S): setup code, a gap, the payload, code."""
    head = bytearray((sectors + 1) * 512)
    head[0x1F1] = sectors
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    banner = f"{release} (builder@host) #1 SMP\0".encode()
    struct.pack_into("<H", head, 0x20E, 0x300 - 0x200)
    head[0x300 : 0x300 + len(banner)] = banner
    struct.pack_into("<II", head, 0x248, gap, len(payload))
    return bytes(head) + bytes(gap) + payload + bytes(600)


def packed(kernel: bytes, kind: str = "gzip") -> bytes:
    """What the build puts into an image: the packed kernel, and behind it the size, which gzip has itself."""
    data = PACKERS[kind](kernel)
    return data if kind == "gzip" else data + struct.pack("<I", len(kernel))


def image(kernel: bytes, kind: str = "gzip", *, release: str = RELEASE) -> bytes:
    return bzimage(packed(kernel, kind), release=release)


def module(*parameters: str, name: str = "kvm_intel", text: bytes = TEXT) -> bytes:
    """A module with these parameters, as ``name:type``, and this code."""
    info = [f"parmtype={parameter}" for parameter in parameters]
    texts = ["license=GPL", *info, "depends=kvm", f"name={name}", "vermagic=6.18.15-test SMP"]
    return elf({".text": text, ".modinfo": strings(texts), ".symtab": bytes(64)})
