# SPDX-License-Identifier: Apache-2.0
"""Boots in real journal files and by the real journalctl: no record better than the truth, none invented."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.boot_record import RecordFrom
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.inputs.earlier import records_of
from tdx_headroom.inputs.journal import boots_in_journal
from tests.tools.journal_files import put_first, write_journal
from tests.unit.history.journals import FIRST, Boot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tdx_headroom.facts.boot_record import BootRecord

UP, FAILED, UNKNOWN = ModuleState.INITIALIZED, ModuleState.FAILED, ModuleState.UNKNOWN
Told = tuple[str | None, int | None, ModuleState]
"""The id of a boot, the areas that it needed, and what became of TDX."""

pytestmark = [pytest.mark.program("journalctl"), pytest.mark.program("systemd-journal-remote")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the journal that journalctl reads."""
    files, programs = put_first(tmp_path)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return files


def records() -> list[BootRecord]:
    """What this host's journal becomes."""
    return records_of(boots_in_journal(), RecordFrom.JOURNAL)


def told() -> list[Told]:
    """The same, in short."""
    return [
        (found.boot_id, None if found.fullest is None else found.fullest.needed, found.outcome)
        for found in records()
    ]


def truth(boot: Boot) -> Told:
    """What is right for a boot."""
    return boot.id, boot.holes + 1, FAILED if boot.failed else UP


def from_user_space(boot: Boot, at: int) -> Mapping[str, str]:
    """What stands between the kernel's records."""
    entry = boot.entry("virt/tdx: module initialized", at, "3")
    return entry | {"_TRANSPORT": "syslog", "_PID": "77", "SYSLOG_IDENTIFIER": "kernel"}


BOOTS = [Boot(1, 9), Boot(2, 11, "6.12.9"), Boot(3, 16, bios="2.3", failed=True), Boot(4, 10)]


def test_each_boot_is_told_as_it_was(folder: Path) -> None:
    """With all that the kernel said of it, whatever else stands between."""
    entries = [entry for boot in BOOTS for e in boot.entries() for entry in (e, from_user_space(boot, 1))]
    write_journal(folder / "system.journal", entries)
    found = records()
    assert told() == [truth(boot) for boot in BOOTS]
    assert [record.began for record in found] == [boot.when for boot in BOOTS]
    assert [record.kernel_release for record in found] == [boot.release for boot in BOOTS]
    assert [record.bios_version for record in found] == [boot.bios for boot in BOOTS]
    assert all(record.verified for record in found)


def test_rotated(folder: Path) -> None:
    """A boot goes on in the next file; what stands in two files, as after a copy, counts once."""
    entries = [entry for boot in BOOTS for entry in boot.entries()]
    for number, start in enumerate(range(0, len(entries), 13)):
        write_journal(folder / f"system@{number}.journal", entries[start : start + 13])
    shutil.copy(folder / "system@2.journal", folder / "user-1000.journal")
    assert len(list(folder.iterdir())) > len(BOOTS)
    assert told() == [truth(boot) for boot in BOOTS]


def test_vacuumed(folder: Path) -> None:
    """Of a boot whose beginning is gone its end is told, and no memory; one that is gone is not told."""
    middle = len(BOOTS[1].entries()) - 5
    entries = [entry for boot in BOOTS for entry in boot.entries()]
    cut = len(BOOTS[0].entries()) + middle
    write_journal(folder / f"system@{'1' * 32}-{1:016x}-{1:016x}.journal", entries[:cut])
    write_journal(folder / f"system@{'1' * 32}-{cut:016x}-{2:016x}.journal", entries[cut:])
    write_journal(folder / "system.journal", [BOOTS[-1].entry("eth0: link up", 10**8)])
    assert len(told()) == len(BOOTS)
    command = ["journalctl", "--vacuum-files=2"]
    subprocess.run(command, check=True, capture_output=True)
    assert told() == [(BOOTS[1].id, None, UP), *(truth(boot) for boot in BOOTS[2:])]


def test_a_clock_that_jumped(folder: Path) -> None:
    """Boots whose records lie in turns in time, in files of their own: none is mixed up."""
    # While the second runs, the clock is put back to the first's time; the third begins with a dead battery.
    first, second, third = Boot(1, 9), Boot(2, 13), Boot(3, 16, failed=True, began=FIRST - 10**9)
    late = [
        entry | {"__REALTIME_TIMESTAMP": str(first.when * 10**6 + 500 + 1000 * i)}
        for i, entry in enumerate(second.entries())
    ]
    write_journal(folder / "system@1.journal", first.entries())
    write_journal(folder / "system@2.journal", late)
    write_journal(folder / "system.journal", [*third.entries(), *BOOTS[3].entries()])
    assert sorted(told()) == sorted([truth(first), truth(second), truth(third), truth(BOOTS[3])])


