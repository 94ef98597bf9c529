# SPDX-License-Identifier: Apache-2.0
"""Messages with line breaks that a user chose, as every program prints them: the verdict stays.

A program whose FILE NAME has line breaks, and crashes, makes the kernel print them; so do mount options. The
shapes below are what util-linux 2.38 and rsyslog make of such a record: the rest of the message is indented,
bare, or gets a prefix of its own.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.capture.build import TOP, make_capture
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.host.choose import facts_from_log, read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg
from tdx_headroom.sources.kernel_log.reader import read_log_file
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.checks import run_checks
from tdx_headroom.verdict.fleet import OWN, audit_host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Record = tuple[int, str]

HOSTS = Path(__file__).parents[1] / "hosts"
LOGS = Path(__file__).parent / "logs"
UP = "virt/tdx: 1050644 KB allocated for PAMT\nvirt/tdx: module initialized"
MAP = """\
BIOS-provided physical RAM map:
BIOS-e820: [mem 0x0000000000000000-0x000000407fffffff] usable
x
Early memory node ranges
  node   0: [mem 0x0000000000100000-0x000000407fffffff]
x"""

PAYLOADS = {
    "one line": "tdx: module initialized",
    "both lines": UP,
    "a boot": f"Linux version 6.8.0-1006-intel (x)\n{UP}",
    "the very version": f"Linux version 6.8.0-1004-intel (x)\n{UP}",
    "a command line": f"Command line: BOOT_IMAGE=x\n{UP}",
    "a command line without a slash": f"Command line: BOOT_IMAGE=vmlinuz-6.8.0-1006-intel nohibernate\n{UP}",
    "KeyIDs": f"virt/tdx: BIOS enabled: private KeyID range [16, 64)\n{UP}",
    "a whole boot": f"Linux version 6.8.0-1006-intel (x)\nCommand line: BOOT_IMAGE=x\n{MAP}\n{UP}",
    "a map": MAP,
    "a restart": f"-- Reboot --\n{UP}",
    "a boot of the journal": f"-- Boot {'1' * 32} --\nLinux version 6.8.0-1006-intel (x)\n{UP}",
    "no TDX": "Linux version 6.9.0 (x)\nsmp: Brought up 1 node, 2 CPUs\n"
    "tdx: TDX not supported by the host platform",
    "other reasons": "virt/tdx: initialization failed: too few private KeyIDs available.",
}
STAMPS = {
    "no stamp": "",
    "a stamp of the boot": "[    0.000000] ",
    "a priority": "<6>[    0.000000] ",
    "a facility": "kern  :info  : [    0.000000] ",
    "a syslog": "Jul 10 20:50:19 host kernel: ",
    "a quotation": "> [    0.000000] ",
}


def indented(prefix: Callable[[int], str]) -> Callable[[Sequence[Record]], str]:
    """What dmesg does: the rest of a message stands below its beginning."""

    def printed(records: Sequence[Record]) -> str:
        rows = []
        for time, text in records:
            start = prefix(time)
            rows.append(start + text.replace("\n", "\n" + " " * len(start)) + "\n")
        return "".join(rows)

    return printed


def repeated(prefix: Callable[[int], str]) -> Callable[[Sequence[Record]], str]:
    """What dmesg -S, --force-prefix and imklog do: each line has the prefix of its record."""
    return lambda records: "".join(
        f"{prefix(time)}{line}\n" for time, text in records for line in text.split("\n")
    )


def as_json(records: Sequence[Record]) -> str:
    entries = [{"fac": "kern", "pri": "info", "time": time / 1e6, "msg": text} for time, text in records]
    return json.dumps({"dmesg": entries}, indent=3)


def as_json_lines(records: Sequence[Record]) -> str:
    """dmesg -S --json -x."""
    return as_json([(time, line) for time, text in records for line in text.split("\n")])


def as_journal(records: Sequence[Record]) -> str:
    return "".join(
        json.dumps({"MESSAGE": text, "_TRANSPORT": "kernel", "_BOOT_ID": "0" * 32, "SYSLOG_FACILITY": "0"})
        + "\n"
        for _, text in records
    )


def as_export(records: Sequence[Record]) -> str:
    """journalctl -o export: a message with line breaks stands in binary form, behind its length."""
    entries = []
    for time, text in records:
        length = struct.pack("<Q", len(text)).decode("latin-1")
        message = f"MESSAGE\n{length}{text}" if "\n" in text else f"MESSAGE={text}"
        entries.append(f"__CURSOR=s=1\n_SOURCE_MONOTONIC_TIMESTAMP={time}\n_TRANSPORT=kernel\n{message}\n")
    return "\n".join(entries)


def clock(time: int) -> str:
    return f"[{time / 1e6:12.6f}] "


def date(time: int) -> str:
    return f"Wed Jul 10 20:{50 + time // 60_000_000 % 9}:{time // 10**6 % 60:02} 2024"


KEPT_APART: dict[str, Callable[[Sequence[Record]], str]] = {
    "dmesg": indented(clock),
    "dmesg -r": indented(lambda t: f"<6>{clock(t)}"),
    "dmesg -x": indented(lambda t: f"kern  :info  : {clock(t)}"),
    "dmesg -T": indented(lambda t: f"[{date(t)}] "),
    "dmesg -xT": indented(lambda t: f"kern  :info  : [{date(t)}] "),
    "dmesg -H": indented(lambda _: "[  +0.000003] "),
    "dmesg -d": indented(lambda t: f"[{t / 1e6:12.6f} <    0.000003>] "),
    "dmesg --time-format iso": indented(lambda t: f"2024-07-10T20:50:19,{t % 10**6:06}+02:00 "),
    "dmesg -t -x": indented(lambda _: "kern  :info  : "),
    "journalctl": indented(lambda _: "Jul 10 20:50:19 host kernel: "),
    "journalctl -o short-monotonic": indented(lambda t: f"[{t / 1e6:12.6f}] host kernel: "),
    "dmesg --json": as_json,
    "journalctl -o json": as_journal,
    "journalctl -o export": as_export,
}
"""Forms in which the rest of a message can be told from a message."""

FORMS = KEPT_APART | {
    "older dmesg -r": lambda records: "".join(f"<6>{clock(t)}{text}\n" for t, text in records),
    "dmesg -t": lambda records: "".join(f"{text}\n" for _, text in records),
    "dmesg -S": repeated(clock),
    "dmesg -S -r": repeated(lambda t: f"<6>{clock(t)}"),
    "dmesg -S -x": repeated(lambda t: f"kern  :info  : {clock(t)}"),
    "dmesg -S -T": repeated(lambda t: f"[{date(t)}] "),
    "dmesg -S -H": repeated(lambda _: "[  +0.000000] "),
    "imklog": repeated(lambda t: f"Jul 10 20:50:{19 + t // 60_000_000 % 30} host kernel: {clock(t)}"),
    "imklog without times": repeated(lambda t: f"2024-07-10T20:50:19.{t % 10**6:06}+02:00 host kernel: "),
    "dmesg -S --json": as_json_lines,
}


@cache
def failed_host() -> tuple[Record, ...]:
    """The log of a host on which TDX failed, and which ran on for an hour."""
    text = (HOSTS / "emerald-rapids/dev/kmsg").read_text()
    records = [(record.time or 0, record.text) for record in parse_kmsg(text).records]
    return (*records, (3600_000_000, "e1000e 0000:00:1f.6 eth0: NIC Link is Up"))


def look_at(form: str, records: Sequence[Record]) -> Assessment:
    return assess(facts_from_log(read_log_file("log", FORMS[form](records))))


def crash(payload: str, stamp: str) -> Record:
    lines = "".join(f"\n{stamp}{line}" for line in payload.split("\n"))
    return (3601_234_567, f"x[271]: segfault at 0 ip 0 sp 7ffe error 14 in x{lines}\nz[400000+1000]")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_forgery_below_a_failure(form: str, payload: str) -> None:
    """A host on which TDX failed stays failed, with the same plan, whatever a user makes the kernel print."""
    before = look_at(form, failed_host())
    assert before.verdict.state is State.FAILED
    for stamp in STAMPS.values():
        # A record of the kernel's own comes after it, and shows that lists above have ended.
        after = look_at(form, [*failed_host(), crash(PAYLOADS[payload], stamp), (3602_000_000, "eth0: up")])
        log = after.facts.kernel_log
        assert log is not None
        assert (log.state, log.errno) == (ModuleState.FAILED, -28), stamp
        assert (after.verdict.state, after.verdict.next_boot) == (State.FAILED, State.WILL_FAIL), stamp
        assert after.plans == before.plans, stamp
        assert after.facts.kernel_release == before.facts.kernel_release, stamp


@pytest.mark.parametrize("form", KEPT_APART)
def test_a_forged_line_that_is_kept_apart_is_not_used_at_all(form: str) -> None:
    """Where programs indent or escape the rest of a message, a host that has not tried TDX still has not."""
    tried = ("failed", "exhausted", "allocated", "CMR", "attributes")
    quiet = [(time, text) for time, text in failed_host() if not any(word in text for word in tried)]
    after = look_at(form, [*quiet, crash(UP, ""), (3602_000_000, "eth0: up")])
    log = after.facts.kernel_log
    assert log is not None
    assert log.state is ModuleState.NOT_ATTEMPTED
    assert after.verdict.state is not State.INITIALIZED


@pytest.mark.parametrize("path", sorted(LOGS.glob("*.log")), ids=lambda path: path.stem)
def test_no_real_log_contradicts_itself(path: Path) -> None:
    """No log of a real machine is suspected."""
    found = assess(facts_from_log(read_log_file("log", path.read_text())))
    assert found.verdict.contradictions == ()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "journalctl -o json"])
def test_text_is_never_verified(form: str) -> None:
    """Only /dev/kmsg and the journal's JSON show who wrote a record."""
    log = look_at(form, failed_host()).facts.kernel_log
    assert log is not None
    assert not log.verified


