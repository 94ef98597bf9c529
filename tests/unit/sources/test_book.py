# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.sources.kernel_log.book import MAX_RECORDS, LogBook
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg, parse_kmsg_record
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.textlines import lines_of

HOSTS = Path(__file__).parents[2] / "hosts"
WITH_KMSG = sorted(path.parents[1].name for path in HOSTS.glob("*/dev/kmsg"))


def book_of(*records: tuple[int, int, str]) -> LogBook:
    book = LogBook()
    for priority, seq, text in records:
        book.add(priority, seq, seq * 10, text)
    return book


@pytest.mark.parametrize("host", WITH_KMSG)
def test_a_book_says_what_the_whole_log_says(host: str) -> None:
    """What is kept of a log gives the same report and the same memory map as all of it."""
    text = (HOSTS / host / "dev" / "kmsg").read_text("utf-8", "backslashreplace")
    whole = parse_kmsg(text)
    book = LogBook()
    for line in lines_of(text):
        if not line.startswith(" "):
            book.add(*parse_kmsg_record(line))
    assert read_report(book.log()) == read_report(whole)
    kept, full = read_boot_map(book.log(), "log"), read_boot_map(whole, "log")
    for name in ("node_ranges", "e820", "firmware", "srat", "zones"):
        assert getattr(kept, name).value == getattr(full, name).value, name
    assert (kept.kernel_release, kept.command_line) == (full.kernel_release, full.command_line)
    assert len(book.records) < len(whole.records)


def test_a_hundred_thousand_forged_lines_change_a_counter() -> None:
    """User space may write what it likes: nothing is kept of it, and it is counted."""
    book = book_of((6, 0, "virt/tdx: BIOS enabled: private KeyID range [32, 64)"))
    before = book.log()
    for seq in range(1, 100_001):
        book.add(12, seq, seq, "virt/tdx: module initialized")
    assert book.forged == 100_000
    assert book.records == before.records
    assert read_report(book.log()).state is ModuleState.NOT_ATTEMPTED


def test_a_flood_of_kernel_lines_is_bounded() -> None:
    """However often the kernel repeats itself, memory is bounded; the beginning and the latest stay."""
    book = book_of((6, 0, "virt/tdx: BIOS enabled: private KeyID range [32, 64)"))
    for seq in range(1, 30_000):
        book.add(3, seq, seq, "SEAMCALL (0x000000000000001c) failed: 0xc000030000000001")
    book.add(6, 30_000, 1, "virt/tdx: module initialized")
    assert len(book.records) <= MAX_RECORDS
    report = read_report(book.log())
    assert (report.keyids, report.state) == ((32, 64), ModuleState.INITIALIZED)


FAILURE = (
    "virt/tdx: BIOS enabled: private KeyID range [32, 64)",
    "virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.",
    "virt/tdx: module initialization failed (-28)",
)


@pytest.mark.parametrize(
    "flood",
    [
        "tdx: port 1(v0) entered blocking state",
        "virt/tdx: entered promiscuous mode",
        "tdx: initialization failed: IN=eth0 OUT= SRC=192.0.2.1 DST=192.0.2.2",
        "Node 0 Normal free:12345kB boost:0kB min:1234kB",
        "Node 0 active_anon:12345kB inactive_anon:1234kB",
        "Command line: x",
        "Linux version 6[271]: segfault at 0",
        "kvm_intel: something of a guest",
        "SEAMCALL (0x000000000000001c) failed: 0xc000030000000001",
    ],
)
def test_a_flood_does_not_push_out_what_happened(flood: str) -> None:
    """A bridge that a user has called `tdx`, an OOM or a guest may fill the log; what counts stays."""
    lines = [*[flood] * 2800, *FAILURE, *[flood] * 5600]
    book = LogBook()
    changes = sum(book.add(4, seq, 700_000_000 + seq, text) for seq, text in enumerate(lines))
    report = read_report(book.log())
    assert (report.state, report.errno, report.keyids) == (ModuleState.FAILED, -28, (32, 64))
    assert len(book.records) < 300
    # A change makes the agent read its host again.
    assert changes < 100


def test_a_restart_does_not_forget_how_much_was_repeated() -> None:
    """A book that is restored takes no more of what it has enough of."""
    seamcall = "SEAMCALL (0x000000000000001c) failed: 0xc000030000000001"
    book = book_of(*((3, seq, seamcall) for seq in range(1000)))
    again = LogBook()
    again.restore(book.records, book.last_seq)
    for seq in range(1000, 2000):
        again.add(3, seq, seq, seamcall)
    assert len(again.records) <= len(book.records) + 1


