# SPDX-License-Identifier: Apache-2.0
"""Compressed input: recognised by its first bytes, read with bounds on what it unpacks to and on memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from tdx_headroom.address import show_size
from tdx_headroom.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable

zstd: Any = import_module("compression.zstd") if sys.version_info >= (3, 14) else None

MAX_XZ_MEMORY = 256 << 20
"""xz -9 takes 65 MiB to unpack; a hostile header may ask for 4 GiB."""

_ZSTD_WINDOW_LOG = 27
_CHUNK = 1 << 16
_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
_MAGIC_SIZE = max(map(len, _MAGIC))
_DAMAGED = (OSError, lzma.LZMAError, zlib.error, ValueError, *((zstd.ZstdError,) if zstd else ()))


def with_start(
    stream: Any,  # noqa: ANN401  any binary stream
    size: int,
    enough: Callable[[bytes], bool] = lambda _start: False,
) -> tuple[bytes, io.BufferedReader]:
    """The first bytes of a stream, and a stream that still has them; a pipe may give them one by one.

    Args:
        stream: to read.
        size: how many bytes.
        enough: whether fewer will do: those behind them may be long in coming.
    """
    read1 = _read1(stream)
    start = b""
    while len(start) < size and not enough(start) and (chunk := read1(size - len(start))):
        start += chunk
    return start, io.BufferedReader(_Chain(start, stream), _CHUNK)


def _read1(stream: Any) -> Callable[[int], bytes]:  # noqa: ANN401  any binary stream
    """Reads what there is, without waiting for more."""
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    return read


def decompressed(stream: Any, name: str, limit: int) -> io.BufferedReader:  # noqa: ANN401  any binary stream
    """The stream, or what it unpacks to where it is compressed.

    Args:
        stream: to read.
        name: of it, for messages.
        limit: the most bytes that it may unpack to; reading more raises.

    Raises:
        AgentError: it is compressed in a way that this Python cannot unpack, or twice. Reading raises it when
            the data are damaged, cut short, or too large.
    """
    start, packed = with_start(stream, _MAGIC_SIZE)
    unpack = _unpacker(start, name)
    if unpack is None:
        return packed
    start, plain = with_start(_Bounded(unpack(packed), name, limit), _MAGIC_SIZE)
    if _format(start) is not None:
        raise AgentError(f"{name} is compressed twice", hint="unpack it once by hand")
    return plain


def _format(start: bytes) -> str | None:
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def _unpacker(start: bytes, name: str) -> Callable[[BinaryIO], Any] | None:
    kind = _format(start)
    if kind is None:
        return None
    if kind == "zstd":
        return _zstd(name)
    unpackers: dict[str, Callable[[BinaryIO], Any]] = {
        "gzip": lambda s: gzip.GzipFile(fileobj=s, mode="rb"),
        "bzip2": lambda s: bz2.BZ2File(s, "rb"),
        "xz": _Xz,
    }
    return unpackers[kind]


def _zstd(name: str) -> Callable[[BinaryIO], Any]:
    if zstd is None:
        raise AgentError(
            f"{name} is compressed with zstd, which needs Python 3.14", hint="unpack it with `zstd -d`"
        )
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return lambda s: zstd.ZstdFile(s, options=options)


class _Chain(io.RawIOBase):
    """Bytes, and then a stream."""

    def __init__(self, start: bytes, stream: Any) -> None:  # noqa: ANN401  any binary stream
        self._start = memoryview(start)
        self._read1 = _read1(stream)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        if self._start:
            count = min(len(buffer), len(self._start))
            buffer[:count] = self._start[:count]
            self._start = self._start[count:]
            return count
        # Facts come a line at a time.
        data = self._read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Xz(io.RawIOBase):
    """xz with a bound on memory, which ``lzma.LZMAFile`` does not have."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decompressor = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._stream.read(_CHUNK)
                rest = rest.lstrip(b"\0")  # padding between streams
                if not rest:
                    return 0
                self._decompressor = lzma.LZMADecompressor(memlimit=MAX_XZ_MEMORY)
                data = self._decompressor.decompress(rest, len(buffer))
            else:
                packed = self._stream.read(_CHUNK) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not packed:
                    raise EOFError
                data = self._decompressor.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


class _Bounded(io.RawIOBase):
    """Counts what comes out, and tells in one line what is wrong with what goes in."""

    def __init__(self, inner: Any, name: str, limit: int) -> None:  # noqa: ANN401  any file object
        self._inner = inner
        self._name = name
        self._limit = limit
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        try:
            count: int = self._inner.readinto(buffer)
        except EOFError:
            raise AgentError(f"{self._name} is cut short", hint="fetch it again") from None
        except _DAMAGED as error:
            raise AgentError(f"{self._name} cannot be unpacked: {error}") from None
        self._left -= count
        if self._left < 0:
            raise AgentError(
                f"{self._name} unpacks to more than {show_size(self._limit)}",
                hint="unpack by hand what is needed of it",
            )
        return count
