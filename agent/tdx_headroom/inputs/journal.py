# SPDX-License-Identifier: Apache-2.0
"""Earlier boots of this host, from its journal, with the rights of whoever asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

from tdx_headroom.child import child_environment
from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.journal_boots import JournalBoots

if TYPE_CHECKING:
    from tdx_headroom.sources.kernel_log.records import BootLog

FIELDS = "MESSAGE,PRIORITY,SYSLOG_FACILITY,_TRANSPORT,_BOOT_ID,_SOURCE_MONOTONIC_TIMESTAMP"
COMMAND = (
    *("journalctl", "_TRANSPORT=kernel", "--output=json", f"--output-fields={FIELDS}"),
    *("--no-pager", "--quiet"),
)
SECONDS = 60.0
MAX_LINE = 1 << 20


def boots_in_journal(seconds: float = SECONDS) -> list[BootLog]:
    """All boots of which the journal has kernel records, the present one too; none without a journal.

    It is read as a stream: of 500 MB only what matters of each boot is ever in memory.

    Args:
        seconds: what was read by then counts: journalctl begins with the oldest boot.

    Raises:
        SourceError: journalctl cannot be run, or prints no JSON.
    """
    program = shutil.which(COMMAND[0])
    if program is None:
        return []
    try:
        process = subprocess.Popen(  # noqa: S603  a program of the system, and nothing from outside
            [program, *COMMAND[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            cwd="/",
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as error:
        raise SourceError("journal", f"{program} cannot be run: {os.strerror(error.errno or 0)}") from None

    clock = threading.Timer(seconds, process.kill)
    clock.start()
    boots = JournalBoots()
    try:
        if process.stdout is not None:
            with process.stdout as output:
                begun = False
                while line := output.readline(MAX_LINE):
                    # What is longer is no record of the kernel's, and neither is the rest of it.
                    whole = line.endswith("\n")
                    if whole and not begun:
                        boots.add(line)
                    begun = not whole
    finally:
        clock.cancel()
        process.kill()
        process.wait()
    return boots.boots
