# SPDX-License-Identifier: Apache-2.0
"""Records of earlier boots from the journal, for an agent that was not there."""

from __future__ import annotations

import json
import os

from tdx_headroom import log
from tdx_headroom.child import child_command
from tdx_headroom.errors import one_line
from tdx_headroom.facts.boot_record import BootRecord
from tdx_headroom.facts.codec import DecodeError, decode
from tdx_headroom.service.bounded_child import TooMuchOutput, run_child

SECONDS = 90.0
MAX_OUTPUT = 8 << 20


async def earlier_boots() -> list[BootRecord]:
    """As far as the journal tells; none where it cannot be read, which is logged.

    A process of its own reads it: what it needs of memory is given back, and serving does not wait for it.
    """
    output: list[bytes] = []
    command = child_command("cli", ["take-history"])
    try:
        ended = await run_child(command, output.append, seconds=SECONDS, most=MAX_OUTPUT)
    except TimeoutError:
        problem = f"it took more than {SECONDS:.0f} s"
    except TooMuchOutput:
        problem = f"they are more than {MAX_OUTPUT >> 20} MiB"
    except OSError as error:
        problem = f"no process to read them: {os.strerror(error.errno or 0)}"
    else:
        if ended.status == 0:
            return parse_records(b"".join(output))
        problem = ended.said.strip() or f"the process that reads them ended with status {ended.status}"
    log.get().warning("earlier boots are not known", error=one_line(problem))
    return []


def parse_records(output: bytes) -> list[BootRecord]:
    """The records that the process has printed; what is none is left out, and logged."""
    found: list[BootRecord] = []
    for number, line in enumerate(output.splitlines(), 1):
        try:
            found.append(decode(BootRecord, json.loads(line), f"record {number}"))
        except (ValueError, RecursionError, DecodeError) as error:
            log.get().warning("a record of an earlier boot cannot be read", error=one_line(str(error)))
    return found
