# SPDX-License-Identifier: Apache-2.0
"""What matters of a boot's log, however long the log gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, KernelLog, LogRecord
from tdx_headroom.sources.kernel_log.tdx_lines import CANDIDATE, LOOKS_LIKE_TDX

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_RECORDS = 8192
"""More than any boot says about memory and TDX; past it the middle is dropped."""

_GAP = "\0"
"""Text of what stands where records were lost; a record of the kernel's has control characters escaped."""

_MEMORY_MAP = re.compile(
    r"BIOS-e820: |user: \[|BIOS-provided |user-defined |Early memory node ranges|node +[0-9]|ACPI: SRAT: "
    r"|Faking a node|Zone ranges:|[A-Z][A-Za-z0-9]{2,9} +(?:\[mem |empty)|Movable zone start|Node [0-9]"
    r"|HugeTLB: registered |Linux version |Command line: |Kernel command line: |crashkernel|smp: Brought up "
)


def matters(text: str) -> bool:
    """Whether a message tells about TDX, memory at boot, the kernel or its arguments."""
    stripped = text.lstrip()
    return CANDIDATE.match(stripped) is not None or _MEMORY_MAP.match(stripped) is not None


class LogBook:
    """Keeps the records that tell about TDX and memory, and where others stood between them.

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

    def restore(self, records: Iterable[LogRecord], last_seq: int | None) -> None:
        """Begin with what was kept of this boot before."""
        self._records = list(records)
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
            self._mark_gap(seq, time)
        self.last_seq = seq
        if priority >= KERNEL_FACILITY_END:
            forged = LOOKS_LIKE_TDX.match(text) is not None
            self.forged += forged
            return forged
        stripped = text.lstrip()
        is_tdx = CANDIDATE.match(stripped) is not None
        if is_tdx or _MEMORY_MAP.match(stripped):
            self._keep(LogRecord(text, seq, time))
            return is_tdx
        return self._stand_in(seq, time)

    def insert(self, records: Iterable[LogRecord], after: int = 0) -> None:
        """Put records of the same boot, kept elsewhere, after the first so many: they fill a gap there."""
        filled = after < len(self._records) and self._records[after].text == _GAP
        self._records[after : after + filled] = records

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

    def _keep(self, record: LogRecord) -> None:
        self._records.append(record)
        if len(self._records) > MAX_RECORDS:
            # Boot lines are at the front, the latest attempt at the back; a flood of errors is between them.
            third = MAX_RECORDS // 3
            dropped = self._records[third]
            gap = LogRecord(_GAP, dropped.seq, dropped.time)
            self._records = [*self._records[:third], gap, *self._records[-third:]]

    def _mark_gap(self, seq: int, time: int) -> None:
        if self._records and self._records[-1].text != _GAP:
            self._records.append(LogRecord(_GAP, seq, time))

    def _stand_in(self, seq: int, time: int) -> bool:
        """Remember that a record of another kind stands here; whether that closes a TDX list."""
        if self._records and not self._records[-1].text:
            return False
        closes = bool(self._records) and CANDIDATE.match(self._records[-1].text.lstrip()) is not None
        self._records.append(LogRecord("", seq, time))
        return closes
