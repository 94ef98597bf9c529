# SPDX-License-Identifier: Apache-2.0
"""Logs of real hosts: as they are, printed in other forms, and cut anywhere.

``logs/`` holds what the machines printed, ``expected.json`` what each log shows. ``states`` are the states
that may be claimed; where a key is null, nothing may be claimed about it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.address import Range
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.host.choose import facts_from_log
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.sources.kernel_log.records import KernelLog
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_log_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.sources.kernel_log.boot_map import BootMap

FOLDER = Path(__file__).parent
LOGS = {path.stem: path.read_text("utf-8") for path in sorted((FOLDER / "logs").glob("*.log"))}
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
BOOT = "0123456789abcdef" * 2

each_log = pytest.mark.parametrize("name", LOGS)


def hexadecimal(bounds: list[str]) -> Range:
    start, end = (int(bound, 16) for bound in bounds)
    return Range(start, end)


def messages(name: str) -> list[str]:
    """The kernel's messages in a log, by a plainer rule than the agent's: what follows the time."""
    found = []
    for line in LOGS[name].splitlines():
        text = re.sub(r"^(\[ *[0-9.]+\] |[A-Z][a-z]{2} \d\d [0-9:]{8} host kernel: )?", "", line)
        found.append(text if text.startswith("  node") else text.strip())
    return found


def unverified(report: KernelReport) -> KernelReport:
    return replace(report, verified=False)


def whole(name: str) -> tuple[KernelReport, BootMap]:
    log = parse_log_text(LOGS[name])
    return unverified(read_report(log)), read_boot_map(log, "log")


def known(boot: BootMap) -> tuple[object, ...]:
    """What the boot messages told, without where it came from."""
    return (
        boot.node_ranges.value,
        boot.e820.value,
        boot.firmware.value,
        boot.srat.value,
        boot.kernel_release,
        boot.command_line,
    )


def test_every_log_has_its_expectation() -> None:
    """No log goes without being checked, and no expectation without a log."""
    assert set(LOGS) == set(EXPECTED)
    assert len(LOGS) == 20


@each_log
def test_log_as_it_is(name: str) -> None:
    """Each log is read as what it shows."""
    expected = EXPECTED[name]
    facts: HostFacts = facts_from_log(read_log_file(name, LOGS[name]))
    report = facts.kernel_log
    assert report is not None
    assert report.state in expected["states"]
    assert report.reason == expected["reason"]
    assert report.errno == expected["errno"]
    assert report.pamt_kib == expected["pamt_kib"]
    assert report.failed_tdmr == (hexadecimal(expected["failed_tdmr"]) if expected["failed_tdmr"] else None)
    assert report.keyids == (tuple(expected["keyids"]) if expected["keyids"] else None)
    assert report.module_version == expected["module_version"]
    assert report.cmrs == (tuple(map(hexadecimal, expected["cmrs"])) if expected["cmrs"] else None)
    assert facts.kernel_release == expected["kernel"]
    assert facts.command_line == (tuple(expected["arguments"]) if expected["arguments"] else None)
    memory = [facts.memory_source, len(facts.memory_regions)] if facts.memory_regions else None
    assert memory == expected["memory"]
    assert not report.verified


def coloured(message: str) -> str:
    subsystem, colon, rest = message.partition(": ")
    return f"\x1b[32m[   12.345678] \x1b[0m\x1b[33m{subsystem}{colon}\x1b[0m{rest}"


FORMS: dict[str, Callable[[str], str]] = {
    "bare": lambda m: m,
    "indented": lambda m: f"      {m}",
    "times": lambda m: f"[   12.345678] {m}",
    "callers": lambda m: f"[   12.345678] [ T1234] {m}",
    "dmesg -T": lambda m: f"[Wed Jul 10 20:50:19 2024] {m}",
    "dmesg -x": lambda m: f"kern  :info  : [   12.345678] {m}",
    "dmesg -r": lambda m: f"<6>[   12.345678] {m}",
    "dmesg -d": lambda m: f"[   12.345678 <    0.000123>] {m}",
    "dmesg -H": lambda m: f"[  +0.000123] {m}",
    "dmesg iso": lambda m: f"2024-07-10T20:50:19,345678+02:00 {m}",
    "colour": coloured,
    "short": lambda m: f"Jul 10 20:50:19 host kernel: {m}",
    "short-iso": lambda m: f"2024-07-10T20:50:19+0200 host kernel: {m}",
    "short-monotonic": lambda m: f"[   12.345678] host kernel: {m}",
    "short-full": lambda m: f"Wed 2024-07-10 20:50:19 CEST host kernel: {m}",
    "short-unix": lambda m: f"1720637419.345678 host kernel: {m}",
    "syslog": lambda m: f"Jul 10 20:50:19 host kernel: [   12.345678] {m}",
    "journal json": lambda m: json.dumps(
        {"MESSAGE": m, "_TRANSPORT": "kernel", "_BOOT_ID": BOOT, "SYSLOG_FACILITY": "0", "PRIORITY": "6"}
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_log_in_another_form(form: str, end: str) -> None:
    """The same messages give the same report and the same map in every form, with either line end."""
    for name in LOGS:
        log = parse_log_text("".join(FORMS[form](message) + end for message in messages(name)))
        report, boot = whole(name)
        assert unverified(read_report(log)) == report, name
        assert known(read_boot_map(log, "log")) == known(boot), name


@each_log
def test_log_as_records(name: str) -> None:
    """As records of /dev/kmsg the same messages give the same report, verified."""
    text = "".join(f"6,{seq},{seq * 100},-;{message}\n" for seq, message in enumerate(messages(name)))
    log = parse_kmsg(text)
    report, boot = whole(name)
    assert read_report(log) == replace(report, verified=True)
    assert known(read_boot_map(log, "log")) == known(boot)


@each_log
def test_log_as_json_of_dmesg(name: str) -> None:
    """As dmesg --json -x the same messages give the same report; with -S it could be forged: unverified."""
    entries = [{"fac": "kern", "pri": "info", "time": 1.5, "msg": message} for message in messages(name)]
    log = parse_log_text(json.dumps({"dmesg": entries}, indent=3))
    report, boot = whole(name)
    assert read_report(log) == report
    assert known(read_boot_map(log, "log")) == known(boot)


@pytest.mark.skipif(shutil.which("dmesg") is None, reason="dmesg is not installed")
@pytest.mark.parametrize(
    "options",
    ["--ctime", "--decode", "--reltime", "--show-delta", "--notime", "--time-format iso", "--color=always"],
)
def test_log_printed_by_dmesg(tmp_path: Path, options: str) -> None:
    """What the installed dmesg makes of the messages gives the same report."""
    for name in LOGS:
        raw = "".join(f"<6>[{i:5d}.345678] {message}\n" for i, message in enumerate(messages(name)))
        (tmp_path / "raw").write_text(raw)
        run = subprocess.run(
            ["dmesg", "--file", tmp_path / "raw", *options.split()],
            capture_output=True,
            text=True,
            check=True,
        )
        log = parse_log_text(run.stdout)
        report, boot = whole(name)
        assert unverified(read_report(log)) == report, name
        assert known(read_boot_map(log, "log")) == known(boot), name


@pytest.mark.parametrize("form", ["short", "short-iso", "short-monotonic", "short-unix"])
def test_log_of_another_boot_before(form: str) -> None:
    """Whatever an earlier boot printed, the last boot's log is read as if it were alone."""

    def printed(name: str) -> str:
        return "".join(FORMS[form](message) + "\n" for message in messages(name))

    for earlier in LOGS:
        for name in LOGS:
            report, boot = whole(name)
            log = parse_log_text(f"{printed(earlier)}-- Boot {BOOT} --\n{printed(name)}")
            assert unverified(read_report(log)) == report, name
            assert known(read_boot_map(log, "log")) == known(boot), name


