# SPDX-License-Identifier: Apache-2.0
"""What programs print before a kernel message: dmesg(1), journalctl(1), syslog daemons, consoles, quotations.

A message may hold line breaks that a user chose. So besides the message this tells which prefixes a line has,
where they begin, and their times: a line that does not look like the others of its log is no record.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from tdx_headroom.sources.kernel_log.kmsg import RECORD
from tdx_headroom.sources.kernel_log.known_lines import matters as begins_like_kernels
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END
from tdx_headroom.textlines import without_sequences

BARE = ""
"""The form of a line without a prefix."""

PRIORITY = "priority"
"""How a form begins that has the priority before all else."""

JOURNAL = frozenset({"syslog", "monotonic"})
"""Forms of ``journalctl``: it indents what a message has after a line break, and says where a boot begins."""

# journalctl and syslog daemons: date, host, program. Another program's line is no record of the kernel's.
# Weekdays and months are those of the user's locale: `Okt`, `juil.`, `7月`.
_SYSLOG = re.compile(
    r"""(?P<stamp>\w{2,12}\.?\ +[0-9]{1,2}\ [0-9]{2}:[0-9]{2}:[0-9.]+      # Jul 10 20:50:19
      | [0-9-]{10}[T\ ][0-9:.]+(?:Z|\ ?[+-][0-9:]{4,6})?                 # 2024-07-10T20:50:19+0200
      | \w{1,12}\.?\ [0-9-]{10}\ [0-9:.]+\ (?:[A-Z]{2,5}|[+-][0-9]{2,4})  # Wed 2024-07-10 20:50:19 CEST
      | [0-9]{9,}\.[0-9]{6}                                              # 1720637419.123456
    )\ (?:(?P<host>[^\s\[\]:]+)\ (?P<program>[^\s\[\]:]+)(?:\[[0-9]+\])?|kernel):\ ?(?P<text>.*)""",
    re.VERBOSE,
)
_SHORT_MONOTONIC = re.compile(
    r"\[ *(?P<clock>[0-9]+\.[0-9]{6})(?: <[ 0-9.]{0,24}>)?\] (?:(?P<host>[^\s\[\]:]+) )?kernel: (?P<text>.*)"
)
_RFC5424 = re.compile(
    r"<(?P<priority>[0-9]{1,3})>1 (?P<stamp>\S+) (?P<host>\S+) (?P<program>\S+) \S+ \S+"
    r' (?:-|(?:\[(?:[^]"]|"(?:[^"\\]|\\.)*")*\])+)(?: \ufeff?(?P<text>.*))?'
)
# dmesg -r: <priority>. dmesg -x: facility and level by name.
_PRIORITY = re.compile(r"<(?P<priority>[0-9]{1,3})>")
_FACILITY = re.compile(
    r"(kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|res[0-9]+|local[0-7]) *:"
    r"(?:emerg|alert|crit|err|warn|notice|info|debug) *: ?"
)
_TIME = re.compile(
    r"""\[(?:\ *(?P<clock>[0-9]+\.[0-9]+)(?:\ <[^>\]]*>)?                # [    1.630945], also of dmesg -d
      | (?P<human>\ *\+[0-9]+\.[0-9]+ | \ *<\ *[0-9.]+>                  # dmesg -H and --reltime
      | \w{2,12}\.?\ *[0-9]{1,2}\ [0-9]{2}:[0-9]{2})                     # [Jul10 20:50]
      | (?P<date>\w{1,12}\.?\ +\w{2,12}\.?\ +[0-9]{1,2}\ [0-9:]+\ [0-9]{4})(?:\ <[^>\]]*>)?  # dmesg -T
      | \.\.+ | \ *[X0-9]*X\.[X0-9]*X                                   # as documentation cuts it
    )\]\ ?
    | (?P<iso>[0-9-]{10}T[0-9:]+,[0-9]+[+-][0-9:]+)\ ?                   # dmesg --time-format iso""",
    re.VERBOSE,
)
# What grep -n, cat -n, and programs that log a serial console put before a line that begins with its time.
_NUMBERED = re.compile(
    r"(?!\[ *[0-9]+\.[0-9]+\])[][0-9:.,TZ+-][][0-9:.,TZ \t+-]{0,40}?\s*(?=\[ *[0-9]+\.[0-9]{6}\])"
)
_CALLER = re.compile(r"\[ *[TC][0-9]+\] ?")
_OF_DAY = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2}(?:[.,][0-9]+)?)")
_UNIX = re.compile(r"[0-9]{9,}\.[0-9]{6}")
_LONGEST_NUMBER = 20
_QUOTED = re.compile(r"[>\s]*")
# Where a line of the kernel's may begin inside another: its time, a syslog's date, or words of its own.
_INSIDE = re.compile(
    r"""\[\ *[0-9X]+\.[0-9X]{3,6}[]\ ] | \[\w{2,12}\.?\ +\w{2,12}\.?\ +[0-9]{1,2}\ [0-9:]{8}\ [0-9]{4}
      | <[0-9]{1,3}>(?:\[|1\ |[A-Z][a-z]{2}\ |[0-9]{4}-)
      | \b[a-z0-7]{3,8}\ *:(?:emerg|alert|crit|err|warn|notice|info|debug)\ *:
      | \b[A-Z][a-z]{2}\ [\ 0-9][0-9]\ [0-9]{2}:[0-9]{2}:[0-9]{2} | \b[0-9]{4}-[0-9]{2}-[0-9]{2}[T\ ][0-9]{2}:
      | (?<![\w/.-])(?:(?:virt/)?tdx:\ |kvm_intel:\ |SEAMCALL\ \(|seamldr:\ |BIOS-|Early\ memory
        |user:\ \[mem|node\ +[0-9]+:\ \[mem|ACPI:\ SRAT:|(?:Kernel\ c|C)ommand\ line:|Linux\ version\ [0-9]
        |smpboot:\ CPU0|x86/tme:)""",
    re.VERBOSE,
)
# Numbers that count or tell a time, and are not a part of a machine's name or address.
_COUNTER = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+|(?<![\w.-])[0-9]+(?:[:.,][0-9]+)*(?![\w.-])|(?<=:)[0-9]+(?=[:-])"
)
# What word processors and chats make of a kernel's ASCII.
_TYPESET = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201f", '"')
    | dict.fromkeys("\xa0\u2007\u2009\u202f", " ")
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", "")
)
# What people and programs escape for Markdown.
_ESCAPED = re.compile(r"\\([][()*_`#>~|<.-])")


