# SPDX-License-Identifier: Apache-2.0
"""The boots of a host, from whatever a user names: one record a boot, the oldest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.host.choose import facts_from_log
from tdx_headroom.inputs.journal import boots_in_journal
from tdx_headroom.inputs.read import facts_of_root, facts_of_texts, materials, shown
from tdx_headroom.sources.kernel_log.boot_lines import bios_version
from tdx_headroom.sources.kernel_log.reader import SOURCE, earlier_boots
from tdx_headroom.sources.kernel_log.text import parse_boots
from tdx_headroom.sources.reading import Reading
from tdx_headroom.sources.registry import SELECTION_WITH_HISTORY
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.history import by_clock, merged, of_facts, tells, with_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.inputs.named import Named
    from tdx_headroom.sources.kernel_log.records import BootLog


class HostHistory(NamedTuple):
    """The boots of one host.

    Args:
        name: of the input.
        host: its name, where that is known.
        records: the oldest first; the last one is the boot that the input is about.
        line: of a stream of facts.
    """

    name: str
    host: str | None
    records: tuple[BootRecord, ...]
    line: int | None = None


def histories(
    named: Named, warn: Callable[[str], None], kept: Callable[[], Iterable[BootRecord]] = tuple
) -> Iterator[HostHistory | AgentError]:
    """The boots of the hosts of one input; of a stream of facts also what is wrong with a line.

    Args:
        named: the input.
        warn: told what could not be read, where the rest can.
        kept: gives the boots of this host that an agent has on record; asked where the input is this host.

    Raises:
        AgentError: the input cannot be read.
        OSError: the file cannot.
    """
    name = shown(named.path)
    for found in materials(named, name, SELECTION_WITH_HISTORY):
        if found.facts is not None:
            number, facts = found.facts
            if isinstance(facts, AgentError):
                yield AgentError(f"{name} line {number}: {facts}", status=facts.status)
            else:
                yield HostHistory(name, facts.host, (_present(facts),), number)
        elif found.root is not None:
            yield _of_root(found.root, name, warn, kept)
        else:
            texts = dict(found.texts or {})
            facts = facts_of_texts(texts, name)
            boots = max((parse_boots(text) for text in texts.values()), key=len)
            earlier = records_of(boots[:-1], RecordFrom.LOG)
            present = _of_boot(facts, RecordFrom.LOG, boots[-1])
            yield HostHistory(name, facts.host, with_present(earlier, present))


def _of_root(
    root: HostFiles, name: str, warn: Callable[[str], None], kept: Callable[[], Iterable[BootRecord]]
) -> HostHistory:
    facts = facts_of_root(root, name)
    if root.live:
        earlier = [*kept(), *_of_the_journal(warn)]
        present = _present(facts, RecordFrom.AGENT)
    else:
        earlier = records_of(earlier_boots(root), RecordFrom.LOG)
        present = _present(facts)
    return HostHistory(name, facts.host, with_present(earlier, present))


def with_present(earlier: Iterable[BootRecord], present: BootRecord) -> tuple[BootRecord, ...]:
    """All boots by the clock that they had, where all had one; the present one last, whatever it says."""
    records = merged([*earlier, present])
    mine = next(record for record in reversed(records) if record.boot_id == present.boot_id)
    return (*by_clock([record for record in records if record is not mine]), mine)


def _of_the_journal(warn: Callable[[str], None]) -> list[BootRecord]:
    """What this host's journal tells; nothing where it cannot be read."""
    try:
        return records_of(boots_in_journal(), RecordFrom.JOURNAL)
    except SourceError as error:
        warn(str(error))
        return []


def _present(facts: HostFacts, known_from: RecordFrom = RecordFrom.LOG) -> BootRecord:
    return with_plans(of_facts(facts, known_from), assess(facts))


def _of_boot(facts: HostFacts, known_from: RecordFrom, boot: BootLog) -> BootRecord:
    bios = boot.bios or bios_version(record.text for record in boot.log.records)
    return with_plans(of_facts(facts, known_from, boot.boot_id, boot.began, bios), assess(facts))


def records_of(boots: Iterable[BootLog], known_from: RecordFrom) -> list[BootRecord]:
    """Records of boots whose logs tell something about memory or TDX."""
    found = []
    for boot in boots:
        record = _of_boot(facts_from_log(Reading(SOURCE, "log", boot.log)), known_from, boot)
        if tells(record):
            found.append(record)
    return found
