# SPDX-License-Identifier: Apache-2.0
"""``/dev/kmsg``: the kernel's log, record by record (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re
import stat
from time import monotonic
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.steps import steps
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE = "kmsg"
PATH = "dev/kmsg"

MAX_RECORD = 1 << 16
"""Larger than any record: a short buffer would make the kernel answer EINVAL."""

MAX_SECONDS = 10.0
"""For a whole log: one that grows faster than it is read has no end."""

MAX_READ = 64 << 20
"""Bytes of records that are held in memory; ring buffers have 128 KiB to 16 MiB."""

HEAD = r"([0-9]{1,10}),([0-9]{1,20}),([0-9]{1,20}),[^;]*;"
RECORD = re.compile(HEAD + r"(.*)", re.DOTALL)
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2})+")


def parse_kmsg(text: str) -> KernelLog:
    """The log in a captured ``/dev/kmsg``: a record a line, continuation lines begin with a blank.

    Raises:
        SourceError: a line is neither.
    """
    records = []
    for number, line in enumerate(lines_of(text), 1):
        if line.startswith(" ") or not line:
            continue
        try:
            records.append(parse_kmsg_record(line))
        except SourceError as error:
            raise SourceError(SOURCE, error.reason, line=number, text=line) from None
    # tac(1) prints the newest first; the kernel counts its records.
    turned = steps(seq for _, seq, _, _ in records).fall_throughout
    return collect(records[::-1] if turned else records, 0)


def parse_kmsg_record(record: str) -> tuple[int, int, int, str]:
    """Priority, sequence number, time and text of one record; its continuation lines are dropped.

    The time is in microseconds since the boot.

    Raises:
        SourceError: it is no record ``prio,seq,timestamp,flags;text``.
    """
    match = RECORD.fullmatch(record.split("\n", 1)[0])
    if match is None:
        raise SourceError(SOURCE, "not a record `prio,seq,time,flags;text`", text=record)
    priority, seq, time, text = match.groups()
    return int(priority), int(seq), int(time), _ESCAPES.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    """Escaped bytes as the printable characters they stand for; all others stay escaped.

    A line break in a process name must not become one here.
    """
    raw = bytes.fromhex(match[0].replace("\\x", ""))
    decoded = raw.decode("utf-8", "backslashreplace")
    return decoded if decoded.isprintable() and "\\" not in decoded else match[0]


def collect(records: Iterable[tuple[int, int, int, str]], overwritten: int) -> KernelLog:
    """A log from ``(priority, seq, time, text)``: the kernel's records apart from all others, gaps counted.

    Args:
        records: in the order in which they were read.
        overwritten: how often the kernel said that records are gone (EPIPE).
    """
    kept: list[LogRecord] = []
    untrusted = []
    lost = 0
    gaps = set()
    expected: int | None = None
    for priority, seq, time, text in records:
        if expected is not None and seq > expected:
            lost += seq - expected
            gaps.add(len(kept))
        expected = seq + 1
        if priority < KERNEL_FACILITY_END:
            kept.append(LogRecord(text, seq, time))
        else:
            untrusted.append(text)
    return KernelLog(
        tuple(kept), max(lost, overwritten), tuple(untrusted), verified=True, gaps=frozenset(gaps)
    )


def read_kmsg_device(fd: int) -> KernelLog:
    """All records that a non-blocking descriptor of ``/dev/kmsg`` still has.

    Of a log that grows faster than it is read, those that come in ``MAX_SECONDS``, at most ``MAX_READ``;
    what comes after them counts as lost.

    Raises:
        SourceError: reading fails for another reason than overwritten records or the end.
    """
    records = []
    overwritten = 0
    size = 0
    end = monotonic() + MAX_SECONDS
    while True:
        if size > MAX_READ or monotonic() > end:
            overwritten += 1
            break
        try:
            data = os.read(fd, MAX_RECORD)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno == errno.EPIPE:
                overwritten += 1
                continue
            raise SourceError(SOURCE, f"/dev/kmsg: {os.strerror(error.errno or 0)}") from None
        if not data:
            break
        size += len(data)
        records.append(parse_kmsg_record(data.decode("utf-8", "backslashreplace")))
    return collect(records, overwritten)


def is_device(fd: int) -> bool:
    """Whether the descriptor is a character device, as the live ``/dev/kmsg`` is."""
    return stat.S_ISCHR(os.fstat(fd).st_mode)