@pytest.mark.parametrize(
    ("between", "most"),
    [
        ("usb 1-1: new device", 4),
        # A line that is repeated without end, of which the book has enough after some.
        ("SEAMCALL (0x000000000000001c) failed: 0xc000030000000001", 200),
        # A line that is always kept.
        ("virt/tdx: module initialization failed (-12)", MAX_RECORDS),
    ],
)
def test_overruns_without_end_are_bounded(between: str, most: int) -> None:
    """A ring buffer that loses records before every single one that is read fills no memory."""
    book = book_of((6, 0, FAILURE[0]), *((6, seq, between) for seq in range(2, 40_000, 2)))
    assert len(book.records) <= most
    assert book.lost == 19_999
    assert read_report(book.log()).keyids == (32, 64)
    book.add(6, 50_000, 1, "virt/tdx: module initialized")
    assert read_report(book.log()).state is ModuleState.INITIALIZED


@pytest.mark.parametrize(("seq", "whole"), [(100, True), (102, False)])
def test_the_last_of_many_losses_is_known(seq: int, whole: bool) -> None:  # noqa: FBT001
    """However many losses became one mark: a list right behind the last of them may lack its beginning."""
    lost = [(6, number, "x") for number in range(1, 100, 2)]
    book = book_of((6, 0, FAILURE[0]), *lost, (6, seq, TORN[1][2]), (6, seq + 1, "x"))
    assert read_report(book.log()).cmrs_complete is whole


def test_what_was_kept_without_bound_is_bounded_when_it_comes_back() -> None:
    """A state of an agent that kept every loss, or one that somebody has filled, costs no more than any."""
    kept = book_of(*TORN[:2], (6, 3, "x")).records
    pair = kept[-2:]
    again = LogBook()
    again.restore([*kept, *pair * 50_000], 10**6)
    assert again.records[:2] == kept[:2]
    assert len(again.records) == len(kept)
    many = [kept[1]._replace(seq=seq) for seq in range(100_000)]
    again.restore(many, 10**6)
    assert len(again.records) <= MAX_RECORDS
    again.insert(many, 10)
    assert len(again.records) <= MAX_RECORDS


def test_a_list_is_whole_only_after_a_later_record() -> None:
    """Records of another kind are not kept, but that there was one is."""
    book = book_of((6, 0, "something"), (6, 1, "virt/tdx: CMR: [0x100000, 0x6f800000)"))
    assert not read_report(book.log()).cmrs_complete
    assert book.add(6, 2, 1, "something else")
    assert read_report(book.log()).cmrs_complete
    assert not book.add(6, 3, 1, "and more")


def test_losses_are_counted() -> None:
    """Sequence numbers that are missing between two records are records that were overwritten."""
    assert book_of((6, 5, "a"), (6, 6, "b"), (6, 10, "c")).lost == 3


TORN = (
    (6, 0, "x"),
    (6, 1, "virt/tdx: CMR: [0x100000, 0x6f800000)"),
    (6, 5, "virt/tdx: CMR: [0x100000000, 0x140000000)"),
    (6, 6, "virt/tdx: module initialized"),
)


def test_a_list_with_losses_inside_is_not_whole() -> None:
    """CMRs may be among the records that were lost; the same list said again without a loss is whole."""
    book = book_of(*TORN)
    report = read_report(book.log())
    assert (report.state, report.cmrs_complete) == (ModuleState.INITIALIZED, False)
    again = LogBook()
    again.restore(book.records, book.last_seq)
    assert read_report(again.log()) == report
    for seq, text in ((7, "x"), (8, TORN[1][2]), (9, TORN[2][2]), (10, "y")):
        again.add(6, seq, seq * 10, text)
    assert read_report(again.log()).cmrs_complete


def test_records_from_elsewhere_fill_a_gap() -> None:
    """What the journal has of lost records makes the list whole again."""
    book = book_of(*TORN)
    book.insert(book_of((6, 2, "virt/tdx: CMR: [0x80000000, 0x90000000)")).records, 2)
    report = read_report(book.log())
    assert report.cmrs is not None
    assert (len(report.cmrs), report.cmrs_complete) == (3, True)


def test_a_restored_book_goes_on() -> None:
    """After a restart the log is read again from its start; what was known counts once."""
    first = book_of((6, 0, "x"), (6, 1, "virt/tdx: CMR: [0x100000, 0x6f800000)"), (6, 2, "y"))
    again = LogBook()
    again.restore(first.records, first.last_seq)
    for seq, text in (
        (1, "virt/tdx: CMR: [0x100000, 0x6f800000)"),
        (2, "y"),
        (3, "virt/tdx: module initialized"),
    ):
        again.add(6, seq, seq * 10, text)
    report = read_report(again.log())
    assert report.cmrs is not None
    assert (len(report.cmrs), report.state, again.lost) == (1, ModuleState.INITIALIZED, 0)


@given(st.lists(st.tuples(st.sampled_from([3, 6, 12, 30]), st.text(max_size=40)), max_size=60))
def test_any_records(records: list[tuple[int, str]]) -> None:
    """Whatever is logged, two records that are not kept are never side by side."""
    book = LogBook()
    for seq, (priority, text) in enumerate(records):
        book.add(priority, seq, seq, text)
    texts = [record.text for record in book.records]
    assert all(a or b for a, b in pairwise(texts))
