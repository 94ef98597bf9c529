# SPDX-License-Identifier: Apache-2.0
"""Kernel logs in JSON: the journal's, which tells who wrote a record, and dmesg's, which does not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.sources.kernel_log.json_text import Foreign, values
from tdx_headroom.sources.kernel_log.known_lines import is_unread, matters
from tdx_headroom.sources.kernel_log.machines import refuse_several
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, BootLog, KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.steps import Steps, steps
from tdx_headroom.sources.kernel_log.tdx_lines import match_tdx_line, mentions_tdx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_VERBOSE = re.compile(r"\S[^\[]{0,60} \[s=[0-9a-f]+;i=[0-9a-f]+;[^\]]*\]")
# A value with line breaks follows its name in binary form (JOURNAL_EXPORT_FORMATS.md): it is left out.
_FIELD = re.compile(r"(?:    )?(_{0,2}[A-Z][A-Z0-9_]*)(?:=(.*))?")
NUMBER = re.compile(r"[0-9]{1,18}")


_TEXTS = ("log", "message", "msg", "line", "text", "body", "_raw")
"""How programs that collect logs name a line of one: Docker, Elasticsearch, Loki, Splunk."""


def parse_json(lines: Sequence[str]) -> list[BootLog] | str | None:
    """The boots of ``journalctl -o json`` (an object a line) or ``dmesg --json`` (one object in all).

    Where parts of it are no JSON, anybody may have changed it: then it is not verified, and what was lost is
    a gap.

    Returns:
        A text instead where the objects hold lines of some log of another form; None where there is none.
    """
    found = values(lines)
    before = []
    for first in found:
        before.append(first)
        if isinstance(first, dict):
            break
    else:
        return None
    every = chain(before, found)
    if isinstance(first.get("dmesg"), list):
        every = chain(*(value["dmesg"] for value in every if isinstance(value, dict) and "dmesg" in value))
        return [BootLog(_from_dmesg_json(every))]
    if "pri" in first and "msg" in first:
        return [BootLog(_from_dmesg_json(every))]
    if "MESSAGE" not in first and any(isinstance(first.get(key), str) for key in _TEXTS):
        return "".join(f"{line}\n" for value in every for line in _text_in(value))
    return _from_entries(every)


def _text_in(value: object) -> Iterator[str]:
    """The line of a log that an object holds, or what stands in the place of one."""
    if isinstance(value, Foreign):
        yield value.text
    elif isinstance(value, dict):
        texts = (value.get(key) for key in _TEXTS)
        yield next((text for text in texts if isinstance(text, str)), "").removesuffix("\n")


def _from_dmesg_json(entries: Iterable[Any]) -> KernelLog:
    """Records of ``dmesg --json``; never verified.

    With ``-S`` each line of a message is an entry of its own, and nothing tells that. With -x the facility
    is named; a number alone may be mangled, and proves nothing if it is small.
    """
    kept: list[_Entry] = []
    untrusted = []
    foreign = []
    for entry in entries:
        if isinstance(entry, Foreign):
            foreign.append(entry.text)
            kept += [_LOST] * entry.lost
        if not isinstance(entry, dict):
            continue
        message = message_of(entry.get("msg"))
        if message is None:
            continue
        priority, facility, time = entry.get("pri", 0), entry.get("fac"), entry.get("time")
        if facility not in (None, "kern") or (isinstance(priority, int) and priority >= KERNEL_FACILITY_END):
            untrusted.append(message)
        else:
            clock = round(time * 1e6) if isinstance(time, int | float) and 0 <= time < 1e12 else None
            kept.append(_Entry(message, time=clock))
    if steps(entry.time for entry in kept if entry.time is not None).fall_throughout:
        kept.reverse()
    return _unverified(_of_entries(kept, tuple(untrusted)), foreign)


def _unverified(log: KernelLog, foreign: Iterable[str] = ()) -> KernelLog:
    """A log that anybody may have written to, with what of it is about TDX and not understood.

    Args:
        log: as it was read.
        foreign: texts that are none of its entries, and may be the rest of one.
    """
    others = [text.strip() for text in foreign]
    loose = tuple(text for text in others if match_tdx_line(text) is not None)
    unread = [record.text for record in log.records if is_unread(record.text)]
    unread += [text for text in others if mentions_tdx(text) and text not in loose]
    return replace(log, verified=False, unread=tuple(unread), loose=loose)


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
    runs: dict[str, _Run] = {}
    run: _Run | None = None
    leading: list[Foreign] = []
    machines: dict[str, None] = {}
    verified = True
    for entry in entries:
        if isinstance(entry, Foreign):
            verified = False
            (run.add if run else leading.append)(entry)
        if not isinstance(entry, dict) or entry.get("_TRANSPORT", "kernel") != "kernel":
            continue
        verified = verified and "_TRANSPORT" in entry and "SYSLOG_FACILITY" in entry
        message = message_of(entry.get("MESSAGE"))
        if message is None:
            continue
        if isinstance(machine := entry.get("_MACHINE_ID"), str):
            machines[machine] = None
        boot = entry.get("_BOOT_ID")
        if run is None or boot != run.boot:
            # Since a clock that was put back makes the journal show boots in turns, one may go on here. So it
            # does behind a damaged entry: no list goes on across that.
            went_on = runs.pop(str(boot), None)
            run = went_on or _Run(boot)
            if went_on:
                run.entries.append(_LOST)
            runs[str(boot)] = run
            for found in leading:
                run.add(found)
            leading.clear()
        run.entries.append(_Entry.of(entry, message))
    refuse_several(machines)
    boots: list[BootLog] = []
    for run in _oldest_first([*runs.values()]):
        if boots and not any(matters(record.text) for record in boots[-1].log.records):
            boots.pop()
        boots.append(run.boot_log(earlier=len(boots), verified=verified))
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
    ours: bool = True
    time: int | None = None
    received: int | None = None
    wall: int | None = None

    @classmethod
    def of(cls, entry: Mapping[str, object], message: str) -> _Entry:
        """What counts of an entry with this message."""
        return cls(
            message,
            str(entry.get("SYSLOG_FACILITY", "0")) == "0",
            _number(entry.get("_SOURCE_MONOTONIC_TIMESTAMP")),
            _number(entry.get("__MONOTONIC_TIMESTAMP")),
            _number(entry.get("__REALTIME_TIMESTAMP")),
        )


_LOST = _Entry("")


@dataclass(slots=True)
class _Run:
    """Entries of one boot, and what is between them."""

    boot: object
    entries: list[_Entry] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def add(self, found: Foreign) -> None:
        """Take in what is no entry."""
        self.foreign.append(found.text)
        if found.lost:
            self.entries.append(_LOST)

    def steps(self) -> Steps:
        """How its entries go on in time; what the wall clock says counts only where there is no other."""
        for clock in zip(*((entry.received, entry.time, entry.wall) for entry in self.entries), strict=True):
            if found := [time for time in clock if time is not None]:
                return steps(found)
        return Steps(0, 0)

    def boot_log(self, earlier: int, *, verified: bool) -> BootLog:
        """It as the log of a boot that so many were before."""
        untrusted = tuple(entry.text for entry in self.entries if not entry.ours)
        log = _of_entries((entry for entry in self.entries if entry.ours), untrusted)
        log = (
            replace(log, earlier=earlier, verified=True)
            if verified
            else _unverified(replace(log, earlier=earlier), self.foreign)
        )
        first = next(entry for entry in self.entries if entry is not _LOST)
        began = _began(first.wall, first.received)
        return BootLog(log, self.boot if isinstance(self.boot, str) else None, began)


def _of_entries(entries: Iterable[_Entry], untrusted: tuple[str, ...]) -> KernelLog:
    """A log of the kernel's entries, in which others were lost where the marks stand."""
    records: list[LogRecord] = []
    gaps = set()
    for entry in entries:
        if entry is _LOST:
            gaps.add(len(records))
        else:
            records.append(LogRecord(entry.text, time=entry.time))
    return KernelLog(tuple(records), untrusted=untrusted, gaps=frozenset(gaps))


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
    return int(text) if NUMBER.fullmatch(text := str(value)) else None


def message_of(value: object) -> str | None:
    """A message as one line; the journal gives one that is not UTF-8 as a list of bytes."""
    if isinstance(value, list) and all(isinstance(b, int) and 0 <= b < 256 for b in value):
        value = bytes(value).decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        return None
    # One entry is one record, whatever line breaks it holds: they must not start a line of their own.
    return value.strip().replace("\n", "\\x0a") or None