def tree(tmp_path: Path, *, flags: str, dmesg: str) -> Root:
    """A captured tree with a text log, and a CPU with these flags."""
    for path, text in (
        ("proc/cpuinfo", f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t:\n\n"),
        ("dmesg", dmesg),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return Root(tmp_path)


@pytest.mark.parametrize(
    ("flags", "release", "state"),
    [
        ("", "6.14.0-1009-intel", State.CANNOT_TELL),
        ("tdx_host_platform", "6.14.0-1009-intel", State.INITIALIZED),
        # Patches on older kernels do not set the flag.
        ("", "6.2.16-mvp30v3+7-generic", State.INITIALIZED),
    ],
)
def test_success_against_the_hardware(tmp_path: Path, flags: str, release: str, state: State) -> None:
    """A text that says that TDX is up, on a CPU that does not show it, is not believed."""
    log = f"[    0.000000] Linux version {release} (x)\n[    9.0] virt/tdx: module initialized\n[    9.1] x\n"
    verdict = assess(read_facts(tree(tmp_path, flags=flags, dmesg=log))).verdict
    assert verdict.state is state
    assert bool(verdict.contradictions) is (state is State.CANNOT_TELL)


@pytest.mark.parametrize("form", ["dmesg", "dmesg -S", "imklog without times", "dmesg -t", "dmesg -S --json"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_capture_of_a_forged_log(tmp_path: Path, form: str, payload: str) -> None:
    """A capture of such a host can be made, and tells the same."""
    records = [*failed_host(), crash(PAYLOADS[payload], ""), (3602_000_000, "eth0: up")]
    root = tree(tmp_path, flags="tdx_host_platform", dmesg=FORMS[form](records))
    make_capture(root, 0, keep_host_name=False)


@pytest.mark.parametrize(
    "text",
    [
        "[    1.100000] virt/tdx: some words of a new kernel\n",
        "[    1.100000] virt/tdx: module start failed badly\n",
        "~ I saw tdx: failed to start something\n",
    ],
)
@pytest.mark.parametrize("excerpt", [False, True])
def test_capture_of_a_log_with_unread_lines(tmp_path: Path, text: str, *, excerpt: bool) -> None:
    """A capture of such a log can be made, tells as many, and none of their words."""
    prose = "".join(f"what somebody wrote about it, line {n}\n" for n in range(20)) if excerpt else ""
    log = f"[    1.000000] virt/tdx: BIOS enabled: private KeyID range [32, 64)\n{text}{prose}"
    capture = make_capture(tree(tmp_path, flags="tdx_host_platform", dmesg=log), 0, keep_host_name=False)
    with tarfile.open(fileobj=io.BytesIO(capture.data)) as archive:
        kept = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        texts = {name: file.read().decode() for name, file in kept.items() if file is not None}
    assert "1 line mentions TDX and could not be read" in texts[f"{TOP}/plan.json"]
    for words in ("new kernel", "badly", "I saw", "somebody"):
        assert words not in "".join(texts.values())


def test_what_is_said_of_a_forgery() -> None:
    """The line stands under the headline, with what to give instead."""
    text = render(look_at("dmesg -S", [*failed_host(), crash(PAYLOADS["a boot"], "")]), Style())
    head, _, rest = text.partition("  Contradiction\n")
    assert "FAILED: TDX failed to initialize in this boot" in head
    assert "What to do" not in head
    assert "`virt/tdx: 1050644 KB allocated for PAMT`: it tells another outcome" in rest
    assert "`Linux version 6.8.0-1006-intel`: a boot seems to begin in the middle of one" in rest
    assert "journalctl -k -b -o json" in rest


def test_every_output_tells_of_a_forgery() -> None:
    """check warns of it, with what would settle it, and fleet says it beside the host."""
    found = look_at("dmesg -S", [*failed_host(), crash(PAYLOADS["both lines"], "")])
    checks = [check for check in run_checks(found) if check.name == "log-contradicts"]
    assert [check.message for check in checks] == list(found.verdict.contradictions)
    assert all("journalctl -k -b -o json" in (check.hint or "") for check in checks)
    (own,) = audit_host(found.facts, "x", None, [OWN]).targets
    assert own.why.endswith(found.verdict.contradictions[0])
    assert to_json(found)["verdict"]["contradictions"] == list(found.verdict.contradictions)
    assert "Contradiction" in render_page(found)


def test_a_failure_in_prose_counts() -> None:
    """A line without the log's prefix may make a verdict worse, and it is told which."""
    log = "[    9.0] virt/tdx: module initialized\n"
    found = assess(
        facts_from_log(read_log_file("log", f"{log}virt/tdx: module initialization failed (-28)\n"))
    )
    assert found.verdict.state is State.FAILED
    assert "without the prefix of the log" in found.verdict.contradictions[0]


def test_an_outcome_at_the_very_time_of_another_line() -> None:
    """Where nothing contradicts it, an outcome that stands at the microsecond of a crash is pointed out."""
    quiet = [(time, text) for time, text in failed_host() if "tdx: " not in text or "KeyID" in text]
    found = look_at("dmesg -S", [*quiet, crash("tdx: module initialized", "")])
    assert found.verdict.state is State.INITIALIZED
    assert "the very time of an unrelated line" in found.verdict.contradictions[0]
