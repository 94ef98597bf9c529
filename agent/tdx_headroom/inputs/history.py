# SPDX-License-Identifier: Apache-2.0
"""The boots of a host, from whatever a user names: one record a boot, the oldest first."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.inputs.earlier import earlier_in_root, record_of, records_of, with_earlier
from tdx_headroom.inputs.journal import boots_in_journal
from tdx_headroom.inputs.read import Found, facts_of_material, facts_of_root, host_of_line, material_of, shown
from tdx_headroom.sources.kernel_log.reader import boots_in_texts
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.history import by_clock, merged, of_facts, with_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.inputs.facts_lines import FactsLine
    from tdx_headroom.inputs.named import Named
    from tdx_headroom.inputs.read import FactsStream


@contextmanager
def history_of(
    named: Named, warn: Callable[[str], None], kept: Callable[[], Iterable[BootRecord]] = tuple
) -> Iterator[Found | FactsStream]:
    """The host of one input, with the records of its boots, or the stream that the input is.

    Args:
        named: the input.
        warn: told what could not be read, where the rest can.
        kept: gives the boots of this host that an agent has on record; asked where the input is this host.

    Raises:
        AgentError: the input cannot be read.
        OSError: the file cannot.
    """
    name = shown(named.path)
    with material_of(named) as found:
        if found.stream is not None:
            yield found.stream
        elif found.root is not None:
            yield _of_root(found.root, name, warn, kept)
        else:
            texts = dict(found.texts or {})
            facts = facts_of_material(found, name)
            boots = boots_in_texts(texts)
            earlier = records_of(boots[:-1], RecordFrom.LOG)
            present = record_of(facts, RecordFrom.LOG, boots[-1])
            yield Found(name, with_earlier(facts, earlier), None, with_present(earlier, present))


def history_of_line(name: str, line: FactsLine) -> Found:
    """A host of which facts tell one boot, or why there is none.

    Args:
        name: of the stream.
        line: of it.
    """
    host = host_of_line(name, line)
    return host if isinstance(line.facts, AgentError) else host._replace(records=(_present(line.facts),))


def _of_root(
    root: HostFiles, name: str, warn: Callable[[str], None], kept: Callable[[], Iterable[BootRecord]]
) -> Found:
    facts = facts_of_root(root, name)
    if root.live:
        earlier = [*kept(), *journal_records(warn)]
        present = _present(facts, RecordFrom.AGENT)
    else:
        earlier = earlier_in_root(root, warn)
        present = _present(facts)
    return Found(name, with_earlier(facts, earlier), None, with_present(earlier, present))


def with_present(earlier: Iterable[BootRecord], present: BootRecord) -> tuple[BootRecord, ...]:
    """All boots by the clock that they had, where all had one; the present one last, whatever it says."""
    records = merged([*earlier, present])
    mine = next(record for record in reversed(records) if record.boot_id == present.boot_id)
    return (*by_clock([record for record in records if record is not mine]), mine)


def journal_records(warn: Callable[[str], None]) -> list[BootRecord]:
    """The boots that this host's journal tells of, the present one too; none where it cannot be read.

    Args:
        warn: told why it cannot.
    """
    try:
        return records_of(boots_in_journal(), RecordFrom.JOURNAL)
    except SourceError as error:
        warn(str(error))
        return []


def _present(facts: HostFacts, known_from: RecordFrom = RecordFrom.LOG) -> BootRecord:
    return with_plans(of_facts(facts, known_from), assess(facts))