_MOST_BEGINNINGS = 16
"""So many are looked at: each costs the rest of the line once more."""


class Line(NamedTuple):
    """One line of a log, taken apart.

    Args:
        text: the message; None when the line is empty or another program's.
        form: which prefixes it has, as words: ``syslog time``; :data:`BARE` when none.
        column: where its prefixes begin, tabs expanded, behind numbers and marks of quotation.
        trusted: False when its form says that the kernel did not write it; None when it does not tell.
        clock: seconds since the boot, where the form has them.
        of_day: seconds since midnight, or of the epoch, where the form has only such a time.
        wrapping: what stands before the prefixes, numbers left out; empty in a form that is known.
        host: that the prefixes name.
    """

    text: str | None
    form: str = BARE
    column: int = 0
    trusted: bool | None = None
    clock: float | None = None
    of_day: float | None = None
    wrapping: str = ""
    host: str = ""


def read_line(line: str) -> Line:
    """Take a line apart, whatever printed it.

    No form of text proves that the kernel wrote a line: a line break in a message of the kernel's may have
    begun it. ``<12>`` or ``user  :notice:`` do tell that a process did.
    """
    plain = _plain(line)
    start = _QUOTED.match(plain)
    column = start.end() if start else 0
    text = plain[column:]
    number = _NUMBERED.match(plain) or _NUMBERED.match(text)
    if number:
        column = number.end() if number.string is plain else column + number.end()
        text = plain[column:]
    found = _unprefixed(text, column)
    if found.form == BARE and found.text is not None and not begins_like_kernels(found.text):
        return _unwrapped(text, column) or found
    return found


