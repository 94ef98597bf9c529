# SPDX-License-Identifier: Apache-2.0
"""zstd, lz4 and lzo by whatever this machine has: a Python module, a shared library, or a program.

The framing of lz4 and lzo is read here, as the kernel does it (lib/decompress_unlz4.c, _unlzo.c): of the
libraries only the functions for one block are needed.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.child import child_environment
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LZO_MAGIC = b"\x89LZO\0\r\n\x1a\n"

_WINDOW_LOG = 27
"""Kernels are packed by ``zstd -22 --ultra``, with a window of 128 MiB; libzstd refuses larger ones."""

_LZ4_MAGIC = 0x184C2102
_LZ4_BLOCK = 8 << 20
_LZ4_BOUND = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16
_LZO_BLOCK = 256 << 10
_PIPE = 1 << 16


@cache
def _module(name: str) -> Any:  # noqa: ANN401  modules that may be missing have no types
    try:
        return import_module(name)
    except ImportError:
        return None


@cache
def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def damaged_errors() -> tuple[type[Exception], ...]:
    """What the modules of Python itself raise for damaged data."""
    module = _module("compression.zstd") if sys.version_info >= (3, 14) else None
    return (module.ZstdError,) if module else ()


def zstd_of_python() -> Callable[[], Any] | None:
    """Makes an unpacker of Python's own, from 3.14 on."""
    module = _module("compression.zstd") if sys.version_info >= (3, 14) else None
    if module is None:
        return None
    options = {module.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return lambda: module.ZstdDecompressor(options=options)


def zstd(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """One frame of zstd, unpacked in chunks of that size.

    Raises:
        SourceError: nothing here can unpack it.
        EOFError: it is cut short.
        ValueError: it is damaged.
    """
    library = _library("libzstd.so.1")
    if library is not None:
        return _zstd_by_library(library, pieces, size)
    module = _module("zstandard")
    if module is not None:
        return _zstd_by_module(module, pieces, size)
    return _by_program(["zstd", "-dcq"], pieces, "zstd", "python3-zstandard")


def _zstd_by_module(module: Any, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:  # noqa: ANN401  as above
    """By python3-zstandard; its reader ends silently where the data are cut short."""
    reader = module.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG).stream_reader(_Pieces(pieces), size)
    try:
        while chunk := reader.read(size):
            yield chunk
    except module.ZstdError as error:
        raise ValueError(str(error)) from None


class _Pieces:
    """Pieces as a file: what a reader asks for is at most what it gets."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        """The next bytes; none at the end."""
        if not self._left:
            self._left = next(self._pieces, b"")
        data, self._left = self._left[:size], self._left[size:]
        return data


class _Buffer(ctypes.Structure):
    """``ZSTD_inBuffer`` and ``ZSTD_outBuffer``."""

    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


def _zstd_by_library(library: ctypes.CDLL, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    step = library.ZSTD_decompressStream
    step.restype = ctypes.c_size_t
    step.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer)]
    memory = ctypes.create_string_buffer(size)
    stream = library.ZSTD_createDStream()
    if not stream:
        raise MemoryError
    try:
        for piece in pieces:
            source = _Buffer(ctypes.cast(ctypes.c_char_p(piece), ctypes.c_void_p), len(piece), 0)
            target = _Buffer(ctypes.addressof(memory), size, size)
            # A full target may mean that more is held back.
            while source.pos < source.size or target.pos == size:
                target.pos = 0
                left = step(stream, ctypes.byref(target), ctypes.byref(source))
                if library.ZSTD_isError(left):
                    raise ValueError("zstd")
                yield ctypes.string_at(memory, target.pos)
                if left == 0:
                    return
    finally:
        library.ZSTD_freeDStream(stream)
    raise EOFError


def lz4(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Legacy frames of lz4: blocks of 8 MiB, each with its packed size before it.

    Raises: as :func:`zstd`.
    """
    block = _lz4_block()
    if block is None:
        yield from _by_program(["lz4", "-dcq"], pieces, "lz4", "python3-lz4")
        return
    data = _Bytes(pieces)
    (magic,) = struct.unpack("<I", data.take(4))
    while True:
        word = data.take(4, last=True)
        if not word:
            return
        (size,) = struct.unpack("<I", word)
        if size == magic == _LZ4_MAGIC:
            continue
        if size > _LZ4_BOUND:
            raise ValueError("lz4")
        yield block(data.take(size))


def _lz4_block() -> Callable[[bytes], bytes] | None:
    library = _library("liblz4.so.1")
    if library is not None:
        unpack = library.LZ4_decompress_safe
        unpack.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        memory = ctypes.create_string_buffer(_LZ4_BLOCK)

        def by_library(packed: bytes) -> bytes:
            size = unpack(packed, memory, len(packed), _LZ4_BLOCK)
            if size < 0:
                raise ValueError("lz4")
            return ctypes.string_at(memory, size)

        return by_library
    module = _module("lz4.block")
    if module is None:
        return None

    def by_module(packed: bytes) -> bytes:
        try:
            data: bytes = module.decompress(packed, uncompressed_size=_LZ4_BLOCK)
        except module.LZ4BlockError as error:
            raise ValueError(str(error)) from None
        return data

    return by_module


def lzo(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What ``lzop`` writes: a header, and blocks of at most 256 KiB, each with a checksum.

    Raises: as :func:`zstd`.
    """
    library = _library("liblzo2.so.2")
    if library is None:
        yield from _by_program(["lzop", "-dcq"], pieces, "lzo", "liblzo2-2 or lzop")
        return
    unpack = library.lzo1x_decompress_safe
    unpack.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    memory = ctypes.create_string_buffer(_LZO_BLOCK)
    data = _Bytes(pieces)
    flags = _lzo_header(data)
    # Checksums of what is unpacked, and then of what is packed, where that is smaller.
    sums = [check for bit, check in ((0x1, zlib.adler32), (0x100, zlib.crc32)) if flags & bit]
    of_packed = sum(bool(flags & bit) for bit in (0x2, 0x200))
    while True:
        (size,) = struct.unpack(">I", data.take(4))
        if size == 0:
            return
        (packed_size,) = struct.unpack(">I", data.take(4))
        if size > _LZO_BLOCK or packed_size > size:
            raise ValueError("lzo")
        expected = [struct.unpack(">I", data.take(4))[0] for _ in sums]
        data.take(4 * of_packed * (packed_size < size))
        block = data.take(packed_size)
        if packed_size < size:
            done = ctypes.c_size_t(size)
            if unpack(block, packed_size, memory, ctypes.byref(done), None) or done.value != size:
                raise ValueError("lzo")
            block = ctypes.string_at(memory, size)
        if [check(block) for check in sums] != expected:
            raise ValueError("lzo")
        yield block


def _lzo_header(data: _Bytes) -> int:
    """The flags, from the header (``parse_header()``)."""
    data.take(len(LZO_MAGIC))
    (version,) = struct.unpack(">H", data.take(2))
    new = version >= 0x0940
    # Version of the library; from 0.940 on that which is needed, and the level behind the method.
    data.take(2 + (2 if new else 0) + 1 + (1 if new else 0))
    (flags,) = struct.unpack(">I", data.take(4))
    # A filter, mode and time; the name, and a checksum.
    data.take((4 if flags & 0x800 else 0) + 8 + (4 if new else 0))
    data.take(data.take(1)[0] + 4)
    return int(flags)


class _Bytes:
    """Takes bytes from pieces by their number."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = bytearray()

    def take(self, size: int, *, last: bool = False) -> bytes:
        """So many bytes; with ``last`` none where all is taken.

        Raises:
            EOFError: there are fewer.
        """
        while len(self._left) < size:
            piece = next(self._pieces, b"")
            if not piece:
                if last and not self._left:
                    return b""
                raise EOFError
            self._left += piece
        data = bytes(self._left[:size])
        del self._left[:size]
        return data


def _by_program(command: list[str], pieces: Iterator[bytes], kind: str, package: str) -> Iterator[bytes]:
    program = shutil.which(command[0])
    if program is None:
        raise SourceError(SOURCE, f"it is packed with {kind}", hint=f"install {package}", absent=True)
    process = subprocess.Popen(  # noqa: S603  a program of the system, with nothing from outside
        [program, *command[1:]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=child_environment(),
    )  # fmt: skip
    try:
        feeder = threading.Thread(target=_feed, args=(process, pieces), daemon=True)
        feeder.start()
        while process.stdout and (chunk := process.stdout.read(_PIPE)):
            yield chunk
        if process.wait():
            raise ValueError(kind)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _feed(process: subprocess.Popen[bytes], pieces: Iterator[bytes]) -> None:
    try:
        for piece in pieces:
            if process.stdin:
                process.stdin.write(piece)
        if process.stdin:
            process.stdin.close()
    except (OSError, ValueError, SourceError):
        return
