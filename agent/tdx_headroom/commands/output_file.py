# SPDX-License-Identifier: Apache-2.0
"""What one shots write: a file that everybody may read, or standard output."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.named import STANDARD_STREAM
from tdx_headroom.whole_file import refuse_special, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o644


def write(output: str, data: bytes) -> None:
    """Put the data in place of the file, at once, or on standard output where that is asked for.

    Raises:
        AgentError: the folder cannot be written to, or is full; an old file stays as it is.
    """
    if output == STANDARD_STREAM:
        sys.stdout.write(data.decode())
    else:
        write_whole(output, data, MODE)


@contextmanager
def whole_or_standard(output: str) -> Iterator[TextIO]:
    """What to write text to: standard output, or a file that takes the other's place when all is written.

    Until then the text is in a temporary file, so that it takes no memory, however long it is.

    Raises:
        AgentError: the folder cannot be written to, which is known before anything is, or is full; an old
            file stays as it is.
    """
    if output == STANDARD_STREAM:
        yield sys.stdout
        return
    refuse_special(output)
    if Path(output).is_dir():
        raise AgentError(f"{output} is a directory", hint="name a file in it", status=os.EX_CANTCREAT)
    folder = Path(output).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        why = "it may not be written to" if folder.is_dir() else "there is no such directory"
        raise AgentError(f"{output} cannot be written: {folder}: {why}", status=os.EX_CANTCREAT)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace", newline="") as text:
        yield text
        text.flush()
        if not os.fstat(text.fileno()).st_size:
            write_whole(output, b"", MODE)
            return
        with mmap.mmap(text.fileno(), 0, access=mmap.ACCESS_READ) as data:
            write_whole(output, data, MODE)