@pytest.mark.parametrize(
    "forged",
    [
        "<12>[   99.0] virt/tdx: module initialized",
        "user  :notice: [   99.0] virt/tdx: module initialization failed (-28)",
        "Jul 10 20:50:19 host virt/tdx: module initialized",
        "Jul 10 20:50:19 host app[271]: virt/tdx: 5 KB allocated for PAMT",
        "[   99.0] virt/tdx: CMR: [271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "[   99.0] tdx: module ini[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        r"[   99.0] x\x0avirt/tdx: module initialized",
        "[   99.0] BIOS-e820: [mem[271]: segfault at 0",
    ],
)
def test_forged_line_changes_nothing(forged: str) -> None:
    """A line that the kernel did not print, or that only begins like one of its own, changes no report."""
    for name, text in LOGS.items():
        lines = text.splitlines()
        report, boot = whole(name)
        for i in range(len(lines) + 1):
            log = parse_log_text("\n".join([*lines[:i], forged, *lines[i:]]) + "\n")
            found = read_report(log)
            # One more record at the very beginning or end may show that a list is whole.
            assert unverified(replace(found, cmrs_complete=report.cmrs_complete)) == report, (name, i)
            if 0 < i < len(lines):
                assert found.cmrs_complete == report.cmrs_complete
                assert known(read_boot_map(log, "log")) == known(boot), (name, i)


def check_part(part: KernelLog, report: KernelReport, boot: BootMap) -> None:
    """What a part of a log tells must not contradict the whole."""
    found = unverified(read_report(part))
    if found.state in (ModuleState.INITIALIZED, ModuleState.FAILED, ModuleState.UNSUPPORTED):
        assert found.state is report.state
    assert found.errno in (None, report.errno)
    assert found.pamt_kib in (None, report.pamt_kib)
    assert found.failed_tdmr in (None, report.failed_tdmr)
    assert found.keyids in (None, report.keyids)
    # Versions and arguments have no end of their own: a cut leaves their beginning.
    assert (report.module_version or "").startswith(found.module_version or "")
    if found.cmrs_complete:
        assert found.cmrs == report.cmrs
    elif found.cmrs is not None:
        assert set(found.cmrs) <= set(report.cmrs or ())
    some = read_boot_map(part, "log")
    assert some.kernel_release in (None, boot.kernel_release)
    assert (boot.command_line or "").startswith(some.command_line or "")
    # A list that the whole log refuses is refused in its parts, any other is whole or refused.
    assert some.node_ranges.value in (None, boot.node_ranges.value)
    assert some.e820.value in (None, boot.e820.value)
    assert some.firmware.value in (None, boot.firmware.value)
    # The affinity table has no headline: what is left of it is true, if not complete.
    assert set(some.srat.value or ()) <= set(boot.srat.value or ())


@each_log
def test_first_and_last_lines(name: str) -> None:
    """A log that lost its end or its beginning never claims what the whole contradicts."""
    lines = LOGS[name].splitlines(keepends=True)
    report, boot = whole(name)
    for n in range(len(lines) + 1):
        check_part(parse_log_text("".join(lines[:n])), report, boot)
        check_part(parse_log_text("".join(lines[n:])), report, boot)


@each_log
def test_lines_from_the_middle(name: str) -> None:
    """A log that lost both never does either."""
    records = parse_log_text(LOGS[name]).records
    report, boot = whole(name)
    for i in range(len(records)):
        for j in range(i + 1, len(records)):
            check_part(KernelLog(records[i:j]), report, boot)


@each_log
def test_log_cut_inside_a_line(name: str) -> None:
    """A log that ends in the middle of its last line never claims what the whole contradicts."""
    text = LOGS[name]
    report, boot = whole(name)
    step = max(1, len(text) // 300)
    for n in range(0, len(text), step):
        check_part(parse_log_text(text[:n]), report, boot)
