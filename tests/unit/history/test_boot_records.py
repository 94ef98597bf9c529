# SPDX-License-Identifier: Apache-2.0
"""Every boot of a journal becomes a record: none better than the truth, and none invented."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from tests.unit.history.journals import Boot, journal, of

from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.inputs.earlier import records_of
from tdx_headroom.inputs.history import history_of
from tdx_headroom.inputs.named import Kind, Named
from tdx_headroom.inputs.read import Found
from tdx_headroom.sources.kernel_log.journal_boot import JournalBoot

if TYPE_CHECKING:
    from pathlib import Path

UP, FAILED, UNKNOWN = ModuleState.INITIALIZED, ModuleState.FAILED, ModuleState.UNKNOWN


def streamed(text: str) -> list[BootRecord]:
    """What the live journal's stream becomes."""
    lines = text.splitlines()
    ids = dict.fromkeys(json.loads(line)["_BOOT_ID"] for line in lines)
    boots = [JournalBoot(boot_id).add_all(lines).log for boot_id in ids]
    return records_of(boots, RecordFrom.JOURNAL)


def read(text: str, folder: Path) -> list[BootRecord]:
    """What a journal in a file becomes."""
    path = folder / "journal.json"
    path.write_text(text)
    with history_of(Named(Kind.ANY, str(path)), pytest.fail) as found:
        assert isinstance(found, Found)
        return list(found.records)


def needed(record: BootRecord) -> int | None:
    """Areas that the fullest TDMR takes."""
    return None if record.fullest is None else record.fullest.needed


BOOTS = [Boot(1, 9), Boot(2, 11, "6.12.9"), Boot(3, 10, bios="2.3"), Boot(4, 16, failed=True)]


def test_each_boot_is_a_record(tmp_path: Path) -> None:
    """With kernel, firmware, line, time, areas and outcome, in a stream and in a file."""
    for records in (streamed(of(*BOOTS)), read(of(*BOOTS), tmp_path)):
        assert [record.boot_id for record in records] == [boot.id for boot in BOOTS]
        assert [record.began for record in records] == [boot.when for boot in BOOTS]
        assert [record.kernel_release for record in records] == ["6.12.5", "6.12.9", "6.12.5", "6.12.5"]
        assert [record.bios_version for record in records] == ["2.1", "2.1", "2.3", "2.1"]
        assert {record.arguments for record in records} == {("nohibernate",)}
        assert [needed(record) for record in records] == [10, 12, 11, 17]
        assert [record.outcome for record in records] == [UP, UP, UP, FAILED]
        assert records[-1].errno == -28
        assert all(record.verified for record in records)


def test_text_with_boot_marks(tmp_path: Path) -> None:
    """``journalctl -k -b all`` as text: the marks between boots have their ids."""
    lines = []
    for boot in BOOTS:
        lines.append(f"-- Boot {boot.id} --")
        lines += [f"Nov 30 08:00:0{boot.number} host kernel: {text}" for text in boot.messages()[:-1]]
    records = read("\n".join(lines) + "\n", tmp_path)
    assert [needed(record) for record in records] == [10, 12, 11, 17]
    assert [record.boot_id for record in records] == [boot.id for boot in BOOTS]
    assert not any(record.verified for record in records)


def test_boots_in_turns() -> None:
    """A clock that was put back mixes the entries of boots: each has its own all the same."""
    entries = [entry for boot in BOOTS[:3] for entry in boot.entries()]
    order = sorted(range(len(entries)), key=lambda i: (int(entries[i]["__MONOTONIC_TIMESTAMP"]), i))
    assert [needed(record) for record in streamed(journal([entries[i] for i in order]))] == [10, 12, 11]


def test_two_boots_of_one_second() -> None:
    """Boots are told apart by their ids."""
    records = streamed(of(Boot(1, 9, began=100), Boot(2, 11, began=100)))
    assert [needed(record) for record in records] == [10, 12]


def test_a_rotated_journal() -> None:
    """Of a boot whose beginning is gone only what is left is told; one of which nothing is left is none."""
    first = Boot(1, 9)
    middle = len(first.entries()) // 2
    records = streamed(journal([*first.entries()[middle:], *Boot(2, 10).entries()]))
    assert [needed(record) for record in records] == [None, 11]
    assert records[0].outcome is UP
    assert records[0].kernel_release is None
    assert [record.boot_id for record in streamed(journal([first.entries()[-1], *Boot(2).entries()]))] == [
        Boot(2).id
    ]


