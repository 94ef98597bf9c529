# SPDX-License-Identifier: Apache-2.0
"""What matters of a boot's log, however long the log gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.known_lines import is_unread_of_kvm
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.tdx_lines import LOOKS_LIKE_TDX, REPEATED, match_tdx_line

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RECORDS = 8192
"""More than any boot says about memory and TDX; past it the middle is dropped. Marks count as well."""

MAX_REPEATED = 64
"""Of lines that KVM prints over and over at run time, more say no more."""

MAX_UNREAD = 16
"""Of lines that KVM prints about TDX and that are not understood: one is as good as many."""

_GAP = "\0"
"""Text of what stands where records were lost; a record of the kernel's has control characters escaped."""


class LogBook:
    """Keeps the records that tell about TDX and memory, and where others stood between them.

    A record is kept only when it is one of the kernel's known lines as a whole: what only begins like one may
    be of a bridge that a user has called ``tdx``, and would push out what counts. A few of KVM's about TDX
    are kept all the same: they may be a failure.

    Between kept records one empty record stands for all that are left out: a list is whole only when another
    record follows it, and so that there was one has to be remembered. Where records were lost stands a mark,
    since a list across it is not whole.

    Attributes:
        lost: records that were overwritten before they were read.
        forged: records that look like TDX lines and were written by user space.
        last_seq: sequence number of the newest record seen; None before the first.
        first: sequence number and time of the first record that was read and not restored.
    """

    def __init__(self) -> None:
        self._records: list[LogRecord] = []
        self.lost = 0
        self.forged = 0
        self.last_seq: int | None = None
        self.first: tuple[int, int] | None = None
        self._repeated = 0
        self._unread = 0
        self._all_run = False

    def restore(self, records: Iterable[LogRecord], last_seq: int | None) -> None:
        """Begin with what was kept of this boot before."""
        self._records = []
        for record in records:
            self._append(record)
        lines = (match_tdx_line(record.text.strip()) for record in self._records)
        self._repeated = sum(line is not None and line.kind in REPEATED for line in lines)
        self._unread = sum(is_unread_of_kvm(record.text.strip()) for record in self._records)
        self._all_run = any(boot_lines.RUNNING.fullmatch(record.text.strip()) for record in self._records)
        self.last_seq = last_seq

    def add(self, priority: int, seq: int, time: int, text: str) -> bool:
        """Take one record in; whether it changes what the log says about TDX.

        Records up to the newest one seen are passed over, so that a log can be read again from its start.

        Args:
            priority: facility x 8 + level, as ``/dev/kmsg`` has it.
            seq: its sequence number.
            time: microseconds since the boot.
            text: the message, control characters escaped.
        """
        if self.last_seq is not None and seq <= self.last_seq:
            return False
        if self.first is None:
            self.first = (seq, time)
        if self.last_seq is not None and seq > self.last_seq + 1:
            self.lost += seq - self.last_seq - 1
            self._append(LogRecord(_GAP, seq, time))
        self.last_seq = seq
        if priority >= KERNEL_FACILITY_END:
            forged = LOOKS_LIKE_TDX.match(text) is not None
            self.forged += forged
            return forged
        line = match_tdx_line(text.strip())
        if line is not None and line.kind in REPEATED:
            self._repeated += 1
            if self._repeated > MAX_REPEATED:
                return self._stand_in(seq, time)
        if line is not None or self._is_of_the_boot(text.strip(), time):
            self._append(LogRecord(text, seq, time))
            return line is not None
        if self._unread < MAX_UNREAD and is_unread_of_kvm(text.strip()):
            self._unread += 1
            self._append(LogRecord(text, seq, time))
            return True
        return self._stand_in(seq, time)

    def _is_of_the_boot(self, text: str, time: int) -> bool:
        """Whether a message is one about memory, while the kernel prints these.

        Later a record may begin with the name of a program, which may be `Command line: `.
        """
        if time > boot_lines.LONGEST_BOOT or not boot_lines.is_one(text):
            return False
        if self._all_run and boot_lines.is_early(text):
            return False
        self._all_run = self._all_run or boot_lines.RUNNING.fullmatch(text) is not None
        return True

    def insert(self, records: Iterable[LogRecord], after: int = 0) -> None:
        """Put records of the same boot, kept elsewhere, after the first so many: they fill a gap there."""
        filled = after < len(self._records) and self._records[after].text == _GAP
        self._records[after : after + filled] = records
        self._drop_middle()

    def log(self) -> KernelLog:
        """The log of this boot, as far as it matters."""
        records: list[LogRecord] = []
        gaps = set()
        for record in self._records:
            if record.text == _GAP:
                gaps.add(len(records))
            else:
                records.append(record)
        return KernelLog(
            tuple(records), lost=self.lost, forged=self.forged, verified=True, gaps=frozenset(gaps)
        )

    @property
    def records(self) -> tuple[LogRecord, ...]:
        """What is kept, oldest first; marks where records were lost included."""
        return tuple(self._records)

    def _append(self, record: LogRecord) -> None:
        """Put a record or a mark last; the only way in, so that nothing that comes in is without bound.

        Lost records may come after every other one, while a flood lasts. All that counts of such a row
        is that some were lost in it: a list that ends before it, or begins after it, may not be whole.
        """
        if record.text == _GAP:
            if self._tail(2) == [_GAP, ""]:
                del self._records[-1]
            if self._tail(1) in ([], [_GAP]):
                return
        self._records.append(record)
        self._drop_middle()

    def _tail(self, size: int) -> list[str]:
        return [record.text for record in self._records[-size:]]

    def _drop_middle(self) -> None:
        if len(self._records) > MAX_RECORDS:
            # Boot lines are at the front, the latest attempt at the back; a flood of errors is between them.
            third = MAX_RECORDS // 3
            dropped = self._records[third]
            gap = LogRecord(_GAP, dropped.seq, dropped.time)
            self._records = [*self._records[:third], gap, *self._records[-third:]]

    def _stand_in(self, seq: int, time: int) -> bool:
        """Remember that a record of another kind stands here; whether that closes a TDX list."""
        if self._records and not self._records[-1].text:
            return False
        closes = bool(self._records) and match_tdx_line(self._records[-1].text.strip()) is not None
        self._append(LogRecord("", seq, time))
        return closes
