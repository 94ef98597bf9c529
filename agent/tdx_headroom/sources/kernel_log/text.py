# SPDX-License-Identifier: Apache-2.0
"""Kernel logs as text: what dmesg(1), journalctl(1) and syslog daemons print, and what people paste.

Text is never verified: a message of the kernel's may hold line breaks that a user chose, and programs print
each of its lines alike, indented, or bare. What can be told is told here: which lines have the prefix of
their log, and where a boot begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tdx_headroom.facts.kernel_report import Contradiction, ContradictionKind
from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.json_log import is_export, parse_export, parse_json
from tdx_headroom.sources.kernel_log.json_text import is_json
from tdx_headroom.sources.kernel_log.kmsg import RECORD, parse_kmsg
from tdx_headroom.sources.kernel_log.known_lines import (
    CRASH,
    holds_failure,
    in_short,
    is_known,
    is_unread,
    matters,
)
from tdx_headroom.sources.kernel_log.line_forms import BARE, PRIORITY, Line, read_line
from tdx_headroom.sources.kernel_log.machines import check_machines
from tdx_headroom.sources.kernel_log.order import BOOT_MARK, oldest_first
from tdx_headroom.sources.kernel_log.records import BootLog, KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.shape import Shape
from tdx_headroom.sources.kernel_log.tdx_lines import match_tdx_line, mentions_tdx
from tdx_headroom.sources.kernel_log.wrapped import HOLE, decoded, is_whole, rejoined, with_holes
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    _First = tuple[str, float | None, float | None]

_FENCE = "```"
# What is left of a row of a memory map, or of a CMR.
_MAYBE_A_ROW = re.compile(r"\[mem |mem 0x|CMR|-0x[0-9a-f]{8,16}\]")
_NEW_BOOT = re.compile(r"Linux version [0-9][^\s\[\]]* ?\(.*")
# A log that grep has been at has no version: a second one of these is another boot's, or a copy. They are
# longer than a process name, with which a record of the kernel's may begin.
_ONCE_A_BOOT = (
    "Command line: BOOT_IMAGE=",
    "virt/tdx: BIOS enabled: private KeyID range",
    "tdx: BIOS enabled: private KeyID range",
)
_COMMAND_LINES = 2
_PAUSE = 2.0
"""Seconds that no restart takes less than, and all lines of one message do."""
_UNTOUCHED = 20
"""So many messages of no interest show that nobody has picked lines out of a log."""


def parse_log_text(text: str) -> KernelLog:
    """The last boot's kernel records in a pasted or saved log, whatever its form.

    Raises:
        SourceError: it looks like a copy of /dev/kmsg and is none, or is that of several machines.
    """
    return parse_boots(text)[-1].log


def parse_boots(text: str) -> list[BootLog]:
    """The kernel records of every boot in a pasted or saved log, oldest first; at least one, be it empty.

    Raises:
        SourceError: it looks like a copy of /dev/kmsg and is none, or is that of several machines.
    """
    # Editors and shells on Windows put a byte order mark in front.
    lines = lines_of(with_holes(decoded(text.removeprefix("\ufeff"))))
    first = next((line.strip() for line in lines if line.strip()), "")
    if is_json(lines) and (found := parse_json(lines)) is not None:
        return parse_boots(found) if isinstance(found, str) else found
    if is_export(first):
        return parse_export(lines)
    if RECORD.fullmatch(first):
        # Only when all of it has this form: a process could write such a line into a log of another.
        return [BootLog(replace(parse_kmsg(text), cut=not text.endswith("\n")))]
    pieces = list(rejoined(lines, [read_line(line) for line in lines]))
    headless, cut = _may_be_headless(lines, pieces, Shape.of(pieces)), not text.endswith("\n")
    in_order, read, turned = oldest_first(lines, pieces, cut=cut)
    if turned:
        headless, cut = cut, headless
    shape = Shape.of(read)
    check_machines(read, shape.wrapping)
    boot = _Boot(headless, shape)
    if boot.headless and shape.form != BARE:
        boot.records.append(LogRecord(""))
    kept = False
    for raw, line in zip(in_order, read, strict=True):
        if mark := BOOT_MARK.fullmatch(raw.strip()):
            # Only journalctl prints it, and indents what could be a forgery of it.
            if shape.is_journal and not raw.startswith((" ", "\t")):
                boot.begin()
                boot.id = mark[1]
            continue
        if raw == HOLE:
            boot.gaps.add(len(boot.records))
            kept = False
            continue
        if line.text is None:
            kept = False
            continue
        kept = _take(boot, line, line.text, shape)
    lines_read = sum(line.text is not None for line in read)
    return [*boot.ended, boot.ends(len(boot.records), lines_read, cut=kept and cut)]


def _take(boot: _Boot, line: Line, message: str, shape: Shape) -> bool:
    """Put a line where it belongs; whether it is a record of the kernel's."""
    if line.trusted is False:
        boot.untrusted.append(message)
        return False
    if not shape.fits(line):
        boot.leave_out(message)
        return False
    if message.startswith(_FENCE):
        return False
    boot.note_damage(message)
    boot.look_at(line, message)
    time = None if line.clock is None else round(line.clock * 1e6)
    boot.records.append(LogRecord(message, time=time))
    return True


