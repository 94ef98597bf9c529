# SPDX-License-Identifier: Apache-2.0
"""Kernel logs as text: what dmesg(1), journalctl(1) and syslog daemons print.

Only the forms with a facility or a transport in them tell who wrote a line; anything read from the others
is unverified.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log import kmsg
from tdx_headroom.sources.kernel_log.book import matters
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, KernelLog, LogRecord
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "log"

# journalctl -o json-seq and json-sse
_SEPARATOR = re.compile(r"^(?:\x1e|data: (?=\{))")

# Colours, and what grep --color prints after each of them.
_ANSI = re.compile(r"\x1b\[[0-9;]*[mK]")
# journalctl and syslog daemons: date, host, program. Another program's line is no record of the kernel's.
# Weekdays and months are those of the user's locale: `Okt`, `juil.`, `7月`.
_SYSLOG = re.compile(
    r"""(?:\w{2,12}\.?\ +[0-9]{1,2}\ [0-9]{2}:[0-9]{2}:[0-9.]+              # Jul 10 20:50:19
      | [0-9-]{10}[T\ ][0-9:.]+(?:Z|\ ?[+-][0-9:]{4,6})?                 # 2024-07-10T20:50:19+0200
      | \w{1,12}\.?\ [0-9-]{10}\ [0-9:.]+\ (?:[A-Z]{2,5}|[+-][0-9]{2,4})  # Wed 2024-07-10 20:50:19 CEST
      | [0-9]{9,}\.[0-9]{6}                                              # 1720637419.123456
    )\ (?P<host>[^\s\[\]:]+)\ (?P<program>[^\s\[\]:]+)(?:\[[0-9]+\])?:\ ?(?P<text>.*)""",
    re.VERBOSE,
)
_SHORT_MONOTONIC = re.compile(r"\[ *[0-9]+\.[0-9]{6}(?: <[ 0-9.]{0,24}>)?\] [^\s\[\]:]+ kernel: (?P<text>.*)")
# dmesg -r: <priority>. dmesg -x: facility and level by name.
_PRIORITY = re.compile(r"<([0-9]{1,3})>")
_FACILITY = re.compile(
    r"(kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|res[0-9]+|local[0-7]) *:"
    r"(?:emerg|alert|crit|err|warn|notice|info|debug) *: ?"
)
_TIME = re.compile(
    r"""\[(?:\ *[0-9]+\.[0-9]+(?:\ <[^>\]]*>)?                           # [    1.630945], also of dmesg -d
      | \ *\+[0-9]+\.[0-9]+ | \ *<\ *[0-9.]+>                            # dmesg -H and --reltime
      | \w{2,12}\.?\ *[0-9]{1,2}\ [0-9]{2}:[0-9]{2}                      # [Jul10 20:50]
      | \w{1,12}\.?\ +\w{2,12}\.?\ +[0-9]{1,2}\ [0-9:]+\ [0-9]{4}(?:\ <[^>\]]*>)?  # dmesg -T
      | \.\.+                                                            # as documentation cuts it
    )\]\ ?
    | [0-9-]{10}T[0-9:]+,[0-9]+[+-][0-9:]+\ ?                            # dmesg --time-format iso""",
    re.VERBOSE,
)
# What grep -n, cat -n, and programs that log a serial console put before a line that begins with its time.
_NUMBERED = re.compile(
    r"(?!\[ *[0-9]+\.[0-9]+\])[][0-9:.,TZ+-][][0-9:.,TZ \t+-]{0,40}?\s*(?=\[ *[0-9]+\.[0-9]{6}\])"
)
_FENCE = "```"
_CALLER = re.compile(r"\[ *[TC][0-9]+\] ?")
_NUMBER = re.compile(r"[0-9]{1,18}")
_BOOT_MARK = re.compile(r"-- (?:Reboot --|Boot [0-9a-f]{32}(?: --)?)")
_NEW_BOOT = re.compile(r"Linux version [0-9][^\s\[\]]* ?\(.*")
# A log that grep has been at has no version: a second one of these is another boot's, or a copy. They are
# longer than a process name, with which a record of the kernel's may begin.
_ONCE_A_BOOT = (
    "Command line: BOOT_IMAGE=",
    "virt/tdx: BIOS enabled: private KeyID range",
    "tdx: BIOS enabled: private KeyID range",
)
_COMMAND_LINES = 2


