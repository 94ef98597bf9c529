# SPDX-License-Identifier: Apache-2.0
"""Looks through one kernel's image, in a process of its own that ends.

Unpacked it has 60 MB, and it may come from anywhere. Run as a module, with an offset as its argument and the
image as standard input, it prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import sys
from typing import TYPE_CHECKING, Any

from tdx_headroom.boots.kernels.image import SIZE, packed_in
from tdx_headroom.boots.kernels.marks import as_json, marks_in
from tdx_headroom.boots.kernels.unpack import format_of, pieces_of, unpacked
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.boots.kernels.marks import ImageMarks

CPU_SECONDS = 30
"""bzip2 takes three."""
MEMORY = 512 << 20
"""Address space: xz and zstd reserve 128 MiB for their window, and use as much of it as the kernel has."""

_MAX_UNPACKED = 512 << 20


def scan(fd: int, offset: int = 0) -> ImageMarks:
    """Which marks the kernel in an image has.

    Args:
        fd: of the file.
        offset: where in it the image begins.

    Raises:
        SourceError: it cannot be read, is no image, is damaged, cut short, or packed in a way that cannot
            be unpacked here.
    """
    start, length = packed_in(fd, offset)
    # The build puts the unpacked size behind what is packed; with gzip it is part of that.
    (size,) = struct.unpack("<I", os.pread(fd, SIZE, start + length - SIZE))
    if format_of(os.pread(fd, 16, start)) != "gzip":
        length -= SIZE
    return marks_in(lambda: unpacked(pieces_of(fd, start, length), _MAX_UNPACKED), size)


def _limit() -> None:
    """Bounds that hold whatever the image makes the unpackers do.

    A unit that refuses this call bounds the memory itself (``MemoryMax=``), and the parent the time.
    """
    for what, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 1 << 16),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            _, hard = resource.getrlimit(what)
            bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (bound, bound))


def answer(fd: int, offset: int) -> dict[str, Any]:
    """What the process prints: the marks, or why there are none."""
    try:
        marks = scan(fd, offset)
    except SourceError as error:
        return {"error": error.told()}
    except OSError as error:
        return {"error": os.strerror(error.errno or 0)}
    except MemoryError:
        return {"error": "unpacking it takes too much memory"}
    return as_json(marks)


def main(arguments: Sequence[str]) -> int:
    """Look through the image on standard input.

    Args:
        arguments: where in the file the image begins.
    """
    _limit()
    with contextlib.suppress(OSError):
        os.nice(5)
    sys.stdout.write(json.dumps(answer(sys.stdin.fileno(), int(arguments[0]) if arguments else 0)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
