# SPDX-License-Identifier: Apache-2.0
"""Every host's log as every kernel and every program prints it: one plan, through the command line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.cli import main
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg

if TYPE_CHECKING:
    from collections.abc import Callable

TESTS = Path(__file__).parents[1]
LOGS = sorted((Path(__file__).parent / "logs").glob("*.log"))
EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "expected.json").read_text())
HOSTS = sorted(path for path in (TESTS / "hosts").iterdir() if path.is_dir())
BOOT = "0123456789abcdef" * 2

each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda path: path.name)


@cache
def messages(host: Path) -> list[tuple[int, str]]:
    """Time in microseconds, and text, of every record that the kernel wrote."""
    if (host / "dev/kmsg").exists():
        return [(r.time or 0, r.text) for r in parse_kmsg((host / "dev/kmsg").read_text()).records]
    found = []
    for line in (host / "dmesg").read_text().splitlines():
        time, _, text = line.removeprefix("[").partition("] ")
        found.append((round(float(time) * 1e6), text))
    return found


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", "--format", "json", *arguments]) == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


_ROW = re.compile(r"(BIOS-e820|user): \[mem 0x([0-9a-f]{16})-0x([0-9a-f]{16})\] ( ?)(.+)")
_NEW = {
    "usable": "System RAM",
    "reserved": "device reserved",
    "ACPI data": "ACPI data",
    "ACPI NVS": "ACPI NVS",
}
_OLD = {new: old for old, new in _NEW.items()}


def as_old(texts: list[str]) -> list[str]:
    """E820 as kernels before 7.0 print it."""
    found = []
    for text in texts:
        if match := _ROW.fullmatch(text):
            kind = _OLD.get(match[5], match[5])
            found.append(f"{match[1]}: [mem 0x{match[2]}-0x{match[3]}] {kind}")
        elif "[gap 0x" not in text:
            found.append(text)
    return found


def as_new(texts: list[str]) -> list[str]:
    """E820 as kernels from 7.0 on print it: two blanks, long names, gaps."""
    found: list[str] = []
    last_end = 0
    for text in as_old(texts):
        if match := _ROW.fullmatch(text):
            start, last = int(match[2], 16), int(match[3], 16)
            if start > last_end:
                found.append(f"{match[1]}: [gap 0x{last_end:016x}-0x{start - 1:016x}]")
            last_end = last + 1
            kind = _NEW.get(match[5], match[5])
            found.append(f"{match[1]}: [mem 0x{match[2]}-0x{match[3]}]  {kind}")
        else:
            last_end = 0
            found.append(text)
    return found


FORMS: dict[str, Callable[[int, str], str]] = {
    "plain": lambda _, text: text,
    "dmesg": lambda t, text: f"[{t / 1e6:12.6f}] {text}",
    "caller": lambda t, text: f"[{t / 1e6:12.6f}][    T{t % 9}] {text}",
    "caller-apart": lambda t, text: f"[{t / 1e6:12.6f}] [    C{t % 9}] {text}",
    "dmesg -T": lambda t, text: f"[Wed Jul 10 20:50:{t // 10**6 % 60:02} 2024] {text}",
    "dmesg -x": lambda t, text: f"kern  :info  : [{t / 1e6:12.6f}] {text}",
    "dmesg -xT": lambda _, text: f"kern  :notice: [Wed Jul 10 20:50:19 2024] {text}",
    "dmesg -r": lambda t, text: f"<6>[{t / 1e6:12.6f}] {text}",
    "dmesg -d": lambda t, text: f"[{t / 1e6:12.6f} <    0.000123>] {text}",
    "dmesg -H": lambda _, text: f"[  +0.000123] {text}",
    "iso": lambda t, text: f"2024-07-10T20:50:19,{t % 10**6:06}+02:00 {text}",
    "short": lambda _, text: f"Jul 10 20:50:19 host kernel: {text}",
    "short-precise": lambda t, text: f"Jul 10 20:50:19.{t % 10**6:06} host kernel: {text}",
    "short-iso": lambda _, text: f"2024-07-10T20:50:19+0200 host kernel: {text}",
    "short-iso-precise": lambda t, text: f"2024-07-10T20:50:19.{t % 10**6:06}+02:00 host kernel: {text}",
    "short-full": lambda _, text: f"Wed 2024-07-10 20:50:19 CEST host kernel: {text}",
    "short-monotonic": lambda t, text: f"[{t / 1e6:12.6f}] host kernel: {text}",
    "short-delta": lambda t, text: f"[{t / 1e6:12.6f} <    0.000123 >] host kernel: {text}",
    "short-unix": lambda t, text: f"1720637419.{t % 10**6:06} host kernel: {text}",
    "syslog": lambda t, text: f"Jul 10 20:50:19 host kernel: [{t / 1e6:12.6f}] {text}",
    "journal json": lambda t, text: json.dumps(
        {
            "MESSAGE": text,
            "_TRANSPORT": "kernel",
            "_BOOT_ID": BOOT,
            "SYSLOG_FACILITY": "0",
            "_SOURCE_MONOTONIC_TIMESTAMP": str(t),
        }
    ),
}
WHOLE_FORMS: dict[str, Callable[[list[tuple[int, str]]], str]] = {
    "dmesg --json": lambda lines: json.dumps(
        {"dmesg": [{"pri": 6, "time": t / 1e6, "msg": text} for t, text in lines]}, indent=3
    ),
    "dmesg --json -x": lambda lines: json.dumps(
        {"dmesg": [{"fac": "kern", "pri": "info", "time": t / 1e6, "msg": text} for t, text in lines]},
        indent=3,
    ),
}


@each_host
@pytest.mark.parametrize("e820", [as_old, as_new], ids=["before 7.0", "7.0"])
def test_every_print_format(
    host: Path, e820: Callable[[list[str]], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same messages give the same plan in every form, with every line end and either form of E820."""
    file = tmp_path / "log"
    lines = messages(host)
    file.write_text("".join(f"[{t / 1e6:12.6f}] {text}\n" for t, text in lines))
    expected = plan(capsys, "--log", str(file))
    texts = e820([text for _, text in lines])
    times = [t for t, _ in lines] + [lines[-1][0]] * len(texts)
    new = list(zip(times, texts, strict=False))
    for form, printed in FORMS.items():
        for end in ("\n", "\r\n"):
            file.write_bytes("".join(printed(t, text) + end for t, text in new).encode())
            assert plan(capsys, str(file)) == expected, (form, end)
    for form, whole in WHOLE_FORMS.items():
        file.write_text(whole(new))
        assert plan(capsys, str(file)) == expected, form


