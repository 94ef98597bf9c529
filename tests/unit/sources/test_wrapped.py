# SPDX-License-Identifier: Apache-2.0
"""Logs in wrappings that people and programs put around lines: read right, or counted and never better."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.host.choose import facts_from_log
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_log_text

MAP = (
    "BIOS-provided physical RAM map:",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009dfff] usable",
    "BIOS-e820: [mem 0x000000000009e000-0x00000000000fffff] reserved",
    "BIOS-e820: [mem 0x0000000000100000-0x000000006d8effff] usable",
    "BIOS-e820: [mem 0x0000000100000000-0x000000047fffffff] usable",
)
KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
DOWN = (KEYIDS, "virt/tdx: module initialization failed (-5)")
UP = (KEYIDS, "virt/tdx: 1050644 KB allocated for PAMT", "virt/tdx: module initialized")

WRAPPINGS = {
    "journalctl --no-hostname": "Jul 10 20:50:19 kernel: {m}",
    "journalctl --no-hostname -o short-iso": "2024-07-10T20:50:19+0200 kernel: {m}",
    "journalctl --no-hostname -o short-monotonic": "[    1.630945] kernel: {m}",
    "RFC 5424": "<6>1 2024-07-10T20:50:19.630945+02:00 host kernel - - - {m}",
    "RFC 5424 with data": '<6>1 2024-07-10T20:50:19Z host kernel - - [a@1 b="c"] {m}',
    "RFC 5424 with a time": "<6>1 2024-07-10T20:50:19Z host kernel - - - [    1.630945] {m}",
    "grep": "dmesg.txt:[    1.630945] {m}",
    "grep -n": "dmesg.txt:12:[    1.630945] {m}",
    "zgrep": "/var/log/kern.log.2.gz:Jul 10 20:50:19 host kernel: [    1.630945] {m}",
    "pdsh": "node1: [    1.630945] {m}",
    "clush": "node[1-2]: [    1.630945] {m}",
    "kubectl": "[pod/debug-x/main] [    1.630945] {m}",
    "debug pod": "debug-node-1 | [    1.630945] {m}",
    "bullet": "* [    1.630945] {m}",
    "bullet without a time": "* {m}",
    "numbered list": "1. [    1.630945] {m}",
    "bold": "**[    1.630945] {m}**",
    "bold without a time": "**{m}**",
    "inline code": "`[    1.630945] {m}`",
    "escaped": r"\[    1.630945\] {m}",
    "HTML breaks": "[    1.630945] {m}<br>",
    "HTML list": "<li>[    1.630945] {m}</li>",
    "HTML code": "<code>[    1.630945] {m}</code>",
    "Ansible": '        "[    1.630945] {m}",',
    "CSV": '"2024-07-10 20:50:19","host","[    1.630945] {m}"',
    "CSV without a time": "2024-07-10T20:50:19Z,host,kernel,{m}",
    "documentation": "[  XXX.XXXXXX] {m}",
    "time without blanks": "[1.630945] {m}",
    "chat": "[20:50] alice: [    1.630945] {m}",
    "chat, twelve hours": "alice  8:50 PM  [    1.630945] {m}",
    "quoted diff": "> +  [    1.630945] {m}",
}


def wrap(template: str, messages: tuple[str, ...]) -> str:
    return "".join(template.replace("{m}", message) + "\n" for message in messages)


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_wrapping(name: str) -> None:
    """A log whose every line stands in the same wrapping says what it says without."""
    log = parse_log_text(wrap(WRAPPINGS[name], (*MAP, "hello", *UP)))
    report = read_report(log)
    assert (report.state, report.pamt_kib) == (ModuleState.INITIALIZED, 1050644)
    assert (
        read_boot_map(log, "log").e820.value
        == read_boot_map(parse_log_text(wrap("{m}", (*MAP, "x"))), "").e820.value
    )
    assert read_report(parse_log_text(wrap(WRAPPINGS[name], DOWN))).errno == -5


@pytest.mark.parametrize("name", [name for name in WRAPPINGS if "grep" in name or "bullet" in name])
def test_a_wrapped_line_in_a_log_of_another_form(name: str) -> None:
    """Between lines of a log's own form it makes nothing better, and a failure counts."""
    log = f"[    1.000000] {KEYIDS}\n"
    assert read_report(parse_log_text(log + wrap(WRAPPINGS[name], UP))).state is not ModuleState.INITIALIZED
    assert read_report(parse_log_text(log + wrap(WRAPPINGS[name], DOWN))).state is ModuleState.FAILED


@pytest.mark.parametrize("columns", [40, 60, 75])
@pytest.mark.parametrize("start", ["", "[    1.630945] ", "> [    1.630945] "])
def test_broken_lines(columns: int, start: str) -> None:
    """Lines that a terminal or a mailer has broken are put together again."""
    broken = []
    for line in wrap(start + "{m}", (*MAP, "hello", *DOWN)).splitlines():
        broken += [line[i : i + columns] for i in range(0, len(line), columns)]
    log = parse_log_text("\n".join(broken) + "\n")
    assert read_report(log).errno == -5
    assert read_report(log).keyids == (32, 64)
    ram = [r for r in read_boot_map(log, "log").e820.value or () if r.kind == "System RAM"]
    assert [hex(r.end) for r in ram] == ["0x9e000", "0x6d8f0000", "0x480000000"]


