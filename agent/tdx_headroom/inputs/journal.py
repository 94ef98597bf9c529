# SPDX-License-Identifier: Apache-2.0
"""Earlier boots of this host, from its journal, with the rights of whoever asks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tdx_headroom.child import child_environment
from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.journal_boot import JournalBoot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

    from tdx_headroom.sources.kernel_log.records import BootLog

SECONDS = 60.0
MAX_BOOTS = 65
"""This one, and as many before it as an agent keeps."""

MAX_LINE = 1 << 20

_PROGRAM = "journalctl"
_KERNEL = ("_TRANSPORT=kernel", "--no-pager", "--quiet")
# systemd 247 is the first whose `cat` prints a field that is no message. `--list-boots` ends where it meets a
# boot again, as after a clock was put back (github.com/systemd/systemd/pull/4278).
_IDS = (*_KERNEL, "--reverse", "--output=cat", "--output-fields=_BOOT_ID")
_FIELDS = "MESSAGE,PRIORITY,SYSLOG_FACILITY,_TRANSPORT,_BOOT_ID,_SOURCE_MONOTONIC_TIMESTAMP"
_ENTRIES = (*_KERNEL, "--output=json", f"--output-fields={_FIELDS}")
_ID = re.compile(r"[0-9a-f]{32}")


def boots_in_journal(seconds: float = SECONDS) -> list[BootLog]:
    """The newest boots of which the journal has kernel records, this one too, oldest first.

    One after the other is read as a stream, the newest first, so that it is the oldest that a short time or
    the limit leaves out. Of a boot only what matters is ever in memory, however long its log is.

    Args:
        seconds: so long it may take. A boot that was not read to its end by then is left out: what TDX did
            after that is not known.

    Returns:
        None of them without journalctl, or without a journal.

    Raises:
        SourceError: journalctl cannot be run, or prints something else than it was asked for.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        return []
    end = time.monotonic() + seconds
    boots: list[BootLog] = []
    with _running(program, _IDS, end) as process:
        for boot_id in _different_ids(process):
            boot = _read_boot(program, boot_id, end)
            if boot is None:
                break
            boots.append(boot)
            if len(boots) == MAX_BOOTS:
                break
    return boots[::-1]


def _different_ids(process: Popen[str]) -> Iterator[str]:
    """Ids of boots, each at its newest record; journalctl goes no further back than it is read."""
    seen: set[str] = set()
    others = False
    for line in _lines(process):
        boot_id = line.rstrip("\n")
        if boot_id not in seen and _ID.fullmatch(boot_id):
            seen.add(boot_id)
            yield boot_id
        # One is a damaged file's.
        others = others or boot_id not in seen
    if others and not seen:
        raise SourceError("journal", "journalctl prints no ids of boots: it needs systemd 247 or later")


def _read_boot(program: str, boot_id: str, end: float) -> BootLog | None:
    """One boot; None where journalctl was stopped, or ended with an error, before it had told all."""
    boot = JournalBoot(boot_id)
    with _running(program, (*_ENTRIES, f"_BOOT_ID={boot_id}"), end) as process:
        boot.add_all(_lines(process))
        return boot.log if process.wait() == 0 else None


def _lines(process: Popen[str]) -> Iterator[str]:
    """The lines that it prints; what is too long is no record of the kernel's, and neither is its rest."""
    begun = False
    while process.stdout is not None and (line := process.stdout.readline(MAX_LINE)):
        whole = line.endswith("\n")
        if whole and not begun:
            yield line
        begun = not whole


@contextmanager
def _running(program: str, arguments: tuple[str, ...], end: float) -> Iterator[Popen[str]]:
    """Journalctl, which is killed when its time has come, or nobody reads it any more."""
    try:
        process = subprocess.Popen(  # noqa: S603  a program of the system; ids of boots are checked
            [program, *arguments],
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
    clock = threading.Timer(max(end - time.monotonic(), 0), process.kill)
    clock.start()
    # It closes what it was read from, and waits.
    with process:
        try:
            yield process
        finally:
            clock.cancel()
            process.kill()