def parse_log_text(text: str) -> KernelLog:
    """The last boot's kernel records in a pasted or saved log, whatever its form.

    Raises:
        SourceError: it looks like JSON and is none.
    """
    # Editors and shells on Windows put a byte order mark in front.
    lines = lines_of(text.removeprefix("\ufeff"))
    first = next((line.strip() for line in lines if line.strip()), "")
    if _SEPARATOR.sub("", first).startswith("{"):
        return _parse_json([_SEPARATOR.sub("", line) for line in lines])
    if kmsg.RECORD.fullmatch(first):
        # Only when all of it has this form: a process could write such a line into a log of another.
        return replace(kmsg.parse_kmsg(text), cut=not text.endswith("\n"))
    boot = _Boot(_may_be_headless(first))
    all_verified = True
    stamped = kept = False
    for line in lines:
        if _BOOT_MARK.fullmatch(line.strip()):
            boot.begin()
            continue
        plain = _plain(line)
        message, trusted = _unprefixed(plain)
        bare = message in (None, plain)
        stamped = stamped or not bare
        kept = message is not None and not (bare and _is_no_record(message, stamped=stamped))
        if message is None or not kept:
            continue
        if trusted is False:
            boot.untrusted.append(message)
            continue
        if _NEW_BOOT.fullmatch(message):
            boot.begin()
        elif not bare and message.startswith(_ONCE_A_BOOT):
            boot.look_at(message, plain)
        all_verified = all_verified and trusted is True
        boot.records.append(LogRecord(message))
    return KernelLog(
        tuple(boot.records),
        untrusted=tuple(boot.untrusted),
        verified=all_verified and bool(boot.records),
        cut=kept and not text.endswith("\n"),
        headless=boot.headless and bool(boot.records),
        earlier=boot.earlier,
    )


@dataclass(slots=True)
class _Boot:
    """What a text has shown of the boot that is read, and how many were before it."""

    headless: bool
    records: list[LogRecord] = field(default_factory=list)
    untrusted: list[str] = field(default_factory=list)
    earlier: int = 0
    once: dict[str, str] = field(default_factory=dict)
    copied: int = -1

    def begin(self, kept: int = 0) -> None:
        """Forget all records but the last ``kept``: another boot begins."""
        first = len(self.records) - kept
        self.earlier += _tells(self.records[:first])
        del self.records[:first]
        self.untrusted.clear()
        self.once.clear()
        self.headless = False

    def look_at(self, message: str, line: str) -> None:
        """A line that comes once a boot: with another time, or other words, it is another boot's.

        Of the first line of all, the time is always 0: it goes with the next one that differs.
        """
        mark = next(mark for mark in _ONCE_A_BOOT if message.startswith(mark))
        if self.once.get(mark, line) != line:
            behind = len(self.records) - self.copied
            self.begin(behind if self.copied >= 0 and behind <= _COMMAND_LINES else 0)
        elif mark in self.once:
            self.copied = len(self.records)
        self.once[mark] = line


def _tells(records: list[LogRecord]) -> bool:
    """Whether these are of a boot, and no greeting above it."""
    return any(matters(record.text) for record in records)


def _is_no_record(message: str, *, stamped: bool) -> bool:
    """Whether a line without a prefix is what people write around a log, which shows no end of a list."""
    return message.startswith(_FENCE) or (stamped and not matters(message))


def _may_be_headless(line: str) -> bool:
    """Whether a first line may be the rest of one: no prefix, and it begins like no message that matters."""
    message, _ = strip_prefix(line)
    if message is None or message.startswith(_FENCE):
        return False
    return message == line.strip() and not matters(message)


def strip_prefix(line: str) -> tuple[str | None, bool | None]:
    """The kernel's message in a line, and who wrote it: True the kernel, False another, None unknown.

    The message is None when the line is another program's, or empty.
    """
    return _unprefixed(_plain(line))


def _unprefixed(text: str) -> tuple[str | None, bool | None]:
    if number := _NUMBERED.match(text):
        text = text[number.end() :]
    trusted: bool | None = None
    syslog = _SHORT_MONOTONIC.fullmatch(text) or _SYSLOG.fullmatch(text)
    if syslog is not None:
        if syslog.groupdict().get("program", "kernel") != "kernel":
            return None, None
        text = syslog["text"]
    elif priority := _PRIORITY.match(text):
        # util-linux 2.38 prints facility OR level: <14> may come out as <7>, a small number proves nothing.
        trusted = None if int(priority[1]) < KERNEL_FACILITY_END else False
        text = text[priority.end() :]
    elif facility := _FACILITY.match(text):
        trusted = facility[1] == "kern"
        text = text[facility.end() :]
    if time := _TIME.match(text):
        text = text[time.end() :]
    if caller := _CALLER.match(text):
        text = text[caller.end() :]
    text = text.strip()
    return text or None, trusted


