# SPDX-License-Identifier: Apache-2.0
"""A boot's kernel log from the journal: this one's, when the ring buffer has forgotten its beginning."""

from __future__ import annotations

import os
import shutil

from tdx_headroom.errors import SourceError
from tdx_headroom.service.bounded_child import TooMuchOutput, run_child
from tdx_headroom.sources.kernel_log.journal_lines import JournalEntries

COMMAND = ("journalctl", "--dmesg", "--output=json", "--no-pager", "--quiet")
SECONDS = 20.0
MAX_OUTPUT = 128 << 20
MAX_LINE = 1 << 20


async def read_journal(boot: int = 0) -> list[tuple[int, int, str]] | None:
    """Kernel records of a boot as ``(priority, microseconds, text)``: 0 is this one, -1 the one before.

    None without a journal of it: there is no journalctl, or it ends with an error.

    Raises:
        SourceError: journalctl cannot be run, takes too long, says too much, or prints no JSON.
    """
    program = shutil.which(COMMAND[0])
    if program is None:
        return None
    command = [program, *COMMAND[1:], f"--boot={boot}"]
    lines = _Lines()
    try:
        ended = await run_child(command, lines.take, seconds=SECONDS, most=MAX_OUTPUT)
    except TimeoutError:
        raise SourceError("journal", f"journalctl took more than {SECONDS:.0f} s") from None
    except TooMuchOutput:
        raise SourceError("journal", f"more than {MAX_OUTPUT >> 20} MiB for one boot") from None
    except OSError as error:
        raise SourceError("journal", f"{program} cannot be run: {os.strerror(error.errno or 0)}") from None
    lines.close()
    return lines.entries.found if ended.status == 0 else None


class _Lines:
    """Takes entries line by line: as a whole they are more than the agent may take of memory."""

    def __init__(self) -> None:
        self.entries = JournalEntries()
        self._rest = b""

    def take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise SourceError("journal", f"a line of more than {MAX_LINE >> 20} MiB")
        for line in lines:
            self.entries.add(line.decode("utf-8", "backslashreplace"))

    def close(self) -> None:
        if self._rest:
            self.entries.add(self._rest.decode("utf-8", "backslashreplace"))