@dataclass(slots=True)
class _Boot:
    """What a text has shown of the boot that is read, and how many were before it."""

    headless: bool
    shape: Shape
    id: str | None = None
    ended: list[BootLog] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)
    untrusted: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    gaps: set[int] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)
    earlier: int = 0
    once: dict[str, _First] = field(default_factory=dict)
    copied: int = -1
    clock: float | None = None
    of_day: float | None = None
    idle: int = 0

    def begin(self, kept: int = 0) -> None:
        """Forget all records but the last ``kept``: another boot begins."""
        first = len(self.records) - kept
        if _tells(self.records[:first]):
            self.ended.append(self.ends(first, first))
            self.id = None
        self.earlier += _tells(self.records[:first])
        del self.records[:first]
        self.untrusted.clear()
        self.loose.clear()
        self.contradictions.clear()
        self.gaps = {gap - first for gap in self.gaps if gap > first}
        self.unread.clear()
        self.once.clear()
        self.headless = False
        self.copied = -1
        self.clock = self.of_day = None
        self.idle = 0

    def ends(self, count: int, lines: int, *, cut: bool = False) -> BootLog:
        """What was read of it.

        Args:
            count: how many of the records are its own.
            lines: of the text, for one that has a few lines about TDX only.
            cut: whether the last may have lost its end.
        """
        log = KernelLog(
            tuple(self.records[:count]),
            untrusted=tuple(self.untrusted),
            cut=cut,
            headless=self.headless and bool(self.records),
            earlier=self.earlier,
            loose=tuple(self.loose),
            contradictions=tuple(self.contradictions),
            excerpt=self.is_excerpt(lines),
            own=self.own(),
            gaps=frozenset(self.gaps),
            unread=tuple(self.unread),
        )
        return BootLog(log, self.id)

    def own(self) -> int:
        """How many records are the kernel's by their prefix, or, where there is none, by their words."""
        if self.shape.form != BARE:
            return len(self.records)
        return sum(is_known(record.text) for record in self.records)

    def is_excerpt(self, lines: int) -> bool:
        """Whether these are a few lines about TDX in a text of another kind."""
        own = self.own()
        of_a_boot = any(boot_lines.is_one(record.text.strip()) for record in self.records)
        return 0 < own < lines - own and not of_a_boot

    def leave_out(self, message: str) -> None:
        """Take note of a line without the log's prefix: no record, and maybe what is left of one."""
        if match_tdx_line(message) is not None:
            self.loose.append(message)
        elif CRASH.match(message):
            return
        elif mentions_tdx(message):
            self.unread.append(message)
        if _MAYBE_A_ROW.search(message):
            self.gaps.add(len(self.records))

    def note_damage(self, message: str) -> None:
        """See whether a record is only a part of a known one, or has something more in it."""
        if boot_lines.ROW.match(message) and not is_whole(message):
            self.gaps.add(len(self.records))
        if is_unread(message) or holds_failure(message):
            self.unread.append(message)

    def look_at(self, line: Line, message: str) -> None:
        """See whether a message begins a boot, or says that it should and cannot."""
        if _NEW_BOOT.fullmatch(message):
            self._version(line, message)
        elif message.startswith(_ONCE_A_BOOT):
            mark = next(mark for mark in _ONCE_A_BOOT if message.startswith(mark))
            self._once(mark, line, message)
        self.clock = line.clock if line.clock is not None else self.clock
        self.of_day = line.of_day if line.of_day is not None else self.of_day
        self.idle += not matters(message)

    def _version(self, line: Line, message: str) -> None:
        if not _tells(self.records) or self._starts_again(line):
            self.begin()
        elif line.clock is None or _first_of_a_boot(message, line) != self.once.get("version"):
            begins, *_ = _first_of_a_boot(message, line)
            self.contradictions.append(Contradiction(ContradictionKind.SECOND_BOOT, begins))
        self.once.setdefault("version", _first_of_a_boot(message, line))

    def _once(self, mark: str, line: Line, message: str) -> None:
        """A line that comes once a boot: with another time, or other words, it is another boot's.

        Of the first line of all, the time is always 0: it goes with the next one that differs.
        """
        this = _first_of_a_boot(message, line)
        seen = self.once.get(mark, this)
        copy = seen == this and (line.clock is not None or mark not in self.once)
        again = self._clock_starts_again(line)
        if not copy:
            behind = len(self.records) - self.copied
            copy_begins = self.copied >= 0 and behind <= _COMMAND_LINES
            if again or copy_begins:
                self.begin(behind if copy_begins else 0)
            else:
                self.contradictions.append(Contradiction(ContradictionKind.SECOND_BOOT, this[0]))
                return
        elif mark in self.once and again:
            self.copied = len(self.records)
        self.once[mark] = this

    def _clock_starts_again(self, line: Line) -> bool:
        """Whether the time since the boot is less than a line ago. No process can bring that about.

        But for priorities: they show that dmesg printed the log, which knows one boot only, and old versions
        print the rest of a message bare.
        """
        if line.clock is None or self.clock is None or line.form.startswith(PRIORITY):
            return False
        return line.clock < self.clock or line.clock == 0

    def _starts_again(self, line: Line) -> bool:
        """Whether the clock shows a restart; with the time of day alone, a pause in a log that is whole."""
        if line.clock is not None or self.of_day is None or line.of_day is None:
            return self._clock_starts_again(line)
        pause = (line.of_day - self.of_day) % 86400
        return pause >= _PAUSE and self.idle >= _UNTOUCHED


def _first_of_a_boot(message: str, line: Line) -> _First:
    """What makes such a line another one: what it says that the agent reads, and its time."""
    return in_short(message), line.clock, line.of_day


def _tells(records: Sequence[LogRecord]) -> bool:
    """Whether these are of a boot, and no greeting above it."""
    return any(matters(record.text) for record in records)


def _may_be_headless(lines: Sequence[str], read: Sequence[Line], shape: Shape) -> bool:
    """Whether the first line may be the rest of one: it has no prefix, or begins like no known message."""
    first = next((n for n, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return False
    line = read[first]
    if line.text is None or line.form != BARE or line.text.startswith(_FENCE):
        return False
    return not matters(line.text) or shape.form != BARE
