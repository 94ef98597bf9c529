# SPDX-License-Identifier: Apache-2.0
"""Records of boots in the state: the last 64, in few bytes, of this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.address import MIB
from tdx_headroom.facts.boot_record import BootRecord, RecordFrom
from tdx_headroom.facts.codec import DecodeError, encode
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.record_file import MAX_HISTORY, packed, unpacked
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.service.earlier_boots import parse_records
from tdx_headroom.service.state import MAX_BOOTS, BootState, State
from tdx_headroom.service.state_file import StateFile, parse
from tdx_headroom.sources.machine import machine_marks

if TYPE_CHECKING:
    from pathlib import Path


def record(number: int, regions: int = 10, shift: int = 0) -> BootRecord:
    """A boot with so many regions, the last of them moved."""
    memory = [MemoryRegion(i * MIB, i * MIB + 4096, 0) for i in range(1, regions)]
    memory.append(MemoryRegion((regions + shift) * MIB, (regions + shift) * MIB + 4096, None))
    return BootRecord(
        RecordFrom.AGENT,
        f"{number:032x}",
        began=1000.0 + number,
        kernel_release="7.3.0",
        regions=tuple(memory),
        outcome=ModuleState.INITIALIZED,
    )


def test_there_and_back(tmp_path: Path) -> None:
    """What is written is read again, and takes little more than one map and the differences."""
    history = tuple(record(i, regions=300, shift=i % 5) for i in range(MAX_BOOTS))
    state = State(BootState("now", record=record(99)), history=history, machine=("a", "b"))
    StateFile(str(tmp_path)).save(state)
    assert StateFile(str(tmp_path)).load() == (state, None)
    one, other = record(0, regions=300), replace(record(0), regions=None)
    whole, rest = (len(json.dumps(encode(r))) for r in (one, other))
    assert (tmp_path / "state.json").stat().st_size < 2 * whole + MAX_BOOTS * (rest + 200)


def test_differences_that_unpack_to_more_than_there_ever_was() -> None:
    """A few bytes a boot may stand for a large map each: they are refused before they fill the memory."""
    regions = [[i << 20, (i << 20) + 4096, 0] for i in range(1000)]
    same = {"known_from": "log", "regions": {"come": [], "gone": []}}
    records = [same] * 99 + [{"known_from": "log", "regions": regions}]
    assert isinstance(unpacked(json.loads(json.dumps(records))), list)
    with pytest.raises(DecodeError, match="more than 100000 memory regions"):
        unpacked(json.loads(json.dumps([same, *records])))


def test_what_is_written_can_be_read() -> None:
    """Of maps with very many regions so many boots are kept as are read again."""
    boots = [encode(record(i, regions=3000)) for i in range(MAX_BOOTS)]
    kept = packed(boots)
    assert 30 < len(kept) < MAX_BOOTS
    assert unpacked(json.loads(json.dumps(kept))) == json.loads(json.dumps(boots[-len(kept) :]))


MAPS = st.lists(st.lists(st.integers(1, 60), unique=True, max_size=12), max_size=6)


@given(MAPS)
def test_differences_add_up(maps: list[list[int]]) -> None:
    """Whatever maps follow each other, each is told whole from the one after it."""
    records = [
        replace(record(i), regions=tuple(MemoryRegion(at * MIB, at * MIB + 4096, 0) for at in sorted(places)))
        for i, places in enumerate(maps)
    ]
    values = [encode(r) for r in records]
    assert unpacked(json.loads(json.dumps(packed(values)))) == json.loads(json.dumps(values))


def test_too_many_bytes() -> None:
    """The oldest are left out."""
    values = [encode(record(i, regions=3000, shift=i)) for i in range(40)]
    for i, value in enumerate(values):  # no two have anything in common
        value["regions"] = [[start + i, end + i, node] for start, end, node in value["regions"]]
    kept = packed(values)
    assert len(json.dumps(kept)) <= MAX_HISTORY + 2 * len(kept)
    assert 0 < len(kept) < 40
    assert kept[-1]["boot_id"] == values[-1]["boot_id"]


@pytest.mark.parametrize(
    "history",
    [
        5,
        "x",
        [5],
        [{"known_from": "agent", "regions": {"come": 5, "gone": []}}],
        [{"known_from": "agent", "regions": {"come": [["a"]], "gone": []}}],
        [{"known_from": "nobody"}],
    ],
)
def test_what_is_no_history(history: object) -> None:
    """Such a file is corrupt, and said to be."""
    with pytest.raises(ValueError, match="history"):
        parse(json.dumps({"schema": "tdx-headroom/state/1", "history": history}).encode())


def test_files_of_other_agents() -> None:
    """One without records, and one with more in them than this agent knows."""
    assert parse(b'{"schema": "tdx-headroom/state/1", "current": {"boot_id": "a"}}').history == ()
    value = {**encode(record(1)), "more": 1}
    data = {"schema": "tdx-headroom/state/1", "history": [value], "even": "more"}
    assert parse(json.dumps(data).encode()).history == (record(1),)


def test_a_boot_ends() -> None:
    """The next boot finds it among those before; the same boot again does not."""
    state = State(BootState("a", record=record(1)))
    assert state.for_boot("a").history == ()
    assert state.for_boot("b").history == (record(1),)
    many = State(BootState("a", record=record(100)), history=tuple(record(i) for i in range(MAX_BOOTS)))
    assert many.for_boot("b").history == (*(record(i) for i in range(1, MAX_BOOTS)), record(100))
    told_nothing = State(BootState("a", record=BootRecord(RecordFrom.AGENT, "a")))
    assert told_nothing.for_boot("b").history == ()


def test_boots_of_the_journal() -> None:
    """They come in by their clock, once each, without the present one; or in their own order."""
    logged = replace(record(1), known_from=RecordFrom.JOURNAL)
    state = State(BootState("00000000-0000-0000-0000-000000000009"), history=(record(2),))
    found = state.with_history([logged, replace(record(2), known_from=RecordFrom.JOURNAL), record(9)])
    assert found.history == (logged, record(2))
    unknown = replace(logged, boot_id="x", began=None)
    assert state.with_history([unknown]).history == (record(2), unknown)


def test_another_machine() -> None:
    """A state that came with a disk image is not used; one part in common is enough."""
    state = State(BootState("a"), history=(record(1),))
    assert state.on_machine(()) is state
    mine = state.on_machine(("nvme", "nic"))
    assert (mine.history, mine.machine) == ((record(1),), ("nic", "nvme"))
    assert mine.on_machine(("nic", "new-disk")).history == (record(1),)
    assert mine.on_machine(("other",)) == State(machine=("other",))
    assert mine.on_machine(()) is mine


def test_marks() -> None:
    """Serial numbers and addresses that are set, as digests."""
    files = {
        "sys/class/nvme/nvme0/serial": "S64GNX0T\n",
        "sys/class/net/eth0/address": "52:54:00:12:34:56\n",
        "sys/class/net/lo/address": "00:00:00:00:00:00\n",
        "sys/class/dmi/id/product_uuid": "ffffffff-ffff-ffff-ffff-ffffffffffff\n",
    }
    marks = machine_marks(MemoryRoot("host", files))
    assert len(marks) == 2
    assert all(len(mark) == 16 for mark in marks)
    assert "S64GNX0T" not in "".join(marks)
    assert machine_marks(MemoryRoot("host", {})) == ()


def test_records_from_the_process() -> None:
    """What it prints is read; a line that is none costs itself alone."""
    lines = [
        json.dumps(encode(record(1))),
        "no JSON",
        "5",
        '{"known_from": 5}',
        json.dumps(encode(record(2))),
    ]
    assert parse_records("\n".join(lines).encode()) == [record(1), record(2)]
