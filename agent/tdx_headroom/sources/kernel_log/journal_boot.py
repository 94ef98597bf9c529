# SPDX-License-Identifier: Apache-2.0
"""The kernel log of a boot, as the journal keeps it: only what matters of it, however long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.book import LogBook
from tdx_headroom.sources.kernel_log.journal_lines import JournalReader
from tdx_headroom.sources.kernel_log.json_log import wall_clock
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, BootLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tdx_headroom.sources.kernel_log.journal_lines import Record


class JournalBoot(JournalReader):
    """Takes in ``journalctl --output=json _TRANSPORT=kernel`` line by line, and of it one boot.

    What belongs to a boot is told by its id alone: the journal of a machine whose clock was put back shows
    boots in another order than they came in, and in turns.

    Args:
        boot_id: of the boot, as the journal writes it.
    """

    def __init__(self, boot_id: str) -> None:
        super().__init__()
        self._id = boot_id
        self._book = LogBook()
        self._count = 0
        self._began: float | None = None
        self._bios: str | None = None

    def take(self, entry: dict[str, Any], record: Record | None) -> None:
        """Keep what matters of a record of this boot."""
        if entry.get("_BOOT_ID") != self._id:
            return
        if record is None or "\0" in record[2]:
            # What a damaged file has lost may be a row of a list. A record that says nothing is none in any.
            self._count += entry.get("MESSAGE") != ""
            return
        priority, time, text = record
        self._book.add(priority, self._count, time, text)
        self._count += 1
        # The last one counts: a clock that was wrong at the start has been set by then.
        self._began = wall_clock(entry) or self._began
        if self._bios is None and priority < KERNEL_FACILITY_END and time < boot_lines.LONGEST_BOOT:
            self._bios = boot_lines.bios_version([text])

    def add_all(self, lines: Iterable[str]) -> JournalBoot:
        """Take many in; itself."""
        for line in lines:
            self.add(line)
        return self

    @property
    def log(self) -> BootLog:
        """What it has said so far."""
        return BootLog(self._book.log(), self._id, self._began, self._bios)
