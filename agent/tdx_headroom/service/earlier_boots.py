# SPDX-License-Identifier: Apache-2.0
"""Records of earlier boots from the journal, for an agent that was not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal

from tdx_headroom import log
from tdx_headroom.child import child_command, child_environment
from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_record import BootRecord
from tdx_headroom.facts.codec import DecodeError, decode

SECONDS = 90.0
MAX_OUTPUT = 8 << 20


async def earlier_boots() -> list[BootRecord]:
    """As far as the journal tells; none where it cannot be read, which is logged.

    A process of its own reads it: what it needs of memory is given back, and serving does not wait for it.
    """
    process = await asyncio.create_subprocess_exec(
        *child_command("cli", ["take-history"]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
        cwd="/",
        close_fds=True,
        start_new_session=True,
        limit=MAX_OUTPUT,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, said = await process.communicate()
    except TimeoutError:
        log.get().warning("earlier boots are not known", error=f"it took more than {SECONDS:.0f} s")
        return []
    finally:
        # And with it journalctl, which it has started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        log.get().warning("earlier boots are not known", error=one_line(said.decode(errors="replace")))
        return []
    return parse_records(output)


def parse_records(output: bytes) -> list[BootRecord]:
    """The records that the process has printed; what is none is left out, and logged."""
    found: list[BootRecord] = []
    for number, line in enumerate(output.splitlines(), 1):
        try:
            found.append(decode(BootRecord, json.loads(line), f"record {number}"))
        except (ValueError, RecursionError, DecodeError) as error:
            log.get().warning("a record of an earlier boot cannot be read", error=one_line(str(error)))
    return found