def _unwrapped(text: str, column: int) -> Line | None:
    """The line behind whatever stands before it: the first stamp, or beginning of a known message, counts."""
    if RECORD.match(text):
        # Of /dev/kmsg, which prints nothing else: whose it is, nothing tells in other text.
        return None
    for inside in islice(_INSIDE.finditer(text), _MOST_BEGINNINGS):
        if (at := inside.start()) == 0:
            continue
        found = _unprefixed(text[at:], column + at)
        if found.form == "program":
            return found
        if found.text is not None and (found.form != BARE or begins_like_kernels(found.text)):
            wrapping = " ".join(_COUNTER.sub("0", text[:at]).split())
            return found._replace(wrapping=wrapping)
    return None


def _unprefixed(text: str, column: int) -> Line:
    words = []
    trusted: bool | None = None
    clock: float | None = None
    of_day: float | None = None
    host = None
    if monotonic := _SHORT_MONOTONIC.fullmatch(text):
        words.append("monotonic")
        clock, host = _seconds(monotonic["clock"]), monotonic["host"]
        text = monotonic["text"]
    elif rfc5424 := _RFC5424.fullmatch(text):
        if rfc5424["program"] != "kernel":
            return Line(None, "program", column)
        trusted = _trusted(rfc5424)
        words.append("rfc5424")
        of_day, host = _seconds_of_day(rfc5424["stamp"]), rfc5424["host"]
        text = rfc5424["text"] or ""
    elif syslog := _SYSLOG.fullmatch(text[(priority.end() if (priority := _PRIORITY.match(text)) else 0) :]):
        if syslog["program"] not in ("kernel", None):
            return Line(None, "program", column)
        # RFC 3164: what a daemon sends to another, or writes by a template of its own.
        words.append("rfc3164" if priority else "syslog")
        trusted = _trusted(priority)
        of_day, host = _seconds_of_day(syslog["stamp"]), syslog["host"]
        text = syslog["text"]
    elif priority:
        trusted = _trusted(priority)
        words.append(PRIORITY)
        text = text[priority.end() :]
    elif facility := _FACILITY.match(text):
        trusted = None if facility[1] == "kern" else False
        words.append("facility")
        text = text[facility.end() :]
    if time := _TIME.match(text):
        words.append(next((name for name in ("human", "date", "iso") if time[name]), "time"))
        if time["clock"]:
            clock = _seconds(time["clock"])
        of_day = _seconds_of_day(time["date"] or time["iso"] or "") or of_day
        text = text[time.end() :]
    if caller := _CALLER.match(text):
        text = text[caller.end() :]
    return Line(text.strip() or None, " ".join(words), column, trusted, clock, of_day, host=host or "")


def _trusted(found: re.Match[str] | None) -> bool | None:
    """What a priority tells of who wrote a line.

    util-linux 2.38 prints facility OR level: <14> may come out as <7>, a small number proves nothing.
    """
    return None if found is None or int(found["priority"]) < KERNEL_FACILITY_END else False


def _seconds(number: str) -> float | None:
    """A time, if a clock can show it."""
    return float(number) if len(number) <= _LONGEST_NUMBER else None


def _seconds_of_day(stamp: str) -> float | None:
    if _UNIX.fullmatch(stamp):
        return _seconds(stamp)
    if found := _OF_DAY.search(stamp):
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3].replace(",", ".")[:9])
    return None


def _plain(line: str) -> str:
    """A line without colours and tabs, with ASCII in place of what documents make of blanks and dashes."""
    text = without_sequences(line)
    if "&" in text:
        text = text.replace("&gt;", ">").replace("&lt;", "<").replace("&nbsp;", " ")
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    if not text.isascii():
        text = text.translate(_TYPESET)
    return text.expandtabs().rstrip()
