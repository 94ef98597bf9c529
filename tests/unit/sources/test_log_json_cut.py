# SPDX-License-Identifier: Apache-2.0
"""Logs in JSON that are cut, quoted, or have lines of a terminal in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.known_lines import hides_failure
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_boots, parse_log_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.sources.kernel_log.records import KernelLog

MESSAGES = [
    "Linux version 6.8.0-1010-intel (build@host) #1 SMP",
    "Command line: BOOT_IMAGE=/vmlinuz-6.8.0-1010-intel ro",
    "BIOS-provided physical RAM map:",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable",
    "BIOS-e820: [mem 0x0000000000100000-0x000000087fffffff] usable",
    "NX (Execute Disable) protection: active",
    "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
    "virt/tdx: 8400904 KB allocated for PAMT",
    "virt/tdx: module initialized",
]
FAILED = "virt/tdx: module initialization failed (-28)"


def entries(messages: list[str], boot: str = "c" * 32) -> list[dict[str, str]]:
    """Entries of the journal, the message last, as it may be cut."""
    return [
        {
            "_BOOT_ID": boot,
            "_TRANSPORT": "kernel",
            "SYSLOG_FACILITY": "0",
            "__MONOTONIC_TIMESTAMP": str(n),
            "MESSAGE": text,
        }
        for n, text in enumerate(messages)
    ]


def in_lines(messages: list[str]) -> list[str]:
    """What journalctl -o json prints."""
    return [json.dumps(entry) for entry in entries(messages)]


def pretty(messages: list[str]) -> list[str]:
    """What journalctl -o json-pretty prints."""
    return [json.dumps(entry, indent="\t") for entry in entries(messages)]


def of_dmesg(messages: list[str]) -> list[str]:
    """What dmesg --json prints."""
    inner = json.dumps([{"pri": 6, "time": 0.5, "msg": text} for text in messages], indent=3)
    return ["{", f'   "dmesg": {inner}'.replace("},\n   {", "},{"), "}"]


def of_dmesg_in_a_line(messages: list[str]) -> list[str]:
    """The same, as jq -c prints it."""
    return [json.dumps({"dmesg": [{"pri": 6, "time": 0.5, "msg": text} for text in messages]})]


FORMS = [in_lines, pretty, of_dmesg, of_dmesg_in_a_line]
every_form = pytest.mark.parametrize("form", FORMS)


def text_of(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def state(log: KernelLog) -> ModuleState:
    return read_report(log).state


@every_form
def test_last_entry_cut(form: Callable[[list[str]], list[str]]) -> None:
    """What is whole is read, and the rest makes nothing better."""
    whole = text_of(form([*MESSAGES, "loop0: detected capacity change"]))
    log = parse_log_text(whole[: whole.index("capacity")])
    assert [record.text for record in log.records] == MESSAGES
    assert not log.verified
    assert read_boot_map(log, "log").e820.value
    assert state(log) is ModuleState.INITIALIZED


@every_form
def test_failure_cut(form: Callable[[list[str]], list[str]]) -> None:
    """An entry that has lost its end, and may have told a failure, is counted."""
    whole = text_of(form([*MESSAGES, FAILED]))
    log = parse_log_text(whole[: whole.index("ization failed")])
    assert len(log.unread) == 1
    assert hides_failure(log)
    assert state(log) is ModuleState.UNKNOWN


@pytest.mark.parametrize("form", [in_lines, pretty, of_dmesg])
def test_first_entry_cut(form: Callable[[list[str]], list[str]]) -> None:
    """A log may begin in the middle of an entry."""
    whole = text_of(form(MESSAGES))
    log = parse_log_text(whole[whole.index("6.8.0-1010") :])
    assert [record.text for record in log.records] == MESSAGES[1:]
    assert not log.verified
    assert read_boot_map(log, "log").e820.value


@pytest.mark.parametrize("form", [in_lines, pretty])
@pytest.mark.parametrize("at", [0, 3, 9])
@pytest.mark.parametrize(
    "line",
    [
        "-- Boot 0123456789abcdef0123456789abcdef --",
        "Hint: You are currently not seeing messages from other users and the system.",
        "      Users in groups 'adm', 'systemd-journal' can see all messages.",
        "Journal file /var/log/journal/system.journal is truncated, ignoring file.",
        "user@rack7:~$ journalctl -k -b -o json",
        "[root@rack7 ~]# journalctl -k -b -o json",
        "```json",
        "",
    ],
)
def test_lines_of_a_terminal(form: Callable[[list[str]], list[str]], at: int, line: str) -> None:
    """They stand for no entry: nothing of the log is lost."""
    lines = form(MESSAGES)
    lines.insert(at, line)
    log = parse_log_text(text_of(lines))
    assert [record.text for record in log.records] == MESSAGES
    assert read_boot_map(log, "log").e820.value
    assert state(log) is ModuleState.INITIALIZED
    assert log.verified is (not line)


def test_something_left_out_of_a_list() -> None:
    """A line that may stand for entries makes the list around it no list."""
    lines = in_lines(MESSAGES)
    lines.insert(4, "[... 20 lines ...]")
    log = parse_log_text(text_of(lines))
    assert log.gaps == {4}
    assert read_boot_map(log, "log").e820.value is None


@pytest.mark.parametrize("form", [in_lines, pretty])
@pytest.mark.parametrize("mark", ["> ", ">", "> > "])
def test_quoted(form: Callable[[list[str]], list[str]], mark: str) -> None:
    """Marks of quotation are no part of it."""
    quoted = [mark + line for line in text_of(form(MESSAGES)).splitlines()]
    assert [record.text for record in parse_log_text(text_of(quoted)).records] == MESSAGES


def test_list_of_entries() -> None:
    """What jq -s makes of a journal."""
    for text in (json.dumps(entries(MESSAGES)), json.dumps(entries(MESSAGES), indent=2)):
        assert [record.text for record in parse_log_text(text).records] == MESSAGES


def test_failure_outside_the_entries() -> None:
    """A failure in a line that is no entry counts, as the worse case."""
    log = parse_log_text(text_of([*in_lines(MESSAGES), FAILED]))
    assert state(log) is ModuleState.FAILED


@pytest.mark.parametrize(
    "before",
    ["{noformat}", '{host="rack7", job="kernel"}', "{", '{"a": 1}', "{code:title=dmesg|borderStyle=solid}"],
)
def test_text_that_begins_like_json(before: str) -> None:
    """The form is that of most lines."""
    lines = [f"[    {n}.000000] {text}" for n, text in enumerate(MESSAGES)]
    log = parse_log_text(text_of([before, *lines]))
    assert [record.text for record in log.records][-len(MESSAGES) :] == MESSAGES
    assert state(log) is ModuleState.INITIALIZED


def test_stream_labels_before_each_line() -> None:
    """As Loki's client prints a log."""
    lines = [f'{{host="rack7", job="kernel"}} [    {n}.000000] {text}' for n, text in enumerate(MESSAGES)]
    assert state(parse_log_text(text_of(lines))) is ModuleState.INITIALIZED