def test_a_clock_that_is_set_after_the_start(folder: Path) -> None:
    """Boots that knew no time until the network told it come in the order in which they were."""
    entries = []
    for boot in BOOTS:
        wrong = replace(boot, began=FIRST - 10**9).entries()
        entries += [*wrong, boot.entry("eth0: link up", 10**8)]
    write_journal(folder / "system.journal", entries)
    assert told() == [truth(boot) for boot in BOOTS]
    assert [record.began for record in records()] == [boot.when for boot in BOOTS]


@pytest.mark.parametrize("kept", range(1, 18))
def test_a_boot_cut_short(folder: Path, kept: int) -> None:
    """However little of it was written before the power went: the others are right, and it is no better."""
    boot = Boot(2, 9)
    write_journal(
        folder / "system.journal", [*BOOTS[0].entries(), *boot.entries()[:kept], *BOOTS[3].entries()]
    )
    first, *between, last = told()
    assert (first, last) == (truth(BOOTS[0]), truth(BOOTS[3]))
    for boot_id, needed, outcome in between:
        assert boot_id == boot.id
        assert needed in (None, boot.holes + 1)
        assert outcome in (UNKNOWN, ModuleState.NOT_ATTEMPTED)


def test_a_file_that_was_not_written_to_its_end(folder: Path) -> None:
    """Zeros where its last pages were to be, from whatever byte on: what is told is the truth, or less."""
    path = folder / "system.journal"
    write_journal(path, [entry for boot in BOOTS for entry in boot.entries()])
    whole = path.read_bytes()
    first, end = whole.index(b"MESSAGE=Linux version"), len(whole.rstrip(b"\0"))
    right = {boot.id: truth(boot) for boot in BOOTS}
    most = 0
    for length in range(first, end, (end - first) // 30):
        path.write_bytes(whole[:length].ljust(len(whole), b"\0"))
        found = told()
        for boot_id, needed, outcome in found:
            assert boot_id is not None
            assert needed in (None, right[boot_id][1]), length
            assert outcome in (UNKNOWN, ModuleState.NOT_ATTEMPTED, right[boot_id][2]), length
        most = max(most, len(found))
    assert most > 1


def test_two_boots_of_one_second(folder: Path) -> None:
    """The first did not get far before it was reset; each has its own records all the same."""
    first, second = Boot(1, 12, began=FIRST), Boot(2, 9, began=FIRST)
    in_turns = [entry for pair in zip(first.entries(), second.entries(), strict=False) for entry in pair]
    write_journal(folder / "system@1.journal", first.entries())
    write_journal(folder / "system@2.journal", second.entries())
    assert sorted(told()) == [truth(first), truth(second)]
    for path in folder.iterdir():
        path.unlink()
    write_journal(folder / "system.journal", in_turns)
    assert {boot_id for boot_id, _, _ in told()} == {first.id, second.id}
    for boot_id, needed, outcome in told():
        assert needed in (None, truth(first if boot_id == first.id else second)[1])
        assert outcome in (UP, UNKNOWN, ModuleState.NOT_ATTEMPTED)


def test_a_forged_line(folder: Path) -> None:
    """Neither /dev/kmsg nor syslog nor a program's output nor a second line of a record changes a boot."""
    failed, up = BOOTS[2], BOOTS[0]
    good, bad = "virt/tdx: module initialized", "virt/tdx: module initialization failed (-28)"
    other = f"_BOOT_ID={Boot(9).id}"
    entries = [
        failed.entry(f"Early memory node ranges\n{other}", 0, "3"),
        failed.entry("  node   0: [mem 0x0000000000100000-0x000000107fffffff]", 0, "3"),
        *failed.entries(),
        failed.entry(good, 10**7, "1"),
        from_user_space(failed, 10**7 + 1),
        failed.entry(good, 10**7 + 2) | {"_TRANSPORT": "stdout", "SYSLOG_IDENTIFIER": "kernel"},
        failed.entry(f"init[1]: x\n{good}", 10**7 + 3),
        failed.entry(f"{good}\n", 10**7 + 4, "3"),
        *up.entries(),
        up.entry(bad, 10**7, "1"),
        up.entry(f"BIOS 9\n{bad}", 10**7 + 1),
        Boot(9).entry("Linux version 9.9.9 (a@b) (gcc) #1", 0, "3"),
    ]
    write_journal(folder / "system.journal", entries)
    assert told() == [truth(failed), truth(up)]
    assert [record.kernel_release for record in records()] == [failed.release, up.release]


def test_more_boots_than_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest boots are the ones that are not read."""
    monkeypatch.setattr("tdx_headroom.inputs.journal.MAX_BOOTS", 2)
    write_journal(folder / "system.journal", [entry for boot in BOOTS for entry in boot.entries()])
    assert told() == [truth(boot) for boot in BOOTS[-2:]]
