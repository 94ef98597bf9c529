# SPDX-License-Identifier: Apache-2.0
"""Kernel logs in JSON: the journal's, which tells who wrote a record, and dmesg's, which does not."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.known_lines import is_unread, matters
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, BootLog, KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.steps import Steps, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SOURCE = "log"

# journalctl -o json-seq and json-sse
_SEPARATOR = re.compile(r"^(?:\x1e|data: (?=\{))")
_VERBOSE = re.compile(r"\S[^\[]{0,60} \[s=[0-9a-f]+;i=[0-9a-f]+;[^\]]*\]")
# A value with line breaks follows its name in binary form (JOURNAL_EXPORT_FORMATS.md): it is left out.
_FIELD = re.compile(r"(?:    )?(_{0,2}[A-Z][A-Z0-9_]*)(?:=(.*))?")
_NUMBER = re.compile(r"[0-9]{1,18}")


def is_json(first: str) -> bool:
    """Whether a log whose first line this is may be one in JSON."""
    return _SEPARATOR.sub("", first).startswith("{")


def parse_json(lines: Sequence[str]) -> list[BootLog]:
    """The boots of ``journalctl -o json`` (an object a line) or ``dmesg --json`` (one object in all).

    Raises:
        SourceError: it is neither.
    """
    lines = [_SEPARATOR.sub("", line) for line in lines]
    stripped = "\n".join(lines).strip()
    try:
        whole = json.loads(stripped)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("dmesg"), list):
        return [BootLog(_from_dmesg_json(whole["dmesg"]))]
    return _from_entries(_entries(lines))


def _from_dmesg_json(entries: list[Any]) -> KernelLog:
    """Records of ``dmesg --json``; never verified.

    With ``-S`` each line of a message is an entry of its own, and nothing tells that. With -x the facility
    is named; a number alone may be mangled, and proves nothing if it is small.
    """
    records: list[LogRecord] = []
    untrusted = []
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        message = _message(entry.get("msg"))
        if message is None:
            continue
        priority, facility, time = entry.get("pri", 0), entry.get("fac"), entry.get("time")
        if facility not in (None, "kern") or (isinstance(priority, int) and priority >= KERNEL_FACILITY_END):
            untrusted.append(message)
        else:
            clock = round(time * 1e6) if isinstance(time, int | float) and 0 <= time < 1e12 else None
            records.append(LogRecord(message, time=clock))
    if steps(record.time for record in records if record.time is not None).fall_throughout:
        records.reverse()
    return _unverified(KernelLog(tuple(records), untrusted=tuple(untrusted)))


def _unverified(log: KernelLog) -> KernelLog:
    """A log that anybody may have written to, with what of it is about TDX and not understood."""
    unread = tuple(record.text for record in log.records if is_unread(record.text))
    return replace(log, verified=False, unread=unread)


def is_export(first: str) -> bool:
    """Whether a log whose first line this is may be one of ``journalctl -o export`` or ``-o verbose``."""
    return first.startswith("__CURSOR=") or _VERBOSE.fullmatch(first) is not None


def parse_export(lines: Sequence[str]) -> list[BootLog]:
    """The boots of ``journalctl -o export`` or ``-o verbose``: a field a line.

    Never verified: in a message with line breaks, a line may look like another field, or entry.
    """
    return [boot._replace(log=_unverified(boot.log)) for boot in _from_entries(_fields(lines))]


def _fields(lines: Sequence[str]) -> Iterator[dict[str, str]]:
    entry: dict[str, str] = {}
    for line in lines:
        if _VERBOSE.fullmatch(line) or not line.strip():
            if "MESSAGE" in entry or not line.strip():
                yield entry
            entry = {}
        elif field := _FIELD.fullmatch(line):
            entry.setdefault(field[1], field[2] or "")
    yield entry


def _from_entries(entries: Iterable[Any]) -> list[BootLog]:
    """Kernel records of every boot, of entries of the journal; the boot of the last record is the last one.

    journald marks records that user space wrote to /dev/kmsg as the kernel's too: the facility tells.
    """
    runs: list[_Run] = []
    verified = True
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("_TRANSPORT", "kernel") != "kernel":
            continue
        verified = verified and "_TRANSPORT" in entry and "SYSLOG_FACILITY" in entry
        message = _message(entry.get("MESSAGE"))
        if message is None:
            continue
        if not runs or entry.get("_BOOT_ID") != runs[-1].boot:
            runs.append(_Run(entry.get("_BOOT_ID")))
        runs[-1].entries.append(
            _Entry(
                message,
                str(entry.get("SYSLOG_FACILITY", "0")) == "0",
                _number(entry.get("_SOURCE_MONOTONIC_TIMESTAMP")),
                _number(entry.get("__MONOTONIC_TIMESTAMP")),
                _number(entry.get("__REALTIME_TIMESTAMP")),
            )
        )
    boots: list[BootLog] = []
    for run in _oldest_first(runs):
        if boots and not any(matters(record.text) for record in boots[-1].log.records):
            boots.pop()
        boots.append(run.log(earlier=len(boots), verified=verified))
    return boots or [BootLog(KernelLog((), verified=verified))]


class _Entry(NamedTuple):
    """What counts of an entry of the kernel's log.

    Args:
        text: the message.
        ours: whether the kernel wrote it.
        time: microseconds since the boot, by the kernel.
        received: the same by journald, in whose order the journal is.
        wall: microseconds since the epoch.
    """

    text: str
    ours: bool
    time: int | None
    received: int | None
    wall: int | None


@dataclass(slots=True)
class _Run:
    """Entries of one boot that stand together."""

    boot: object
    entries: list[_Entry] = field(default_factory=list)

    def steps(self) -> Steps:
        """How its entries go on in time; what the wall clock says counts only where there is no other."""
        for clock in zip(*((entry.received, entry.time, entry.wall) for entry in self.entries), strict=True):
            if found := [time for time in clock if time is not None]:
                return steps(found)
        return Steps(0, 0)

    def log(self, earlier: int, *, verified: bool) -> BootLog:
        """It as the log of a boot that so many were before."""
        records = tuple(LogRecord(entry.text, time=entry.time) for entry in self.entries if entry.ours)
        untrusted = tuple(entry.text for entry in self.entries if not entry.ours)
        log = KernelLog(records, untrusted=untrusted, earlier=earlier, verified=verified)
        began = _began(self.entries[0].wall, self.entries[0].received)
        return BootLog(log, self.boot if isinstance(self.boot, str) else None, began)


def _oldest_first(runs: list[_Run]) -> list[_Run]:
    """Boots in the order of time, and so the entries of each, where the newest came first.

    A clock that was put back shows in the time of day, and in the order of boots: neither counts as long as
    the time since the boot goes on.
    """
    found = [run.steps() for run in runs]
    for run, of_run in zip(runs, found, strict=True):
        if of_run.fall_throughout:
            run.entries.reverse()
    if not any(one.fall_throughout for one in found) or any(
        one.rises and not one.fall_throughout for one in found
    ):
        return runs
    by_clock = steps(wall for run in runs if (wall := run.entries[0].wall) is not None)
    return runs[::-1] if by_clock.falls >= by_clock.rises else runs


def wall_clock(entry: Mapping[str, object]) -> float | None:
    """When the entry's boot began, in seconds since the epoch, by the clock at the entry's time."""
    return _began(_number(entry.get("__REALTIME_TIMESTAMP")), _number(entry.get("__MONOTONIC_TIMESTAMP")))


def _began(wall: int | None, since: int | None) -> float | None:
    return None if wall is None or since is None else (wall - since) / 1e6


def _number(value: object) -> int | None:
    """A number as the journal writes it, in a string, or as programs make it, without one."""
    return int(text) if _NUMBER.fullmatch(text := str(value)) else None


def _entries(lines: Sequence[str]) -> Iterator[Any]:
    """JSON values: one a line, or each from a line `{` to a line `}` (``journalctl -o json-pretty``)."""
    begun = 0
    for number, line in enumerate(lines, 1):
        if line == "{" and not begun:
            begun = number
        if not line.strip() or (begun and line != "}"):
            continue
        first, begun = begun or number, 0
        try:
            value = json.loads("\n".join(lines[first - 1 : number]))
        except (ValueError, RecursionError):
            text = lines[first - 1]
            raise SourceError(SOURCE, "not a journal entry in JSON", line=first, text=text) from None
        yield value
    if begun:
        text = lines[begun - 1]
        raise SourceError(SOURCE, "not a journal entry in JSON", line=begun, text=text)


def _message(value: object) -> str | None:
    """A message as one line; the journal gives one that is not UTF-8 as a list of bytes."""
    if isinstance(value, list) and all(isinstance(b, int) and 0 <= b < 256 for b in value):
        value = bytes(value).decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        return None
    # One entry is one record, whatever line breaks it holds: they must not start a line of their own.
    return value.strip().replace("\n", "\\x0a") or None


Record = tuple[int, int, str]
"""Priority (facility x 8 + level, as in ``/dev/kmsg``), microseconds since boot, text."""


class JournalReader(ABC):
    """Takes in ``journalctl --output=json`` line by line: it may be long."""

    def __init__(self) -> None:
        self._lines = 0

    def add(self, line: str) -> None:
        """Take one line in.

        Raises:
            SourceError: it is no JSON.
        """
        self._lines += 1
        found = _journal_line(line, self._lines)
        if found is not None:
            self.take(*found)

    @abstractmethod
    def take(self, entry: dict[str, Any], record: Record | None) -> None:
        """Take an entry of the kernel's in, with the record that it is, if it is one."""


