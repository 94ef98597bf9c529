# SPDX-License-Identifier: Apache-2.0
"""A kernel log without anything private: what the agent understands is kept, all else leaves only a mark.

The kernel prints names, serial numbers, addresses of devices, disks' UUIDs; user space writes what it likes.
So nothing is looked for and struck out: a message is kept when it matches a known form as a whole, and then
only in the parts that the agent reads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError, one_line
from tdx_headroom.facts.record_file import FIRMWARE_VERSION
from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.known_lines import is_unread_of_kvm, unread_of
from tdx_headroom.sources.kernel_log.records import KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.tdx_lines import LOOKS_LIKE_TDX, match_tdx_line, may_hide_failure
from tdx_headroom.sources.kernel_log.text import parse_log_text
from tdx_headroom.sources.platform import relevant_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "(redacted)"
LOST_MARK = f"{MARK} mem 0x"
"""A line without a prefix, in text, that is a row of a list and could not be read."""
FORGED_MARK = "virt/tdx: (written by user space, redacted)"
_UNREAD_MARKS = (
    "virt/tdx: (not understood, redacted)",
    "virt/tdx: (maybe a failure, redacted)",
)
"""What stands for a line that mentions TDX and could not be read: it reads back as such a one."""
_KVM_MARK = "kvm_intel: TDX: (not understood, redacted)"
"""The same of KVM's, where it is a record like others."""

# Kept as they are: all that they hold is numbers and words of the kernel's own.
_PLAIN = (
    boot_lines.NODE_HEAD,
    boot_lines.NODE_RANGE,
    boot_lines.NODE_CPUS,
    boot_lines.E820_HEAD,
    boot_lines.E820_GAP,
    boot_lines.FAKE_NODE,
    boot_lines.ZONE_HEAD,
    boot_lines.ZONE_EMPTY,
    boot_lines.MOVABLE_HEAD,
    boot_lines.MOVABLE,
    boot_lines.CRASH_KERNEL,
    boot_lines.HUGETLB,
    boot_lines.RUNNING,
    boot_lines.CPU,
    boot_lines.TME_OFF,
)
_ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")
_SRAT_FLAGS = {"hotplug", "non-volatile"}


def redacted(log: KernelLog) -> KernelLog:
    """The log with the same lists, whole or not, the same losses and the same outcome.

    Records in a row that leave only a mark become one. Sequence numbers are counted anew, with gaps where
    records were lost.
    """
    forged = sum(1 for text in log.untrusted if LOOKS_LIKE_TDX.match(text))
    records: list[LogRecord] = []
    gaps = set()
    seq = forged - 1
    left = log.lost
    for index, record in enumerate(log.records[log.begun :], log.begun):
        torn = index in log.gaps
        if torn:
            gaps.add(len(records))
        text = keep(record.text) or _mark(log, record.text)
        if text == MARK and records and records[-1].text == MARK and not torn:
            # Of the last of these: a line that seems to belong to it is told from it by its time.
            records[-1] = records[-1]._replace(time=record.time)
            continue
        # One is missing at every place where records were lost, and all others at the last one.
        missing = (left if index >= max(log.gaps) else 1) if torn else 0
        seq += 1 + missing
        left -= missing
        records.append(LogRecord(text, seq if record.seq is not None else None, record.time))
    if len(log.records) in log.gaps and records:
        # Behind these only user space's records were left.
        records.append(LogRecord(MARK, seq + 1 + left, records[-1].time))
    return KernelLog(
        tuple(records),
        log.lost,
        (FORGED_MARK,) * forged,
        log.forged,
        verified=log.verified,
        cut=log.cut,
        loose=tuple(text for text in log.loose if match_tdx_line(text)),
        contradictions=log.contradictions,
        gaps=frozenset(gaps),
        unread=() if log.verified else tuple(map(unread_mark, unread_of(log))),
        excerpt=log.excerpt,
    )


def _mark(log: KernelLog, text: str) -> str:
    """What is left of a record of which nothing may be shown; in text, what is unread stands apart."""
    return _KVM_MARK if log.verified and is_unread_of_kvm(text) else MARK


def unread_mark(text: str) -> str:
    """What stands for a line that could not be read."""
    return _UNREAD_MARKS[may_hide_failure(text)]


