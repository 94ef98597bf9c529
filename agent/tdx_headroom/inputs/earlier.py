# SPDX-License-Identifier: Apache-2.0
"""Boots before the one that an input is about: from its logs, and from what an agent had on record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.record_file import MAX_HISTORY, RECORDS_PATH, parse_records
from tdx_headroom.facts.record_file import SOURCE as RECORDS
from tdx_headroom.host.choose import facts_from_log
from tdx_headroom.sources.kernel_log.reader import earlier_boots
from tdx_headroom.sources.kernel_log.records import SOURCE
from tdx_headroom.sources.reading import Reading, attempt
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.history import holes_before, of_facts, tells, with_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.records import BootLog


def earlier_in_root(root: HostFiles, warn: Callable[[str], None] = lambda _: None) -> list[BootRecord]:
    """Boots before the one that a captured tree is about, the oldest first; none of the running host.

    Args:
        root: of the tree.
        warn: told why records that are there cannot be read: they tell of no boot then.
    """
    if root.live:
        return []

    def read() -> tuple[BootRecord, ...]:
        return parse_records(root.read(RECORDS, RECORDS_PATH, limit=2 * MAX_HISTORY))

    recorded = attempt(RECORDS, root.locate(RECORDS_PATH), read)
    if recorded.error is not None and not recorded.error.absent:
        warn(str(recorded.error))
    return [*(recorded.value or ()), *records_of(earlier_boots(root), RecordFrom.LOG)]


def before_this(earlier: Iterable[BootRecord], facts: HostFacts) -> tuple[BootRecord, ...]:
    """The records that are of other boots than the facts, as far as their ids tell."""
    own = of_facts(facts, RecordFrom.LOG).boot_id
    return tuple(record for record in earlier if record.boot_id is None or record.boot_id != own)


def with_earlier(facts: HostFacts, earlier: Iterable[BootRecord]) -> HostFacts:
    """Facts with how many holes their TDMRs have had in earlier boots."""
    before = before_this(earlier, facts)
    present = of_facts(facts, RecordFrom.LOG)
    return replace(facts, holes_before=holes_before(before, present)) if before else facts


def record_of(facts: HostFacts, known_from: RecordFrom, boot: BootLog) -> BootRecord:
    """The record of a boot by its facts, and what only its log tells."""
    return with_plans(of_facts(facts, known_from, boot.boot_id, boot.began, boot.bios), assess(facts))


def records_of(boots: Iterable[BootLog], known_from: RecordFrom) -> list[BootRecord]:
    """Records of boots whose logs tell something about memory or TDX."""
    found = []
    for boot in boots:
        record = record_of(facts_from_log(Reading(SOURCE, "log", boot.log)), known_from, boot)
        if tells(record):
            found.append(record)
    return found
