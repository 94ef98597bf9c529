# SPDX-License-Identifier: Apache-2.0
"""This boot's kernel log from the journal, when the ring buffer has forgotten its beginning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.text import parse_journal_entries

COMMAND = ("journalctl", "--dmesg", "--boot", "--output=json", "--no-pager", "--quiet")
SECONDS = 20.0
MAX_OUTPUT = 128 << 20


async def read_journal() -> list[tuple[int, int, str]] | None:
    """Kernel records of this boot as ``(priority, microseconds, text)``.

    None without a journal: there is no journalctl, or it ends with an error.

    Raises:
        SourceError: journalctl cannot be run, takes too long, says too much, or prints no JSON.
    """
    program = shutil.which(COMMAND[0])
    if program is None:
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *COMMAND[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise SourceError("journal", f"{program} cannot be run: {os.strerror(error.errno or 0)}") from None
    if process.stdout is None:
        raise SourceError("journal", "journalctl has no output")
    chunks = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            while chunk := await process.stdout.read(1 << 16):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_OUTPUT:
                    raise SourceError("journal", f"more than {MAX_OUTPUT >> 20} MiB for one boot")
            status = await process.wait()
    except TimeoutError:
        raise SourceError("journal", f"journalctl took more than {SECONDS:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if status != 0:
        return None
    return parse_journal_entries(b"".join(chunks).decode("utf-8", "backslashreplace"))
