# SPDX-License-Identifier: Apache-2.0
"""A file of text: its encoding, by its bytes alone, and the log or report that it holds."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.documents import log_in
from tdx_headroom.sources.kernel_log.reader import MAX_LOG
from tdx_headroom.sources.kernel_log.wrapped import decoded

if TYPE_CHECKING:
    import io

_START = 4096
_MARKS = (
    # UTF-32's begins as UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_WIDE = (("utf-32-le", 4, 0), ("utf-32-be", 4, 3), ("utf-16-le", 2, 0), ("utf-16-be", 2, 1))
"""Encodings without a mark, the bytes of a character, and which of them is the one of ASCII."""
_MOST = 0.9
_CONTROLS = bytes(set(range(32)) - set(b"\a\b\t\n\f\r\x0e\x0f\x1b")) + b"\x7f"
_FEW = 0.02


def text_of(stream: io.BufferedReader, name: str) -> str:
    """The log or report in a file, in whatever encoding an editor or shell of another system has written it.

    Args:
        stream: the whole file.
        name: of it.

    Raises:
        AgentError: it is too large, or holds several logs.
    """
    data = stream.read(MAX_LOG + 1)
    if len(data) > MAX_LOG:
        raise AgentError(f"{name} is larger than {MAX_LOG >> 20} MiB", hint="cut it to one boot")
    text = data.decode(encoding_of(data[:_START]) or "utf-8", "backslashreplace")
    return decoded(log_in(text, name))


def encoding_of(start: bytes) -> str | None:
    """How the text is encoded that a file begins with; None where that is no text.

    A log may have zero bytes: a file system leaves them behind a crash, logrotate where it cuts an open file,
    and some consoles end lines with them.

    Args:
        start: of the file, some thousand bytes.
    """
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if b"\0" not in start:
        return "utf-8"
    for name, width, at in _WIDE:
        if _is_wide(start, width, at):
            return name
    rest = start.replace(b"\0", b"")
    odd = len(rest) - len(rest.translate(None, _CONTROLS))
    return "utf-8" if odd <= _FEW * len(rest) and _is_utf_8(rest) else None


def _is_wide(start: bytes, width: int, at: int) -> bool:
    """Whether nearly every character is one of ASCII, of so many bytes."""
    whole = len(start) // width
    ascii_ones = sum(byte != 0 for byte in start[at : whole * width : width])
    others = sum(start[index : whole * width : width].count(0) for index in range(width) if index != at)
    return whole > 1 and ascii_ones >= _MOST * whole and others >= _MOST * whole * (width - 1)


def _is_utf_8(start: bytes) -> bool:
    """Whether bytes are UTF-8, be it with a last character that is cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return True
