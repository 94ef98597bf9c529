# SPDX-License-Identifier: Apache-2.0
"""Real kernels, Debian's. Those with TDX are looked at by the kernel test, which has to build them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.kernels.config import ConfigReading
from tdx_headroom.boots.kernels.image import read_head, read_version
from tdx_headroom.boots.kernels.image_marks import answer
from tdx_headroom.boots.kernels.marks import parse_marks
from tdx_headroom.boots.kernels.module import read_module
from tdx_headroom.boots.kernels.reader import KernelReader
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.boots.kernels.traits import MarksReading, traits_of
from tdx_headroom.boots.kernels.unpack import pieces_of, unpacked
from tdx_headroom.facts.boots import Starts, TraitsFrom
from tdx_headroom.hostfs.root import Root
from tests.tools.debian_kernels import MissingError, debian_kernel
from tests.unit.boots.kernel_images import KINDS

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = 90 << 10
"""KiB of the process that looks through an image that is packed with zstd."""

PACKERS = {
    "gzip": ["gzip", "-1"],
    "bzip2": ["bzip2", "-1"],
    "xz": ["xz", "-0", "--check=crc32"],
    "lzma": ["xz", "-0", "--format=lzma"],
    "zstd": ["zstd", "-1"],
    "lz4": ["lz4", "-l", "-1", "-", "-"],
    "lzo": ["lzop", "-1"],
}
"""Fast ones: the format counts here."""

MEASURE = """
import resource, sys
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.hostfs.root import Root
scanner, times = Scanner(None), []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    scanner._known = {}
    assert scanner.marks(Root("/"), sys.argv[1]).marks, "nothing was found"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
print(min(times), after.ru_maxrss)
"""


def kernel(series: str) -> tuple[Root, str, str]:
    """A real one: the root that it is in, its release, and its image's path."""
    try:
        folder = debian_kernel(series)
    except MissingError as error:
        pytest.skip(f"no kernel {series} of Debian to look at: {error}")
    (image,) = (folder / "boot").glob("vmlinuz-*")
    return Root(folder), image.name.removeprefix("vmlinuz-"), f"boot/{image.name}"


def class_of(path: Path) -> Starts:
    """By the image alone."""
    fd = os.open(path, os.O_RDONLY)
    try:
        marks = parse_marks(answer(fd, 0))
    finally:
        os.close(fd)
    return traits_of(ConfigReading(), None, MarksReading("vmlinuz", marks, ("why",))).starts


@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_debian_has_no_tdx(series: str) -> None:
    """Debian's kernels are built without TDX: configuration and image agree, and the module is read."""
    root, release, image = kernel(series)
    assert (read_version(root, image) or "").startswith(f"{release} (")
    traits = KernelReader(Scanner(None)).traits(root, release, image)
    assert (traits.starts, traits.known_from, traits.unread) == (Starts.NOT_BUILT, TraitsFrom.CONFIG, ())
    marks = Scanner(None).marks(root, image)
    traits = traits_of(ConfigReading(), None, marks)
    assert (traits.starts, traits.known_from) == (Starts.NOT_BUILT, TraitsFrom.IMAGE)
    assert marks.marks is not None
    assert marks.marks.exports
    assert marks.marks.types
    module = read_module(root, release)
    assert (module.parameter, module.unread) == (False, ())


def test_cost() -> None:
    """An image of a distribution takes at most 90 MiB, in a process that ends; its time is printed."""
    root, _, image = kernel("6.12")
    command = [sys.executable, "-c", MEASURE, root.locate(image).lstrip("/")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, memory = map(float, done.stdout.split())
    print(f"{image}: {seconds:.2f} s of CPU, {memory / 1024:.1f} MiB")
    assert memory <= MEMORY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.program("bzip2")
@pytest.mark.program("xz")
def test_packed_anew(tmp_path: Path, kind: str) -> None:
    """A real kernel has its class however it is packed, and with a byte changed or cut off: it or none."""
    root, _, image = kernel("6.1")
    head = read_head(root, image)
    assert head.payload is not None
    fd = root.open("test", image)
    start = os.pread(fd, head.payload, 0)
    vmlinux = b"".join(unpacked(pieces_of(fd, head.payload, head.length - 4), 1 << 28))
    os.close(fd)
    payload = subprocess.run(PACKERS[kind], input=vmlinux, capture_output=True, check=True).stdout
    payload += b"" if kind == "gzip" else struct.pack("<I", len(vmlinux))
    whole = bytearray(start + payload + bytes(512))
    struct.pack_into("<I", whole, 0x24C, len(payload))
    path = tmp_path / "vmlinuz"
    path.write_bytes(whole)
    assert class_of(path) is Starts.NOT_BUILT
    random = Random(kind)
    cut, changed = (random.randrange(len(start), len(whole) - 600) for _ in range(2))
    path.write_bytes(whole[:cut])
    assert class_of(path) is Starts.UNKNOWN
    whole[changed] ^= 0x10
    path.write_bytes(whole)
    assert class_of(path) in (Starts.NOT_BUILT, Starts.UNKNOWN)
