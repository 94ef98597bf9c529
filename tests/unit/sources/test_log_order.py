# SPDX-License-Identifier: Apache-2.0
"""Logs that have their newest line first."""

from __future__ import annotations

import json

import pytest

from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_boots

OLDER, NEWER = "a" * 32, "b" * 32


def boot(release: str, end: str) -> list[tuple[int, str]]:
    """Microseconds and messages of a boot."""
    return [
        (0, f"Linux version {release} (build@host) #1 SMP"),
        (0, f"Command line: BOOT_IMAGE=/vmlinuz-{release} ro kvm_intel.tdx=1"),
        (0, "BIOS-provided physical RAM map:"),
        (0, "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable"),
        (0, "BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable"),
        (0, "BIOS-e820: [mem 0x0000000100000000-0x000000087fffffff] usable"),
        (4_000, "NX (Execute Disable) protection: active"),
        (1_220_431, "virt/tdx: BIOS enabled: private KeyID range [64, 128)"),
        (9_100_200, "virt/tdx: CMR: [0x100000, 0x80000000)"),
        (9_100_207, "virt/tdx: CMR: [0x100000000, 0x880000000)"),
        (10_774_052, end),
        (11_000_001, "loop0: detected capacity change from 0 to 8"),
    ]


BOOTS = [
    boot("6.8.0-1004-intel", "virt/tdx: module initialization failed (-28)"),
    boot("6.8.0-1010-intel", "virt/tdx: module initialized"),
]


def journal(boots: list[list[tuple[int, str]]], first_at: int = 1_760_000_000_000_000) -> list[str]:
    """Entries of boots an hour apart."""
    return [
        json.dumps(
            {
                "_BOOT_ID": (OLDER, NEWER)[number],
                "_TRANSPORT": "kernel",
                "SYSLOG_FACILITY": "0",
                "__REALTIME_TIMESTAMP": str(first_at + number * 3_600_000_000 + time + 7_000_000),
                "__MONOTONIC_TIMESTAMP": str(7_000_000 + time + n),
                "_SOURCE_MONOTONIC_TIMESTAMP": str(time),
                "MESSAGE": text,
            }
        )
        for number, one in enumerate(boots)
        for n, (time, text) in enumerate(one)
    ]


def told(lines: list[str], *, end: str = "\n") -> list[tuple[object, ...]]:
    """What the agent makes of each boot in these lines."""
    return [
        (
            boot.boot_id,
            boot.log.earlier,
            boot.began,
            (report := read_report(boot.log)).state,
            report.errno,
            report.cmrs,
            report.cmrs_complete,
            (found := read_boot_map(boot.log, "log")).kernel_release,
            found.e820.value,
        )
        for boot in parse_boots("\n".join(lines) + end)
    ]


def test_journal_newest_first() -> None:
    """`journalctl -r -o json`: the entries of each boot, and the boots, are in the order of time."""
    lines = journal(BOOTS)
    expected = told(lines)
    assert [one[0] for one in expected] == [OLDER, NEWER]
    assert told(lines[::-1]) == expected


def test_journals_newest_first_one_after_the_other() -> None:
    """The boots' own order is by the clock: `journalctl -r -b -1` and `journalctl -r -b` in one file."""
    lines = journal(BOOTS)
    half = len(BOOTS[0])
    assert told([*lines[:half][::-1], *lines[half:][::-1]]) == told(lines)


def test_clock_that_was_put_back() -> None:
    """In a journal in its own order neither boots nor entries go by the time of day."""
    lines = [json.loads(line) for line in journal(BOOTS)]
    for n, entry in enumerate(lines):
        entry["__REALTIME_TIMESTAMP"] = str(1_760_000_000_000_000 - n * 1_000_000)
    assert [one[0] for one in told([json.dumps(entry) for entry in lines])] == [OLDER, NEWER]