def keep(text: str) -> str | None:
    """A message as far as it may be shown to anybody; None when nothing of it may."""
    if match_tdx_line(text) is not None:
        return text
    stripped = text.strip()
    if any(pattern.fullmatch(stripped) for pattern in _PLAIN):
        return stripped
    if match := boot_lines.E820_ROW.fullmatch(stripped):
        return stripped if boot_lines.E820_TYPES.fullmatch(match[4]) else None
    if match := boot_lines.SRAT.fullmatch(stripped):
        return stripped if set(match[4].split()) <= _SRAT_FLAGS else None
    if match := boot_lines.ZONE.fullmatch(stripped):
        return stripped if match[1] in _ZONES else None
    if match := boot_lines.VERSION.fullmatch(stripped):
        return f"Linux version {match[1]} {MARK}"
    if match := boot_lines.COMMAND_LINE.fullmatch(stripped):
        return f"{stripped[: match.start(2)].rstrip()} {' '.join(_arguments(match[2]))}"
    if match := boot_lines.BIOS.fullmatch(stripped):
        return f"DMI: {MARK}, BIOS {match[1]} {match[2]}" if FIRMWARE_VERSION.fullmatch(match[1]) else None
    if match := boot_lines.BOOT_IMAGE.fullmatch(stripped):
        return f"BOOT_IMAGE=/vmlinuz-{match[1]}"
    return None


def _arguments(command_line: str) -> Iterator[str]:
    if image := boot_lines.BOOT_IMAGE.search(command_line):
        yield f"BOOT_IMAGE=/vmlinuz-{image[1]}"
    elif command_line.startswith("BOOT_IMAGE="):
        yield f"BOOT_IMAGE={MARK}"
    yield from relevant_arguments(command_line)


def as_kmsg(log: KernelLog) -> str:
    """The log as records of ``/dev/kmsg``, for one that has sequence numbers."""
    lines = [f"12,{i},0,-;{text}" for i, text in enumerate(log.untrusted)]
    lines += [f"6,{r.seq},{r.time or 0},-;{r.text}" for r in log.records]
    return "".join(f"{line}\n" for line in lines)


def as_text(log: KernelLog) -> str:
    """The log as ``dmesg`` prints it; lines of processes with their facility, so that they stay theirs."""
    lines = [f"user  :warn  : [    0.000000] {text}" for text in log.untrusted]
    for index, record in enumerate(log.records):
        if index in log.gaps and not log.verified:
            lines.append(LOST_MARK)
        lines.append(f"{_stamp(record)} {one_line(record.text, 1000)}")
    # Most of an excerpt is other text.
    prose = [MARK] * (len(log.records) + 1) if log.excerpt else []
    return "\n".join([*lines, *log.loose, *log.unread, *prose]) + ("" if log.cut else "\n")


def _stamp(record: LogRecord) -> str:
    """The record's time. Where there was none must be none, or a boot would seem to begin."""
    return "[..]" if record.time is None else f"[{record.time / 1e6:12.6f}]"


def as_journal(log: KernelLog) -> str:
    """The log as ``journalctl -o json`` prints it: there an entry is a record, whatever its words."""
    kernel = {"_TRANSPORT": "kernel"} if log.verified else {}
    entries = [{**kernel, "SYSLOG_FACILITY": "1", "MESSAGE": text} for text in log.untrusted]
    for record in log.records:
        entries.append({**kernel, "SYSLOG_FACILITY": "0", "MESSAGE": one_line(record.text, 1000)})
        if record.time is not None:
            entries[-1]["_SOURCE_MONOTONIC_TIMESTAMP"] = str(record.time)
    return "".join(f"{json.dumps(entry)}\n" for entry in entries)


def as_saved(log: KernelLog) -> str:
    """The log in the first of its forms that reads back as the same.

    In text words may mean more than they did where the log came from: a second ``Linux version`` begins
    another boot there, and who wrote a line may be lost.
    """
    for form in (as_text, as_journal):
        text = form(log)
        try:
            again = parse_log_text(text)
        except SourceError:
            continue
        if _essence(again) == _essence(log):
            return text
    # Neither can say all of it, such as that the last record of a journal may be cut.
    return as_journal(log)


def _essence(log: KernelLog) -> tuple[object, ...]:
    texts = tuple(one_line(record.text, 1000) for record in log.records)
    doubts = log.loose, log.contradictions, sorted(log.unread), log.excerpt
    return texts, len(log.untrusted), log.verified, log.cut, doubts
