# SPDX-License-Identifier: Apache-2.0
"""Logs whose line ends were lost on their way, and lines about TDX with something before them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.known_lines import hides_failure
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_log_text

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = [
    "Linux version 6.8.0-1010-intel (build@host) #1 SMP",
    "Command line: BOOT_IMAGE=/vmlinuz-6.8.0-1010-intel ro",
    "BIOS-provided physical RAM map:",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable",
    "BIOS-e820: [mem 0x0000000000100000-0x000000087fffffff] usable",
    "NX (Execute Disable) protection: active",
    "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
    "virt/tdx: module initialized",
    "loop0: detected capacity change from 0 to 8",
]
FAILED = "virt/tdx: module initialization failed (-28)"
PREFIXES = {
    "dmesg": "[    1.630945] ",
    "dmesg -r": "<6>[    1.630945] ",
    "dmesg -x": "kern  :info  : [    1.630945] ",
    "dmesg -T": "[Wed Jul 10 20:50:19 2024] ",
    "journal": "Jul 10 20:50:19 rack7 kernel: ",
    "syslog": "2024-07-10T20:50:19.630945+02:00 rack7 kernel: [    1.630945] ",
}
ENDS: dict[str, Callable[[str], str]] = {
    "CR": lambda text: text.replace("\n", "\r"),
    "two CR": lambda text: text.replace("\n", "\r\r"),
    "letters": lambda text: text.replace("\n", "\\n"),
    "letters with CR": lambda text: text.replace("\n", "\\r\\n") + "\n",
    "string of JSON": lambda text: json.dumps(text) + "\n",
    "blanks": lambda text: text.replace("\n", " "),
    "a blank, as HTML shows blanks": lambda text: " ".join(text.split()),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("end", ENDS)
def test_line_ends(prefix: str, end: str) -> None:
    """What stands in one line is read as the lines that it was."""
    log = parse_log_text(ENDS[end]("".join(f"{PREFIXES[prefix]}{text}\n" for text in MESSAGES)))
    assert [record.text for record in log.records][:8] == MESSAGES[:8]
    assert read_boot_map(log, "log").e820.value
    assert read_report(log).state is ModuleState.INITIALIZED


def test_line_ends_inside_a_log() -> None:
    """In a log that has its line ends nothing else begins a line: a program chooses its name."""
    lines = [f"[    1.630945] {text}" for text in MESSAGES]
    lines[5] = "[    1.630945] x\rvirt/tdx: a\\nvirt/tdx: module initialized"
    log = parse_log_text("\n".join(lines) + "\n")
    assert len(log.records) == len(MESSAGES)


def test_long_blanks() -> None:
    """A line of nothing but blanks costs no more than its length."""
    assert parse_log_text(" " * 300_000 + "x").records


@pytest.mark.parametrize(
    "before",
    ["Jul-10 rack7: ", "\x1b[5;1H ", "x \x1b[7A", "(3) ", "#033[1m", "kernel says "],
)
def test_something_before_a_failure(before: str) -> None:
    """A record with the log's own prefix that tells of TDX behind something else is counted."""
    lines = [f"[    1.630945] {text}" for text in [*MESSAGES[:7], f"{before}{FAILED}", MESSAGES[8]]]
    log = parse_log_text("\n".join(lines) + "\n")
    assert read_report(log).state in (ModuleState.UNKNOWN, ModuleState.FAILED)
    assert hides_failure(log) or read_report(log).state is ModuleState.FAILED


@pytest.mark.parametrize(
    "message",
    [
        "br-tdx: port 1(vnet0) entered blocking state",
        "Kernel command line: ro kvm_intel.tdx=1 x=virt/tdx: ",
        "tdx[4711]: segfault at 0 ip 0 error 4 in virt/tdx: x",
    ],
)
def test_names(message: str) -> None:
    """What programs and bridges are called is no line about TDX."""
    log = parse_log_text("".join(f"[    1.630945] {text}\n" for text in [*MESSAGES, message]))
    assert log.unread == ()
