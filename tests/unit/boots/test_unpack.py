# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
from importlib import import_module
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.boots.kernel_images import KINDS, PACKERS

from tdx_headroom.boots.kernels import unpack_libraries
from tdx_headroom.boots.kernels.unpack import MAX_MEMORY, format_of, pieces_of, unpacked
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Random(1).randbytes(150_000) + b"a" * 500_000 + bytes(range(256)) * 2000


def pieces(data: bytes, size: int = 5000) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def whole(data: bytes, limit: int = 1 << 24) -> bytes:
    return b"".join(unpacked(pieces(data), limit))


@pytest.mark.parametrize("kind", KINDS)
def test_formats(kind: str) -> None:
    """All formats that kernels are packed in are known by their first bytes, and unpacked whole."""
    packed = PACKERS[kind](DATA)
    assert format_of(packed) == kind
    assert whole(packed) == DATA


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.id != "lz4"])
def test_what_follows_is_left_alone(kind: str) -> None:
    """What stands behind the end of packed data does not matter, though lz4 has no such end."""
    assert whole(PACKERS[kind](DATA) + b"rest" * 9) == DATA


@pytest.mark.parametrize("kind", KINDS)
def test_cut_short_or_damaged(kind: str) -> None:
    """Data that are cut short or damaged anywhere give one reason, or fewer bytes, and never more."""
    packed = PACKERS[kind](DATA)
    for cut in range(9, len(packed) - 1, 9973):
        try:
            assert len(whole(packed[:cut])) < len(DATA)
        except SourceError as error:
            assert error.reason in ("it is cut short", f"its {kind} data are damaged")  # noqa: PT017
    for place in range(0, len(packed), 7919):
        damaged = bytearray(packed)
        damaged[place] ^= 0xFF
        try:
            assert len(whole(bytes(damaged))) <= 2 * len(DATA)
        except SourceError as error:
            assert error.reason  # noqa: PT017


@pytest.mark.parametrize("kind", KINDS)
def test_too_much(kind: str) -> None:
    """What unpacks to more than the bound is given up, long before it is all there."""
    packed = PACKERS[kind](bytes(64 << 20))
    chunks = unpacked(pieces(packed), 1 << 20)
    taken = list(islice(chunks, 0 if kind == "lz4" else 2))
    with pytest.raises(SourceError, match="it holds more than 1 MiB"):
        list(chunks)
    assert sum(map(len, taken)) < 1 << 20


def test_dictionary_too_large() -> None:
    """An xz stream that asks for more memory than any kernel is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    header = bytearray(lzma.compress(b"x" * 100, lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2}]))
    assert filters[0]["dict_size"] > MAX_MEMORY
    # Property of LZMA2: 36 stands for 1 GiB; then the header's own checksum.
    header[12 + 4] = 36
    end = 12 + (header[12] + 1) * 4
    header[end - 4 : end] = struct.pack("<I", import_module("zlib").crc32(header[12 : end - 4]))
    with pytest.raises(SourceError, match="its xz data are damaged"):
        whole(bytes(header))


@pytest.mark.parametrize("data", [b"", b"\x7fELF" + bytes(100), b"MZ" + bytes(100)])
def test_no_format(data: bytes) -> None:
    """What is packed in no known way is said to be."""
    with pytest.raises(SourceError, match="packed in no known way"):
        whole(data)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As on a machine that lacks these modules, libraries and programs."""
    module, library = unpack_libraries._module, unpack_libraries._library
    which = shutil.which
    monkeypatch.setattr(unpack_libraries, "_module", lambda name: None if name in names else module(name))
    monkeypatch.setattr(unpack_libraries, "_library", lambda name: None if name in names else library(name))
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name in names else which(name, **more))


LIBRARIES = ["compression.zstd", "libzstd.so.1", "zstandard", "liblz4.so.1", "lz4.block", "liblzo2.so.2"]