@pytest.mark.parametrize("key", ["log", "message", "msg", "line"])
def test_lines_in_objects(key: str) -> None:
    """Programs that collect logs put each line into an object; who wrote it they do not tell."""
    lines = [json.dumps({"time": "x", key: f"[    {n}.5] {text}\n"}) for n, text in enumerate(MESSAGES)]
    log = parse_log_text(text_of(lines))
    assert [record.text for record in log.records] == MESSAGES
    assert not log.verified


def test_boots_in_turns() -> None:
    """The boot of the last entry is the present one, with all of its entries."""
    older, newer = entries([*MESSAGES[:-1], FAILED], "d" * 32), entries(MESSAGES)
    mixed = [json.dumps(entry) for pair in zip(older, newer, strict=True) for entry in pair]
    found = parse_boots(text_of(mixed))
    assert [state(boot.log) for boot in found] == [ModuleState.FAILED, ModuleState.INITIALIZED]
    assert [len(boot.log.records) for boot in found] == [len(MESSAGES)] * 2


@pytest.mark.parametrize(
    "text", ['{"a":' * 20_000, '{"dmesg": [' + "[" * 50_000, "{\n" * 20_000, '{"a\n' * 9999]
)
def test_nothing_whole(text: str) -> None:
    """What only looks like JSON is a log without one message, and costs no more than its length."""
    assert not any(record.text in MESSAGES for record in parse_log_text(text).records)