class JournalEntries(JournalReader):
    """Records of the last boot.

    Attributes:
        found: in their order. Entries without a kernel time are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Record] = []
        self._boot: object = None

    def take(self, entry: dict[str, Any], record: Record | None) -> None:
        """Keep a record, and none of the boot before its own."""
        if record is None:
            return
        if entry.get("_BOOT_ID") != self._boot:
            self._boot = entry.get("_BOOT_ID")
            self.found.clear()
        self.found.append(record)


def _journal_line(line: str, number: int) -> tuple[dict[str, Any], Record | None] | None:
    """A line of ``journalctl --output=json``: the entry, and what it is a record of; None: not the kernel's.

    journald marks records that user space wrote to /dev/kmsg as the kernel's too: the facility tells. The
    record is None where the entry has no such thing, as in a damaged file, or says nothing.

    Args:
        line: one entry.
        number: of the line, for the error.

    Raises:
        SourceError: it is no JSON.
    """
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise SourceError("journal", "not a journal entry in JSON", line=number, text=line) from None
    if not isinstance(entry, dict) or entry.get("_TRANSPORT") != "kernel":
        return None
    message = _message(entry.get("MESSAGE"))
    # journald writes all of them with each record of the kernel's log: without its facility it is nobody's.
    facility, level, time = (
        str(entry.get(key)) for key in ("SYSLOG_FACILITY", "PRIORITY", "_SOURCE_MONOTONIC_TIMESTAMP")
    )
    if message is None or not all(map(_NUMBER.fullmatch, (facility, level, time))):
        return entry, None
    return entry, (int(facility) * 8 + int(level), int(time), message)
