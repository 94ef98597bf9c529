# SPDX-License-Identifier: Apache-2.0
"""The kernel logs of many boots, as the journal keeps them: of each only what matters, however long it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.book import LogBook
from tdx_headroom.sources.kernel_log.json_log import journal_line, wall_clock
from tdx_headroom.sources.kernel_log.records import KERNEL_FACILITY_END, BootLog

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BOOTS = 128
"""Of more, the oldest are dropped."""


@dataclass(slots=True)
class _Boot:
    began: float | None
    book: LogBook = field(default_factory=LogBook)
    count: int = 0
    bios: str | None = None

    def add(self, priority: int, time: int, text: str) -> None:
        self.book.add(priority, self.count, time, text)
        self.count += 1
        if self.bios is None and priority < KERNEL_FACILITY_END and time < boot_lines.LONGEST_BOOT:
            self.bios = boot_lines.bios_version([text])


class JournalBoots:
    """Takes in ``journalctl --output=json _TRANSPORT=kernel`` line by line.

    A boot is what has its id: the journal of a machine whose clock was put back shows boots in another order
    than they came in, and in turns.
    """

    def __init__(self) -> None:
        self._boots: dict[str, _Boot] = {}
        self._lines = 0

    def add(self, line: str) -> None:
        """Take one line in.

        Raises:
            SourceError: it is no JSON.
        """
        self._lines += 1
        found = journal_line(line, self._lines)
        if found is None:
            return
        entry, record = found
        boot_id = entry.get("_BOOT_ID")
        if not isinstance(boot_id, str):
            return
        if boot_id not in self._boots:
            self._boots[boot_id] = _Boot(wall_clock(entry))
            if len(self._boots) > MAX_BOOTS:
                del self._boots[next(iter(self._boots))]
        self._boots[boot_id].add(*record)

    def add_all(self, lines: Iterable[str]) -> JournalBoots:
        """Take many in; itself."""
        for line in lines:
            self.add(line)
        return self

    @property
    def boots(self) -> list[BootLog]:
        """All boots, in the order in which the journal begins to tell of them."""
        return [
            BootLog(boot.book.log(), boot_id, boot.began, boot.bios) for boot_id, boot in self._boots.items()
        ]