PACKED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_field_logs_through_the_command_line(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan LOG` tells what each real log shows, and the same when the log is compressed."""
    found = plan(capsys, str(path))
    expected = EXPECTED[path.stem]
    observed = found["observed"]
    assert observed["module_state"] in expected["states"]
    for key in ("errno", "reason", "pamt_kib", "module_version", "keyids"):
        assert observed[key] == expected[key], key
    cmrs = expected["cmrs"] and [
        [int(start, 16), int(end, 16) - int(start, 16)] for start, end in expected["cmrs"]
    ]
    assert observed["cmrs"] == (cmrs or None)
    for suffix, pack in PACKED.items():
        (tmp_path / f"log.{suffix}").write_bytes(pack(path.read_bytes()))
        assert plan(capsys, str(tmp_path / f"log.{suffix}")) == found


def test_the_log_alone_gives_the_plan_of_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the text of dmesg alone the Emerald Rapids host has the plan that its files give, to the area.

    What differs is what a log cannot tell: the host's name, and from which source PAMT places are predicted.
    """
    host = TESTS / "hosts" / "emerald-rapids"
    (tmp_path / "dmesg.txt").write_text("".join(f"[{t / 1e6:12.6f}] {text}\n" for t, text in messages(host)))
    from_log = plan(capsys, str(tmp_path / "dmesg.txt"))
    from_files = plan(capsys, str(host))
    for key in ("strategies", "observed", "nodes_known"):
        assert from_log[key] == from_files[key]
    for key in ("state", "next_boot", "strategy", "summary", "remedies", "warnings", "plan_matches_kernel"):
        assert from_log["verdict"][key] == from_files["verdict"][key]
    differs = [
        (a, b)
        for a, b in zip(from_log["verdict"]["evidence"], from_files["verdict"]["evidence"], strict=True)
        if a != b
    ]
    assert differs == [
        (
            "Where the PAMTs lie is predicted: zones from log-zones, reserved memory from log-crash-kernel.",
            "Where the PAMTs lie is predicted: zones from zoneinfo, reserved memory from memblock-reserved.",
        )
    ]


@each_host
def test_strategies_from_the_log_are_those_from_the_files(
    host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every captured host's plans come out of its log alone."""
    (tmp_path / "log").write_text("".join(f"[{t / 1e6:12.6f}] {text}\n" for t, text in messages(host)))
    assert plan(capsys, str(tmp_path / "log"))["strategies"] == plan(capsys, str(host))["strategies"]
