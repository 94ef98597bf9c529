# SPDX-License-Identifier: Apache-2.0
"""A kernel log as records, whatever it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tdx_headroom.facts.kernel_report import Contradiction

SOURCE = "kernel-log"

KERNEL_FACILITY_END = 8
"""Priorities below this have facility 0, which only the kernel can write."""


class LogRecord(NamedTuple):
    r"""One record that the kernel wrote, or, in an unverified log, may have written.

    ``text`` has no prefix and no line break; control characters stay escaped as ``\xNN``.
    ``seq`` is its sequence number, ``time`` microseconds since the boot, where the log has them.
    """

    text: str
    seq: int | None = None
    time: int | None = None


class BootLog(NamedTuple):
    """The log of one of several boots.

    Args:
        log: its records.
        boot_id: the kernel's id of it, as the journal writes it; None where the log has none.
        began: when it began, in seconds since the epoch, by the clock of that time; None where it has none.
        bios: version of the firmware, where it tells that.
    """

    log: KernelLog
    boot_id: str | None = None
    began: float | None = None
    bios: str | None = None


@dataclass(frozen=True, slots=True)
class KernelLog:
    """Records of one boot, oldest first.

    Args:
        records: the kernel's records.
        lost: how many were overwritten before they were read.
        untrusted: texts of records that user space wrote.
        forged: how many more of those look like TDX lines.
        verified: whether the format tells who wrote a record.
        cut: whether the last record may have lost its end: a text without a last newline.
        gaps: indexes of records right before which others were lost; a list across one is not whole.
        earlier: how many boots before this one the text held; nothing of them is here.
        headless: whether the first record may have lost its beginning: a text that begins like no message.
        loose: texts about TDX that stand in an unverified log without its prefix: they may be the rest of a
            message that a user chose.
        contradictions: lines that begin a boot in the middle of one.
        unread: lines that mention TDX and could not be read.
        excerpt: whether these are a few lines about TDX in a text of another kind.
        own: how many records of a text are the kernel's by prefix or words; None where each surely is.
    """

    records: tuple[LogRecord, ...]
    lost: int = 0
    untrusted: tuple[str, ...] = ()
    forged: int = 0
    verified: bool = False
    cut: bool = False
    headless: bool = False
    earlier: int = 0
    gaps: frozenset[int] = frozenset()
    loose: tuple[str, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    unread: tuple[str, ...] = ()
    excerpt: bool = False
    own: int | None = None

    @property
    def begun(self) -> int:
        """How many records at the front are not surely whole; a list right behind them may not be, either."""
        return int(self.headless)

    def is_torn(self, first: int, last: int) -> bool:
        """Whether records were lost right before one of these, ``last`` included."""
        return any(first <= gap <= last for gap in self.gaps)

    @property
    def whole(self) -> int:
        """How many records are surely whole; one that follows a list shows that the list is, too."""
        return max(0, len(self.records) - self.cut)
