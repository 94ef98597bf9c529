# SPDX-License-Identifier: Apache-2.0
"""Unpacks kernels and modules as a stream, in all formats that the kernel's build knows.

Of scripts/Makefile.lib: gzip, bzip2, lzma, xz, lzo, lz4, zstd. The standard library has the first four; what
the others need is looked for when they come, and named where it is missing.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import show_size
from tdx_headroom.boots.kernels import unpack_libraries as libraries
from tdx_headroom.boots.reasons import SOURCE
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK = 1 << 18
"""Bytes that are unpacked at a time, about; lz4 has blocks of 8 MiB."""

MAX_MEMORY = 192 << 20
"""Kernels are packed by xz with a dictionary of 128 MiB; a hostile one may ask for 4 GiB."""

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x5d\0\0": "lzma",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    libraries.LZO_MAGIC: "lzo",
}
_DAMAGED: tuple[type[Exception], ...] = (OSError, ValueError, zlib.error, lzma.LZMAError)
_DAMAGED += libraries.damaged_errors()


def format_of(start: bytes) -> str | None:
    """How data are packed, by their first bytes; None where that is not known."""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def pieces_of(fd: int, offset: int, length: int) -> Iterator[bytes]:
    """So many bytes of a file from there on, in pieces; fewer where it ends before.

    Raises:
        SourceError: it cannot be read.
    """
    end = offset + length
    while offset < end:
        try:
            piece = os.pread(fd, min(CHUNK, end - offset), offset)
        except (OSError, OverflowError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is damaged"
            raise SourceError(SOURCE, reason) from None
        if not piece:
            return
        offset += len(piece)
        yield piece


def unpacked(pieces: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """What packed data hold, in chunks; what follows the end of the packed data is left alone.

    Args:
        pieces: the packed data; the first of them has the first bytes, at least 9.
        limit: the most bytes that they may hold.

    Raises:
        SourceError: the format is not known, damaged or cut short, holds too much, or needs a library that
            is not there: the hint is what to install, then.
    """
    stream = iter(pieces)
    first = next(stream, b"")
    kind = format_of(first)
    if kind is None:
        raise SourceError(SOURCE, "it is packed in no known way")
    total = 0
    try:
        for chunk in _UNPACKERS[kind](_joined(first, stream)):
            total += len(chunk)
            if total > limit:
                raise SourceError(SOURCE, f"it holds more than {show_size(limit)}")
            yield chunk
    except EOFError:
        raise SourceError(SOURCE, "it is cut short") from None
    except MemoryError:
        raise SourceError(SOURCE, "unpacking it takes too much memory") from None
    except _DAMAGED:
        raise SourceError(SOURCE, f"its {kind} data are damaged") from None


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(wbits=31)
    for piece in pieces:
        left = piece
        while left and not unpacker.eof:
            yield unpacker.decompress(left, CHUNK)
            left = unpacker.unconsumed_tail
        if unpacker.eof:
            return
    raise EOFError


def _stream(make: Callable[[], Any]) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """With an unpacker that has ``decompress(data, max_length)``, ``needs_input`` and ``eof``."""

    def unpack(pieces: Iterator[bytes]) -> Iterator[bytes]:
        unpacker = make()
        for piece in pieces:
            yield unpacker.decompress(piece, CHUNK)
            while not unpacker.eof and not unpacker.needs_input:
                yield unpacker.decompress(b"", CHUNK)
            if unpacker.eof:
                return
        raise EOFError

    return unpack


def _zstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    make = libraries.zstd_of_python()
    return _stream(make)(pieces) if make else libraries.zstd(pieces, CHUNK)


_UNPACKERS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {
    "gzip": _gzip,
    "bzip2": _stream(bz2.BZ2Decompressor),
    "xz": _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY)),
    "lzma": _stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_MEMORY)),
    "zstd": _zstd,
    "lz4": libraries.lz4,
    "lzo": libraries.lzo,
}
