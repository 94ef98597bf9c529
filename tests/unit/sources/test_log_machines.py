# SPDX-License-Identifier: Apache-2.0
"""Logs of several machines in one text, and those of one machine that look so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_boots, parse_log_text

if TYPE_CHECKING:
    from collections.abc import Callable

FAILS = (
    "Linux version 6.12.5 (build@host) #1 SMP",
    "Command line: BOOT_IMAGE=/vmlinuz-6.12.5 kvm_intel.tdx=1",
    "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
    "virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.",
    "virt/tdx: module initialization failed (-28)",
)
COMES_UP = (*FAILS[:3], "virt/tdx: 1050644 KB allocated for PAMT", "virt/tdx: module initialized")
UNRELATED = "loop0: detected capacity change from 0 to 8"

FORMS: dict[str, Callable[[str, str], str]] = {
    "syslog": lambda host, text: f"Jul 10 20:50:19 {host} kernel: {text}",
    "ISO time": lambda host, text: f"2024-07-10T20:50:19.123456+00:00 {host} kernel: {text}",
    "monotonic": lambda host, text: f"[    1.630945] {host} kernel: {text}",
    "RFC 5424": lambda host, text: f"<6>1 2024-07-10T20:50:19.123456Z {host} kernel - - - {text}",
    "RFC 3164": lambda host, text: f"<6>Jul 10 20:50:19 {host} kernel: {text}",
    "pdsh": lambda host, text: f"{host}: [    1.630945] {text}",
    "grep": lambda host, text: f"/srv/logs/{host}/dmesg:[    1.630945] {text}",
    "Ansible": lambda host, text: f'    "{host}": "[    1.630945] {text}",',
}


def lines(form: str, host: str, texts: tuple[str, ...]) -> list[str]:
    return [FORMS[form](host, text) for text in texts]


def state(found: list[str]) -> ModuleState:
    return read_report(parse_log_text("".join(f"{line}\n" for line in found))).state


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["one", "other", "turns"])
def test_two_machines(form: str, order: str) -> None:
    """What one of them says is not laid to the other's charge, whichever comes last."""
    one, other = lines(form, "rack7", FAILS), lines(form, "rack8", COMES_UP)
    assert (state(one), state(other)) == (ModuleState.FAILED, ModuleState.INITIALIZED)
    turns = [line for pair in zip(one, other, strict=True) for line in pair]
    with pytest.raises(SourceError, match=r"several .*: .*rack[78].*, .*rack[78]") as caught:
        state({"one": one + other, "other": other + one, "turns": turns}[order])
    assert caught.value.source == "kernel-log"
    assert caught.value.hint


@pytest.mark.parametrize("form", ["syslog", "monotonic", "RFC 5424"])
def test_outcomes_of_two_machines(form: str) -> None:
    """Of a log server, what grep has left of it: nothing in it begins a boot."""
    one, other = lines(form, "rack7", FAILS[3:]), lines(form, "rack8", COMES_UP[3:])
    with pytest.raises(SourceError):
        state([line for pair in zip(one, other, strict=True) for line in pair])


def test_many_machines() -> None:
    """A few of their names are enough."""
    found = [line for number in range(20, 60) for line in lines("syslog", f"rack{number}", FAILS)]
    with pytest.raises(SourceError, match="rack20, rack21, rack22 and 37 more"):
        state(found)


@pytest.mark.parametrize("form", ["syslog", "monotonic", "RFC 5424"])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("localhost", "rack7"),
        ("localhost.localdomain", "rack7"),
        ("ubuntu", "rack7"),
        ("rack7", "rack7.example.com"),
        ("RACK7", "rack7"),
        ("image-2024", "rack7"),
        ("(none)", "10.0.0.7"),
    ],
)
def test_a_name_that_comes_late(form: str, first: str, then: str) -> None:
    """A machine gets its name while it boots, in each boot again."""
    boot = lines(form, first, COMES_UP[:3]) + lines(form, then, (UNRELATED, *COMES_UP[3:]))
    assert state(boot) is ModuleState.INITIALIZED
    assert state(boot + boot) is ModuleState.INITIALIZED


def test_addresses_are_whole_names() -> None:
    """10.0.0.7 and 10.0.0.8 have no domain in common."""
    with pytest.raises(SourceError, match=r"10\.0\.0\.7, 10\.0\.0\.8"):
        state(lines("syslog", "10.0.0.7", FAILS) + lines("syslog", "10.0.0.8", COMES_UP))


def test_what_stands_before_lines_may_vary() -> None:
    """A level, a chat's names or a month are no machines: only one of them begins a boot."""
    found = [f"level={('info', 'warn')[n % 2]} [    1.630945] {text}" for n, text in enumerate(FAILS[3:] * 3)]
    head = [f"level=info [    1.630945] {text}" for text in FAILS[:3]]
    assert state(head + found) is ModuleState.FAILED


def entries(machine: str, boot: str, texts: tuple[str, ...]) -> str:
    common = {
        "_TRANSPORT": "kernel",
        "SYSLOG_FACILITY": "0",
        "_MACHINE_ID": machine * 32,
        "_BOOT_ID": boot * 32,
    }
    return "".join(json.dumps({**common, "MESSAGE": text}) + "\n" for text in texts)


def test_machines_of_a_journal() -> None:
    """journalctl reads the journals of several machines with -m or -D; ids tell them apart, names do not."""
    assert len(parse_boots(entries("a", "1", FAILS) + entries("a", "2", COMES_UP))) == 2
    with pytest.raises(SourceError, match="several hosts"):
        parse_boots(entries("a", "1", FAILS) + entries("b", "2", COMES_UP))
