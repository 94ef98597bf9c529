# SPDX-License-Identifier: Apache-2.0
"""A boot's kernel log from the journal: this one's, when the ring buffer has forgotten its beginning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal

from tdx_headroom.child import child_environment
from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.json_log import JournalEntries

COMMAND = ("journalctl", "--dmesg", "--output=json", "--no-pager", "--quiet")
SECONDS = 20.0
END_SECONDS = 1.0
MAX_OUTPUT = 128 << 20
MAX_LINE = 1 << 20
CHUNK = 1 << 16


async def read_journal(boot: int = 0) -> list[tuple[int, int, str]] | None:
    """Kernel records of a boot as ``(priority, microseconds, text)``: 0 is this one, -1 the one before.

    None without a journal of it: there is no journalctl, or it ends with an error.

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
            f"--boot={boot}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=child_environment(),
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    except OSError as error:
        raise SourceError("journal", f"{program} cannot be run: {os.strerror(error.errno or 0)}") from None
    if process.stdout is None:
        raise SourceError("journal", "journalctl has no output")
    try:
        async with asyncio.timeout(SECONDS):
            entries = await _entries(process.stdout)
            status = await process.wait()
    except TimeoutError:
        raise SourceError("journal", f"journalctl took more than {SECONDS:.0f} s") from None
    finally:
        await _end(process, process.stdout)
    return entries.found if status == 0 else None


async def _entries(output: asyncio.StreamReader) -> JournalEntries:
    """Line by line: as a whole it is more than the agent may take of memory."""
    entries = JournalEntries()
    size = 0
    rest = b""
    while chunk := await output.read(CHUNK):
        size += len(chunk)
        if size > MAX_OUTPUT:
            raise SourceError("journal", f"more than {MAX_OUTPUT >> 20} MiB for one boot")
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            raise SourceError("journal", f"a line of more than {MAX_LINE >> 20} MiB")
        for line in lines:
            entries.add(line.decode("utf-8", "backslashreplace"))
    if rest:
        entries.add(rest.decode("utf-8", "backslashreplace"))
    return entries


async def _end(process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
    """End it, with what it has started, which may hold its output open.

    What it has written has to be read: until then wait() does not return, though it is dead.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while await output.read(CHUNK):
                pass
            await process.wait()