@pytest.mark.parametrize("kind", KINDS[4:])
def test_by_the_program(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a library the program does it, and its failure is one."""
    without(monkeypatch, *LIBRARIES)
    packed = PACKERS[kind](DATA)
    assert whole(packed) == DATA
    with pytest.raises(SourceError, match=f"its {kind} data are damaged"):
        whole(packed[:-2000])
    # Nobody reads on.
    assert next(unpacked(pieces(packed), 1 << 24))


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        pytest.param("zstd", "install python3-zstandard", marks=pytest.mark.program("zstd")),
        pytest.param("lz4", "install python3-lz4", marks=pytest.mark.program("lz4")),
        pytest.param("lzo", "install liblzo2-2 or lzop", marks=pytest.mark.program("lzop")),
    ],
)
def test_nothing_can_unpack_it(kind: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where library, module and program are missing, what to install is named."""
    packed = PACKERS[kind](DATA)
    without(monkeypatch, *LIBRARIES, "zstd", "lz4", "lzop")
    with pytest.raises(SourceError, match=f"it is packed with {kind}") as caught:
        whole(packed)
    assert (caught.value.hint, caught.value.absent) == (hint, True)


class FakeZstandard:
    """The part of python3-zstandard that is used: a reader that ends where the data do."""

    class ZstdError(Exception):
        pass

    class ZstdDecompressor:
        def __init__(self, max_window_size: int) -> None:
            assert max_window_size == 1 << 27

        def stream_reader(self, source: Any, size: int) -> Any:  # noqa: ANN401  as the module
            return FakeZstandard.Reader(source, size)

    class Reader:
        def __init__(self, source: Any, size: int) -> None:  # noqa: ANN401  as the module
            data = b""
            while piece := source.read(size):
                data += piece
            if b"bad" in data:
                raise FakeZstandard.ZstdError("bad")
            self.data = data[4:]

        def read(self, size: int) -> bytes:
            data, self.data = self.data[:size], self.data[size:]
            return data


def test_by_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library python3-zstandard does it, in chunks."""
    without(monkeypatch, "compression.zstd", "libzstd.so.1")
    other = unpack_libraries._module
    monkeypatch.setattr(
        unpack_libraries, "_module", lambda name: FakeZstandard if name == "zstandard" else other(name)
    )
    assert whole(b"\x28\xb5\x2f\xfd" + DATA) == DATA


@pytest.mark.program("zstd")
def test_by_the_packaged_module() -> None:
    """The real python3-zstandard, where it is, unpacks as the library does, and tells what is damaged."""
    # Debian's own Python, for which the module is.
    python = shutil.which("python3", path="/usr/bin")
    if python is None or subprocess.run([python, "-c", "import zstandard"], capture_output=True).returncode:
        pytest.skip("zstandard of Python is not installed: apt-get install python3-zstandard")
    code = """
import sys, zstandard
from tdx_headroom.boots.kernels import unpack_libraries
data = sys.stdin.buffer.read()
size = sum(map(len, unpack_libraries._zstd_by_module(zstandard, iter([data]), 1 << 16)))
try:
    list(unpack_libraries._zstd_by_module(zstandard, iter([data[:50] + bytes(50) + data[100:]]), 1 << 16))
except ValueError:
    print(size)
"""
    agent = {"PYTHONPATH": str(Path(unpack_libraries.__file__).parents[3])}
    packed = PACKERS["zstd"](DATA)
    done = subprocess.run([python, "-c", code], input=packed, capture_output=True, env=os.environ | agent)
    assert int(done.stdout or 0) == len(DATA), done.stderr


def test_pieces_of_a_file(tmp_path: Path) -> None:
    """A part of a file comes in pieces, and ends where the file does."""
    (tmp_path / "x").write_bytes(DATA)
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        assert b"".join(pieces_of(fd, 100, 400_000)) == DATA[100:400_100]
        assert b"".join(pieces_of(fd, len(DATA) - 5, 1 << 40)) == DATA[-5:]
        with pytest.raises(SourceError):
            list(pieces_of(fd, 1 << 70, 5))
    finally:
        os.close(fd)