def test_processors_that_overtake_each_other() -> None:
    """A record that is out of order by itself turns nothing round."""
    one = [*BOOTS[0][:-2], BOOTS[0][-1], BOOTS[0][-2]]
    assert told(journal([one]))[0][3:5] == told(journal(BOOTS[:1]))[0][3:5]


FORMS = {
    "short-monotonic": "[{since:12.6f}] rack7 kernel: {text}",
    "short": "Oct 12 {hour:02}:14:{second:02} rack7 kernel: {text}",
    "across midnight": "{midnight}:{second:02} rack7 kernel: {text}",
    "short-unix": "{epoch:.6f} rack7 kernel: {text}",
    "dmesg": "[{since:12.6f}] {text}",
    "dmesg -r": "<6>[{since:12.6f}] {text}",
    "dmesg -T": "[Sun Oct 12 {hour:02}:14:{second:02} 2026] {text}",
    "no times": "{text}",
    "/dev/kmsg": "6,{seq},{time},-;{text}",
}


def printed(form: str, *boots: list[tuple[int, str]]) -> list[str]:
    """The lines of boots in one of these forms."""
    records = [(n, *record) for n, one in enumerate(boots) for record in one]
    return [
        FORMS[form].format(
            since=time / 1e6,
            time=time,
            text=text,
            hour=3 + n,
            second=time // 1_000_000,
            midnight="Oct 13 00:00" if time > 5_000_000 else "Oct 12 23:59",
            epoch=1_760_000_000 + n * 3600 + time / 1e6,
            seq=seq,
        )
        for seq, (n, time, text) in enumerate(records, 500)
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("one", BOOTS, ids=["failed", "initialized"])
def test_text_newest_first(form: str, one: list[tuple[int, str]]) -> None:
    """tac(1) and `journalctl -r` take nothing away, and make nothing up."""
    lines = printed(form, one)
    expected = told(lines)
    assert expected[0][5]
    assert expected[0][8]
    assert told(lines[::-1]) == expected


@pytest.mark.parametrize("form", ["short", "short-monotonic"])
def test_boots_newest_first(form: str) -> None:
    """The mark of a boot stands above its lines in both orders."""
    older, newer = printed(form, BOOTS[0]), printed(form, [], BOOTS[1])
    expected = told([*older, f"-- Boot {NEWER} --", *newer])
    found = told([*newer[::-1], f"-- Boot {OLDER} --", *older[::-1]])
    assert [one[1:] for one in found] == [one[1:] for one in expected]
    assert found[0][0] == OLDER


def test_boots_without_marks_newest_first() -> None:
    """Of a syslog that somebody has turned round the last boot is the one above."""
    lines = printed("dmesg", *BOOTS)
    assert told(lines[::-1]) == told(lines)
    assert len(told(lines)) == 2


def test_boots_of_which_a_line_each_is_left() -> None:
    """Times that fall from boot to boot are no log that is turned round."""
    lines = [f"[    5.{9 - n}00000] virt/tdx: BIOS enabled: private KeyID range [{n}, 64)" for n in range(4)]
    report = read_report(parse_boots("\n".join(lines) + "\n")[-1].log)
    assert report.keyids == (3, 64)


def test_newest_first_without_its_end() -> None:
    """The line that may have been cut is the first of the boot: it is left out."""
    cut = printed("dmesg", [(0, "Command line: BOOT_IMAGE=/vmlinuz-6.8.0-10"), *BOOTS[1][2:]])
    (found,) = parse_boots("\n".join(cut[::-1]))
    assert read_boot_map(found.log, "log").kernel_release is None
    assert read_boot_map(found.log, "log").e820.value


def test_dmesg_json_newest_first() -> None:
    """What jq has turned round is in order."""
    entries = [{"pri": 6, "time": time / 1e6, "msg": text} for time, text in BOOTS[1]]
    one, other = (parse_boots(json.dumps({"dmesg": found}))[0].log for found in (entries, entries[::-1]))
    assert read_report(one) == read_report(other)
    assert other.records[-1].text.startswith("loop0")
