# SPDX-License-Identifier: Apache-2.0
"""The journal of this host as a stream of entries in JSON, which journalctl prints for the agent itself."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any

from tdx_headroom.errors import SourceError
from tdx_headroom.sources.kernel_log.json_log import NUMBER, message_of

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
    message = message_of(entry.get("MESSAGE"))
    # journald writes all of them with each record of the kernel's log: without its facility it is nobody's.
    facility, level, time = (
        str(entry.get(key)) for key in ("SYSLOG_FACILITY", "PRIORITY", "_SOURCE_MONOTONIC_TIMESTAMP")
    )
    if message is None or not all(map(NUMBER.fullmatch, (facility, level, time))):
        return entry, None
    return entry, (int(facility) * 8 + int(level), int(time), message)