@pytest.mark.parametrize(
    ("line", "first", "number"),
    [
        # Behind the log's own prefix it is a message of the kernel's that only quotes the words.
        ("~~ virt/tdx: module initialized ~~", "module initialized", 1),
        ("virt/tdx: some words of a new kernel", "some words", 2),
        ("I saw tdx: failed to start something", "failed to start", 1),
    ],
)
def test_what_is_left_is_counted(line: str, first: str, number: int) -> None:
    """A line about TDX that could not be read is told, with how many there are."""
    health = facts_from_log(
        read_log_file("x", f"[    1.000000] {KEYIDS}\n[    1.1] {line}\n~ {line}\n")
    ).log_health
    assert health is not None
    assert (health.unread, health.loose) == (number, 0)
    assert first in (health.first_unread or "")


@pytest.mark.parametrize("form", ["dmesg --json", "journalctl -o export"])
def test_what_is_left_is_counted_in_other_forms(form: str) -> None:
    """There too a success is none beside a line that may be a failure."""
    messages = [KEYIDS, "virt/tdx: 1050644 KB allocated for PAMT", "virt/tdx: thing failed"]
    text = {
        "dmesg --json": json.dumps({"dmesg": [{"pri": 6, "time": 1.0, "msg": m} for m in messages]}),
        "journalctl -o export": "\n".join(f"__CURSOR=1\n_TRANSPORT=kernel\nMESSAGE={m}\n" for m in messages),
    }[form]
    reading = read_log_file("x", text)
    assert reading.value is not None
    assert read_report(reading.value).state is ModuleState.UNKNOWN
    health = facts_from_log(reading).log_health
    assert health is not None
    assert (health.unread, health.first_unread) == (1, "virt/tdx: thing failed")


@pytest.mark.parametrize("line", ["virt/tdx: x" + " " * 200_000 + "y", "x " + "BIOS- " * 200_000])
def test_a_line_made_to_take_long(line: str) -> None:
    """It is read at once: by the square of its length it would take hours."""
    signal.alarm(120)
    try:
        assert parse_log_text(f"{line}\n").own == 0
    finally:
        signal.alarm(0)


@pytest.mark.parametrize(
    "text",
    [
        "# A project\n\nThis tells whether TDX comes up.\n",
        "root:x:0:0:root:/root:/bin/bash\n",
        "d41d8cd98f00b204e9800998ecf8427e  sosreport.tar.xz\n",
    ],
)
def test_no_log_at_all(text: str) -> None:
    """A file without one kernel message is refused."""
    reading = read_log_file("README.md", text)
    assert reading.value is None
    assert "no kernel message in README.md" in str(reading.error)


@pytest.mark.parametrize("form", ["export", "verbose"])
def test_fields_of_the_journal(form: str) -> None:
    """`journalctl -o export` and `-o verbose`: another program's message is none of the kernel's."""
    start = {
        "export": "__CURSOR=s=1;i=1\n",
        "verbose": "Wed 2024-07-10 20:50:19 CEST [s=1;i=1;b=2;m=3;t=4;x=5]\n",
    }
    indent, end = ("", "\n") if form == "export" else ("    ", "")
    entries = [(message, "kernel") for message in DOWN] + [("virt/tdx: module initialized", "syslog")]
    text = "".join(
        f"{start[form]}{indent}_TRANSPORT={transport}\n{indent}MESSAGE={message}\n{end}"
        for message, transport in entries
    )
    log = parse_log_text(text)
    assert [record.text for record in log.records] == list(DOWN)
    assert not log.verified


@settings(max_examples=300, deadline=None)
@given(
    before=st.text("abc 1[]:*->|`'\"<", max_size=12),
    behind=st.text("abc 1[]:*->|`'\"<", max_size=8),
    broken=st.integers(1, 90),
)
def test_whatever_stands_around_them(before: str, behind: str, broken: int) -> None:
    """Whatever is put around a failed host's lines: never a better state, and never silence."""
    lines = [f"{before}[    1.630945] {message}{behind}" for message in DOWN]
    text = "\n".join(line[:broken] + "\n" + line[broken:] for line in lines) + "\n"
    reading = read_log_file("log", text)
    if reading.value is None:
        assert "could not be read" in str(reading.error)
        return
    report = read_report(reading.value)
    assert report.state in (ModuleState.FAILED, ModuleState.UNKNOWN, ModuleState.NOT_ATTEMPTED)
    health = facts_from_log(reading).log_health
    assert health is not None
    assert report.state is ModuleState.FAILED or health.unread or health.loose