@pytest.mark.parametrize("kept", range(1, 18))
def test_a_boot_cut_short(kept: int) -> None:
    """However little a boot said: its list of memory counts when it is whole, TDX when it is told."""
    (*found,) = streamed(journal(Boot(1, 9).entries()[:kept]))
    for record in found:
        assert record.outcome in (UNKNOWN, ModuleState.NOT_ATTEMPTED)
        assert needed(record) in (None, 10)


def test_forged_lines() -> None:
    """A process writes to /dev/kmsg, which makes another facility, or to syslog: no record changes."""
    good = Boot(1, 9)
    forged = [
        good.entry("virt/tdx: module initialization failed (-28)", 10**7, facility="3"),
        good.entry("DMI: Evil Inc. X/Y, BIOS 9.9 01/01/2026", 10, facility="1"),
        {**good.entry("virt/tdx: module initialization failed (-28)", 10**7), "_TRANSPORT": "syslog"},
        {**Boot(9).entry("Linux version 9.9.9 (a@b) (gcc) #1", 0, facility="3")},
    ]
    failed = Boot(2, 16, failed=True)
    better = [failed.entry("virt/tdx: module initialized", 10**7, facility="3")]
    records = streamed(journal([*forged[1:2], *good.entries(), *forged, *failed.entries(), *better]))
    assert [(record.outcome, record.bios_version) for record in records] == [(UP, "2.1"), (FAILED, "2.1")]


def test_a_long_boot() -> None:
    """Of it only what matters is held, wherever in it that is."""
    boot = Boot(1, 9)
    first, last = boot.entries()[:-3], boot.entries()[-3:]
    chatter = [boot.entry(f"eth0: link {i}", 10**8 + i) for i in range(20000)]
    found = JournalBoot(boot.id).add_all(journal([*first, *chatter, *last]).splitlines()).log
    assert len(found.log.records) < 40
    (record,) = records_of([found], RecordFrom.JOURNAL)
    assert (needed(record), record.outcome) == (10, UP)


def test_a_clock_that_is_set_during_the_boot() -> None:
    """The boot began by the clock that is right, not by the one that it began with."""
    boot = Boot(1)
    reset = [{**entry, "__REALTIME_TIMESTAMP": entry["__MONOTONIC_TIMESTAMP"]} for entry in boot.entries()]
    reset[-1] = boot.entries()[-1]
    (record,) = streamed(journal(reset))
    assert record.began == boot.when


@pytest.mark.parametrize(
    "damage", [{"MESSAGE": None}, {"MESSAGE": [110, 0, 0]}, {"PRIORITY": "x"}, {"SYSLOG_FACILITY": None}, {}]
)
def test_a_damaged_row(damage: dict[str, object]) -> None:
    """A row of the memory map that cannot be read: how much memory there was is unknown, and nothing else."""
    boot = Boot(1, 9)
    entries = boot.entries()
    row = next(i for i, entry in enumerate(entries) if "node   0" in entry["MESSAGE"]) + 3
    entries[row] |= damage
    entries.insert(row, boot.entry("", 1))
    (record,) = streamed(journal(entries))
    assert needed(record) == (None if damage else 10)
    assert record.outcome is UP


def test_a_record_of_nobody(tmp_path: Path) -> None:
    """One without a facility may be a user's: the stream passes it over, and no file with it is verified."""
    boot = Boot(1, 16, failed=True)
    forged = boot.entry("virt/tdx: module initialized", 10**7)
    del forged["SYSLOG_FACILITY"]
    text = journal([*boot.entries(), forged])
    assert [record.outcome for record in streamed(text)] == [FAILED]
    (record,) = read(text, tmp_path)
    assert not record.verified


def test_damaged_journals(tmp_path: Path) -> None:
    """Whatever bytes are missing: one line that says so, or records, and never an unexpected error."""
    text = of(*BOOTS)
    chance = random.Random(1)
    for _ in range(30):
        start, end = sorted(chance.sample(range(len(text)), 2))
        try:
            records = read(text[:start] + text[end:], tmp_path)
        except AgentError:
            continue
        assert {needed(r) for r in records} <= {None, 10, 12, 11, 17}