def _plain(line: str) -> str:
    """A line without colours, marks of a quotation, and what a web page makes of blanks and ``>``."""
    text = _ANSI.sub("", line) if "\x1b" in line else line
    if "&" in text:
        text = text.replace("&gt;", ">").replace("&lt;", "<").replace("&nbsp;", " ")
    text = text.replace("\xa0", " ").strip()
    # Quoted perhaps more than once.
    return text.lstrip("> ") if text.startswith(">") else text


def _parse_json(lines: list[str]) -> KernelLog:
    """``journalctl -o json`` (an object a line) or ``dmesg --json`` (one object in all)."""
    stripped = "\n".join(lines).strip()
    try:
        whole = json.loads(stripped)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("dmesg"), list):
        return _from_dmesg_json(whole["dmesg"])
    return _from_journal_json(lines)


def _from_dmesg_json(entries: list[Any]) -> KernelLog:
    """With -x the facility is named; a number alone may be mangled, and proves nothing if it is small."""
    records: list[LogRecord] = []
    untrusted = []
    verified = True
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("msg"), str):
            continue
        priority, facility = entry.get("pri", 0), entry.get("fac")
        message = entry["msg"].strip()
        if facility not in (None, "kern") or (isinstance(priority, int) and priority >= KERNEL_FACILITY_END):
            untrusted.append(message)
        else:
            verified = verified and facility == "kern"
            records.append(LogRecord(message))
    return KernelLog(tuple(records), untrusted=tuple(untrusted), verified=verified)


def _from_journal_json(lines: list[str]) -> KernelLog:
    """Kernel records of the last boot in the journal's export.

    journald marks records that user space wrote to /dev/kmsg as the kernel's too: the facility tells.
    """
    records: list[LogRecord] = []
    untrusted: list[str] = []
    verified = True
    boot: object = None
    earlier = 0
    for entry in _entries(lines):
        if not isinstance(entry, dict) or entry.get("_TRANSPORT", "kernel") != "kernel":
            continue
        verified = verified and "_TRANSPORT" in entry
        message = _journal_message(entry.get("MESSAGE"))
        if message is None:
            continue
        if entry.get("_BOOT_ID") != boot:
            boot = entry.get("_BOOT_ID")
            earlier += _tells(records)
            records.clear()
            untrusted.clear()
        if str(entry.get("SYSLOG_FACILITY", "0")) == "0":
            records.append(LogRecord(message))
        else:
            untrusted.append(message)
    return KernelLog(tuple(records), untrusted=tuple(untrusted), verified=verified, earlier=earlier)


def _entries(lines: list[str]) -> Iterator[Any]:
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


def _journal_message(value: object) -> str | None:
    """A message as text; the journal gives one that is not UTF-8 as a list of bytes."""
    if isinstance(value, list) and all(isinstance(b, int) and 0 <= b < 256 for b in value):
        value = bytes(value).decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        return None
    # One entry is one record, whatever line breaks it holds: they must not start a line of their own.
    return value.strip().replace("\n", "\\x0a") or None


class JournalEntries:
    """Records of the last boot in ``journalctl -o json``, taken in line by line: it may be long.

    Attributes:
        found: ``(priority, microseconds since boot, text)``. The priority is facility x 8 + level, as in
            ``/dev/kmsg``. Entries without a kernel time are left out.
    """

    def __init__(self) -> None:
        self.found: list[tuple[int, int, str]] = []
        self._boot: object = None
        self._lines = 0

    def add(self, line: str) -> None:
        """Take one line in.

        Raises:
            SourceError: it is no JSON.
        """
        self._lines += 1
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise SourceError("journal", "not a journal entry in JSON", line=self._lines, text=line) from None
        if not isinstance(entry, dict) or entry.get("_TRANSPORT") != "kernel":
            return
        message = _journal_message(entry.get("MESSAGE"))
        facility, level, time = (
            str(entry.get(key, "0")) for key in ("SYSLOG_FACILITY", "PRIORITY", "_SOURCE_MONOTONIC_TIMESTAMP")
        )
        if message is None or not _NUMBER.fullmatch(facility + level) or not _NUMBER.fullmatch(time):
            return
        if entry.get("_BOOT_ID") != self._boot:
            self._boot = entry.get("_BOOT_ID")
            self.found.clear()
        self.found.append((int(facility) * 8 + int(level), int(time), message))
