# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.kernel_report import ContradictionKind
from tdx_headroom.sources.kernel_log.line_forms import read_line
from tdx_headroom.sources.kernel_log.text import parse_log_text

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
BOOT_A, BOOT_B = "1" * 32, "2" * 32

# No form of text proves that the kernel wrote a line; some tell that it did not.
FORMS = {
    "bare": ("{}", None),
    "leading blanks": ("    {}", None),
    "tab": ("\t{}", None),
    "trailing blanks": ("{}   ", None),
    "time": ("[    1.630945] {}", None),
    "long uptime": ("[2212345.630945] {}", None),
    "documentation": ("[..] {}", None),
    "documentation with more dots": ("[...] {}", None),
    "blanks and time": ("      [    1.630945] {}", None),
    "grep -n": ("12:[    1.630945] {}", None),
    "grep -n -A": ("12-[    1.630945] {}", None),
    "cat -n": ("    12\t[    1.630945] {}", None),
    "console, logged": ("[2024-07-10 20:50:19] [    1.630945] {}", None),
    "console, logged with parts of a second": ("2024-07-10T20:50:19.123Z [    1.630945] {}", None),
    "console, logged by the hour": ("20:50:19: [    1.630945] {}", None),
    "quoted": ("> [    1.630945] {}", None),
    "quoted in a quotation": ("> >> [    1.630945] {}", None),
    "quoted on a web page": ("&gt; &gt; [    1.630945] {}", None),
    "dmesg -r on a web page": ("&lt;6&gt;[    1.630945] {}", None),
    "blanks of a web page": ("[\xa0 \xa0 1.630945]\xa0{}", None),
    "caller thread": ("[    1.630945] [    T1] {}", None),
    "caller cpu": ("[    1.630945] [   C12] {}", None),
    "caller of six digits": ("[    1.630945] [T123456] {}", None),
    "dmesg -x": ("kern  :info  : [    1.630945] {}", None),
    "dmesg -x with caller": ("kern  :err   : [    1.630945] [    T1] {}", None),
    "dmesg -x -T": ("kern  :notice: [Wed Jul 10 20:50:19 2024] {}", None),
    "dmesg -x of a process": ("user  :info  : [    1.630945] {}", False),
    "dmesg -x of a daemon": ("daemon:warn  : [    1.630945] {}", False),
    "dmesg -r of a process": ("<14>[    1.630945] {}", False),
    "dmesg -r of facility 1 level 0": ("<8>[    1.630945] {}", False),
    "dmesg -T": ("[Wed Jul 10 20:50:19 2024] {}", None),
    "dmesg -T, day of one digit": ("[Wed Jul  3 20:50:19 2024] {}", None),
    "dmesg -T, German": ("[Mi Okt  2 20:50:19 2024] {}", None),
    "dmesg -T, French": ("[mer. juil. 10 20:50:19 2024] {}", None),
    "dmesg -T, Chinese": ("[\u4e09 7\u6708 10 20:50:19 2024] {}", None),
    "dmesg -d": ("[    1.630945 <    0.000003>] {}", None),
    "dmesg -d -T": ("[Wed Jul 10 20:50:19 2024 <    0.000003>] {}", None),
    "dmesg -H first of a minute": ("[Jul10 20:50] {}", None),
    "dmesg -H first, day of one digit": ("[Jul 3 20:50] {}", None),
    "dmesg -H": ("[  +0.000003] {}", None),
    "dmesg --time-format delta": ("[<    0.000003>] {}", None),
    "dmesg --time-format iso": ("2024-07-10T20:50:19,630945+02:00 {}", None),
    "colour": (
        "\x1b[32m[    1.630945] \x1b[0m\x1b[33mvirt/tdx: \x1b[0mBIOS enabled: private KeyID range [32, 64)",
        None,
    ),
    "colour of an error": ("\x1b[32m[    1.630945] \x1b[0m\x1b[1m\x1b[31m{}\x1b[0m", None),
    "colours of grep": ("[    1.630945] \x1b[01;31m\x1b[K{}\x1b[m\x1b[K", None),
    "character set": ("\x1b(B\x1b[m[    1.630945] {}\x1b(B\x1b[m\x0f", None),
    "title of a window": ("\x1b]0;root@rack7: ~\x07\x1b[?2004l[    1.630945] {}", None),
    "link": ("\x1b]8;;file:///x\x1b\\[    1.630945] \x1b]8;;\x1b\\{}", None),
    "true colour": ("\x1b[38:2::255:0:0m[    1.630945]\x1b[0m {}\x1b[0K", None),
    "place on a screen": ("\x1b[2J\x1b[24;1H[    1.630945] {}\x1b[24;80d", None),
    "steps for blanks": ("[\x1b[4C1.630945]\x1b[C{}", None),
    "saved cursor": ("\x1b7\x1b[r[    1.630945] {}\x1b8", None),
    "journal short, French": ("juil. 10 20:50:19 host kernel: {}", None),
    "journal short, Chinese": ("7\u6708 10 20:50:19 host kernel: {}", None),
    "journal short, Urdu": ("\u0633\u062a\u0645\u0628\u0631 10 20:50:19 host kernel: {}", None),
    "journal short-full, French": ("mer. 2024-07-10 20:50:19 CEST host kernel: {}", None),
    "journal short": ("Jul 10 20:50:19 host kernel: {}", None),
    "journal short, day of one digit": ("Jul  3 20:50:19 host kernel: {}", None),
    "journal short-precise": ("Jul 10 20:50:19.630945 host kernel: {}", None),
    "journal short-iso": ("2024-07-10T20:50:19+0200 host kernel: {}", None),
    "journal short-iso, newer": ("2024-07-10T20:50:19+02:00 host kernel: {}", None),
    "journal short-iso-precise": ("2024-07-10T20:50:19.630945+0200 host kernel: {}", None),
    "journal short-monotonic": ("[    1.630945] host kernel: {}", None),
    "journal short-full": ("Wed 2024-07-10 20:50:19 CEST host kernel: {}", None),
    "journal short-full, zone without letters": ("Wed 2024-07-10 20:50:19 -03 host kernel: {}", None),
    "journal short-unix": ("1720637419.630945 host kernel: {}", None),
    "journal, host with dots": ("Jul 10 20:50:19 tdx-7.example.org kernel: {}", None),
    "syslog": ("Jul 10 20:50:19 host kernel: [    1.630945] {}", None),
    "syslog, ISO time": ("2024-07-10T20:50:19.630945+02:00 host kernel: [    1.630945] {}", None),
    "syslog, UTC": ("2024-07-10T20:50:19Z host kernel: {}", None),
    "RFC 3164": ("<3>Jul 10 20:50:19 host kernel: [    1.630945] {}", None),
    "RFC 3164, ISO time": ("<6>2024-07-10T20:50:19.630945+02:00 host kernel: {}", None),
    "RFC 3164 of a process": ("<14>Jul 10 20:50:19 host kernel: [    1.630945] {}", False),
    "RFC 3164 behind a pod": ("rack7-0 <6>Jul 10 20:50:19 host kernel: [    1.630945] {}", None),
    "RFC 3164 of a process behind a pod": ("rack7-0 <11>Jul 10 20:50:19 host kernel: {}", False),
    "RFC 5424": ("<3>1 2024-07-10T20:50:19Z host kernel - - - [    1.630] {}", None),
    "RFC 5424 with a byte order mark": ("<3>1 2024-07-10T20:50:19Z host kernel - - - \ufeff{}", None),
    "RFC 5424 with data": (
        '<6>1 2024-07-10T20:50:19Z host kernel - - [a@1 k="x]"][b@1 k="\\""] [    1.630945] {}',
        None,
    ),
    "RFC 5424 of a process": ("<14>1 2024-07-10T20:50:19Z host kernel - - - [    1.630] {}", False),
    "syslog with caller": ("Jul 10 20:50:19 host kernel: [    1.630945][    T1] {}", None),
}


@pytest.mark.parametrize("form", FORMS)
def test_form(form: str) -> None:
    """Every form of a line gives the same message, and tells of another writer where it can."""
    template, trusted = FORMS[form]
    line = read_line(template.format(MESSAGE))
    assert (line.text, line.trusted) == (MESSAGE, trusted)


@pytest.mark.parametrize("form", [name for name, (_, trusted) in FORMS.items() if trusted is not False])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_log_of_one_form(form: str, end: str) -> None:
    """A log of several lines of one form gives their messages in order; text is never verified."""
    template, _ = FORMS[form]
    log = parse_log_text(template.format(MESSAGE) + end + "  " + template.format(MESSAGE) + end)
    assert [record.text for record in log.records] == [MESSAGE, MESSAGE]
    assert not log.verified
    assert log.untrusted == ()


@pytest.mark.parametrize("form", [name for name, (_, trusted) in FORMS.items() if trusted is False])
def test_line_of_a_process(form: str) -> None:
    """A line whose form names another facility is kept apart and never used."""
    log = parse_log_text(FORMS[form][0].format(MESSAGE) + "\n")
    assert log.records == ()
    assert log.untrusted == (MESSAGE,)


@pytest.mark.parametrize("priority", ["<3>", "<6>1 2024-07-10T20:50:19Z host sshd - - - ", "<14>"])
def test_line_of_another_program_with_a_priority(priority: str) -> None:
    """A number below 8 does not make a program the kernel."""
    head = priority if "1 " in priority else f"{priority}Jul 10 20:50:19 host sshd[77]: "
    assert read_line(f"{head}{MESSAGE}").text is None


@pytest.mark.parametrize("number", range(8))
def test_number_below_8_proves_nothing(number: int) -> None:
    """dmesg of util-linux 2.38 ors facility and level, so that <7> may be a process's <14>: unverified."""
    line = read_line(f"<{number}>[    1.630945] {MESSAGE}")
    assert (line.text, line.trusted) == (MESSAGE, None)


@pytest.mark.parametrize(
    "line",
    [
        "Jul 10 20:50:19 host systemd[1]: virt/tdx: module initialized",
        "Jul 10 20:50:19 host virt/tdx: module initialized",
        "juil. 10 20:50:19 host systemd[1]: virt/tdx: module initialized",
        "Jul 10 20:50:19 host kernel-helper: virt/tdx: module initialized",
        "2024-07-10T20:50:19+0200 host logger[4711]: virt/tdx: module initialized",
        "Wed 2024-07-10 20:50:19 CEST host sshd[9]: virt/tdx: module initialized",
        "1720637419.630945 host sudo[9]: virt/tdx: module initialized",
        "",
        "   ",
        "[    1.630945] ",
    ],
)
def test_line_that_is_no_record_of_the_kernel(line: str) -> None:
    """Another program's line, or an empty one, is no record."""
    assert read_line(line).text is None


def test_line_without_the_prefix_of_its_log() -> None:
    """A bare line in a log with prefixes is no record: it is counted, and can prove nothing good."""
    log = parse_log_text(f"kern  :info  : [    1.0] {MESSAGE}\nvirt/tdx: module initialized\n")
    assert [record.text for record in log.records] == [MESSAGE]
    assert log.loose == ("virt/tdx: module initialized",)


@pytest.mark.parametrize("after", ["```", "Any help is welcome!", "user@host:~$ ", "[    0.0133"])
def test_what_stands_below_a_log_is_no_record(after: str) -> None:
    """Only a later record of the kernel shows that a list has ended, not what people write below a log."""
    text = "```\n[    0.013350] Early memory node ranges\n[    0.013351]   node   0: [mem 0x1000-0x9ffff]\n"
    assert len(parse_log_text(text + after).records) == 2
    assert len(parse_log_text(text + after + "\n").records) == 2
    assert not parse_log_text(text + after).cut
    assert not parse_log_text(text + after).headless
    bare = parse_log_text("Early memory node ranges\n  node   0: [mem 0x1000-0x9ffff]\n```\n")
    assert len(bare.records) == 2


def test_second_time_is_a_part_of_the_message() -> None:
    """A process that writes a line with a time into the log does not get it taken for the kernel's."""
    text = f"[    2.000000] {MESSAGE}"
    assert read_line(f"[    1.630945] {text}").text == text


def test_empty_text() -> None:
    """No line, no record, nothing verified."""
    for text in ("", "\n\n", "  \r\n"):
        log = parse_log_text(text)
        assert log.records == ()
        assert not log.verified


@pytest.mark.parametrize(
    ("before", "mark"),
    [
        ("[    9.0] ", "[    0.000000] Linux version 6.8.0-1006-intel (buildd@host) (gcc 13.2.0) #8 SMP\n"),
        (
            "kern :err : [ 9.0] ",
            "kern :err : [ 0.000000] Linux version 6.2.16-mvp30v3+7-generic(gcc 11.4.0) #1\n",
        ),
        ("Jul 10 20:50:19 host kernel: ", "-- Reboot --\n"),
        ("Jul 10 20:50:19 host kernel: ", f"-- Boot {BOOT_B} --\n"),
        ("[    9.000000] host kernel: ", "-- Reboot --\r\n"),
        ("[    9.000000] host kernel: ", f"-- Boot {BOOT_B}\n"),
    ],
)
def test_last_boot_counts(before: str, mark: str) -> None:
    """What is before the last sign of a boot is another's: a clock that starts again, or a mark."""
    log = parse_log_text(f"{before}{MESSAGE}\n{mark}{before}new\n")
    assert MESSAGE not in [record.text for record in log.records]
    assert log.records[-1].text == "new"
    assert (log.earlier, log.contradictions) == (1, ())


def kern_log(time: str, *messages: str) -> str:
    return "".join(f"2024-07-10T{time}.{n:06}+02:00 host kernel: {m}\n" for n, m in enumerate(messages))


def test_boots_of_a_syslog_without_the_kernels_times() -> None:
    """A pause of seconds in a whole log is a restart; where lines were picked out, nothing tells."""
    version = "Linux version 6.8.0 (x)"
    failed = "virt/tdx: module initialization failed (-28)"
    whole = [f"e1000 eth{n}: link up" for n in range(30)]
    up, down = (version, *whole), (version, *whole, failed)
    log = parse_log_text(kern_log("20:50:19", *down) + kern_log("20:55:00", *up))
    assert (log.earlier, log.contradictions) == (1, ())
    for first, second in (
        (kern_log("20:50:19", version, failed), kern_log("20:55:00", *up)),
        (kern_log("20:50:19", *down), kern_log("20:50:20", *up)),
    ):
        log = parse_log_text(first + second)
        assert [c.kind for c in log.contradictions] == [ContradictionKind.SECOND_BOOT]
        assert failed in [record.text for record in log.records]


def test_earlier_boots_are_counted() -> None:
    """A log of several boots says so; a mail around one does not make it two."""
    boot = "[ 0.0] Linux version 6.8.0 (x)\n[ 0.0] BIOS-provided physical RAM map:\n"
    for text, earlier in (
        ("Hello, see below:\n" + boot, 0),
        (f"-- Boot {BOOT_B} --\n" + boot, 0),
        (boot + "-- Reboot --\n" + boot, 1),
        (3 * boot, 2),
    ):
        assert parse_log_text(text).earlier == earlier


COMMAND_LINE = "Command line: BOOT_IMAGE=/boot/vmlinuz-6.8.0-1006-intel ro"


def test_boots_that_grep_has_left() -> None:
    """`grep tdx kern.log` shows no versions: KeyIDs at another time, or other ones, are another boot's."""
    up = f"[    1.6] {MESSAGE}\n[    9.0] virt/tdx: module initialized\n"
    log = parse_log_text(f"{up}[    1.7] {MESSAGE}\n")
    assert [record.text for record in log.records] == [MESSAGE]
    assert log.earlier == 1


@pytest.mark.parametrize("other", ["", " kvm_intel.tdx=0"])
def test_command_line_of_the_boot_that_counts(other: str) -> None:
    """The command line, whose time is always 0, stays with the KeyIDs that follow it."""
    line = f"[    0.000000] {COMMAND_LINE}"
    up = f"{line}\n[    1.6] {MESSAGE}\n[    9.0] virt/tdx: module initialized\n"
    log = parse_log_text(f"{up}{line}{other}\n[    1.7] {MESSAGE}\n")
    assert [record.text for record in log.records] == [COMMAND_LINE + other, MESSAGE]
    assert log.earlier == 1


@pytest.mark.parametrize("copy", [f"[    1.6] {MESSAGE}", f"> [    1.6] {MESSAGE}", MESSAGE])
def test_copy_of_a_line_begins_no_boot(copy: str) -> None:
    """A line that somebody quotes below the log is the same boot's, and so is one without its time."""
    log = parse_log_text(f"[    1.6] {MESSAGE}\n[    9.0] virt/tdx: module initialized\n{copy}\n")
    assert [record.text for record in log.records][:2] == [MESSAGE, "virt/tdx: module initialized"]
    assert (log.earlier, log.contradictions) == (0, ())


def test_lines_of_processes_in_an_earlier_boot_do_not_count() -> None:
    """A forgery of an earlier boot is not held against this one."""
    earlier = f"user :err : [ 1.0] virt/tdx: module initialized\nkern :err : [ 9.0] {MESSAGE}\n"
    log = parse_log_text(f"{earlier}kern :err : [ 0.0] Linux version 6.8.0 (x)\n")
    assert log.untrusted == ()


@pytest.mark.parametrize(
    "line",
    [
        "-- Reboot --[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "[  425.0] Linux version 6[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
        "[  425.0] x: Linux version 6.8.0 (buildd@host)",
    ],
)
def test_line_that_only_begins_like_a_boot(line: str) -> None:
    """A process name cannot make the log forget what was before."""
    log = parse_log_text(f"virt/tdx: module initialization failed (-28)\n{line}\n")
    assert log.records[0].text == "virt/tdx: module initialization failed (-28)"


def test_only_line_feeds_end_lines() -> None:
    """Form feeds, NEL and Unicode line separators in a message start no line of their own."""
    for character in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        log = parse_log_text(f"[    1.0] x{character}virt/tdx: module initialized\n")
        assert len(log.records) == 1
        assert log.records[0].text.startswith("x")


def journal(message: object, boot: str = BOOT_A, **fields: object) -> dict[str, Any]:
    """An entry as journalctl -o json prints it."""
    return {
        "MESSAGE": message,
        "_BOOT_ID": boot,
        "_TRANSPORT": "kernel",
        "SYSLOG_IDENTIFIER": "kernel",
        "SYSLOG_FACILITY": "0",
        "PRIORITY": "6",
        "__REALTIME_TIMESTAMP": "1720637421123456",
        **fields,
    }


def lines(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_journal_in_json() -> None:
    """The kernel's entries of the journal are records, and verified."""
    log = parse_log_text(lines(journal("  one"), journal(MESSAGE)))
    assert [record.text for record in log.records] == ["one", MESSAGE]
    assert log.verified


def test_journal_facility() -> None:
    """journald marks what a process writes to /dev/kmsg as the kernel's transport: the facility tells."""
    entries = [
        journal("virt/tdx: module initialized", SYSLOG_FACILITY="1"),
        journal("virt/tdx: module initialized", SYSLOG_FACILITY=3),
        journal("virt/tdx: module initialized", SYSLOG_FACILITY=["0", "1"]),
        journal("good", SYSLOG_FACILITY=0),
    ]
    del entries[3]["SYSLOG_FACILITY"]
    log = parse_log_text(lines(*entries))
    assert [record.text for record in log.records] == ["good"]
    assert len(log.untrusted) == 3


@pytest.mark.parametrize("transport", ["syslog", "journal", "stdout", "audit", "driver"])
def test_journal_transport(transport: str) -> None:
    """Entries that did not come from the kernel are none of its records, whatever identifier they carry."""
    log = parse_log_text(lines(journal("one"), journal("virt/tdx: module initialized", _TRANSPORT=transport)))
    assert [record.text for record in log.records] == ["one"]


def test_journal_without_transport_is_unverified() -> None:
    """Entries that do not tell their transport are used but not trusted."""
    entry = journal(MESSAGE)
    del entry["_TRANSPORT"]
    log = parse_log_text(lines(entry))
    assert len(log.records) == 1
    assert not log.verified


def test_journal_of_several_boots() -> None:
    """Only the last boot's entries count."""
    log = parse_log_text(
        lines(
            journal("virt/tdx: module initialization failed (-28)"),
            journal("virt/tdx: module initialized", SYSLOG_FACILITY="1"),
            journal("of another service", BOOT_B, _TRANSPORT="syslog"),
            journal("virt/tdx: module initialized", BOOT_B),
        )
    )
    assert [record.text for record in log.records] == ["virt/tdx: module initialized"]
    assert log.untrusted == ()
    assert log.earlier == 1


def test_journal_message_of_bytes() -> None:
    """A message that is not UTF-8 comes as a list of bytes."""
    log = parse_log_text(lines(journal(list(b"name \xff: \xc3\xa9"))))
    assert log.records[0].text == r"name \xff: é"


@pytest.mark.parametrize("message", [None, 7, {}, [256], ["a"], [-1], "", "  "])
def test_journal_message_that_is_none(message: object) -> None:
    """An entry without a usable message is skipped."""
    log = parse_log_text(lines(journal("good"), journal(message)))
    assert [record.text for record in log.records] == ["good"]


def test_journal_message_with_line_breaks() -> None:
    """An entry is one record, whatever line breaks its message holds."""
    log = parse_log_text(lines(journal("x\nvirt/tdx: module initialized"), journal(list(b"y\nvirt/tdx: z"))))
    assert [record.text for record in log.records] == [
        r"x\x0avirt/tdx: module initialized",
        r"y\x0avirt/tdx: z",
    ]


@pytest.mark.parametrize("bad", ["{", '{"MESSAGE": "x"', "text", "{'a': 1}"])
def test_journal_line_that_is_no_json(bad: str) -> None:
    """A line that is no JSON may have been an entry: a list across it is not whole, and nothing verified."""
    log = parse_log_text(lines(journal("one")) + "\n" + bad + "\n" + lines(journal("two")))
    assert [record.text for record in log.records] == ["one", "two"]
    assert log.gaps == {1}
    assert not log.verified


@pytest.mark.parametrize("form", ["json", "json-pretty", "json-seq", "json-sse"])
def test_json_of_every_form_of_journalctl(form: str) -> None:
    """Entries in any JSON form of journalctl are read, nested values included."""
    entries = [journal("one"), journal(list(b"two")), journal(MESSAGE)]
    if form == "json-pretty":
        text = "".join(json.dumps(entry, indent="\t") + "\n" for entry in entries)
    else:
        ends = {"json": ("", "\n"), "json-seq": ("\x1e", "\n"), "json-sse": ("data: ", "\n\n")}
        before, after = ends[form]
        text = "".join(f"{before}{json.dumps(entry)}{after}" for entry in entries)
    log = parse_log_text(text)
    assert [record.text for record in log.records] == ["one", "two", MESSAGE]
    assert log.verified


def test_pretty_json_that_is_cut() -> None:
    """Of an entry without its end nothing counts."""
    log = parse_log_text(json.dumps(journal("one"), indent=1) + '\n{\n "MESSAGE": "x"\n')
    assert [record.text for record in log.records] == ["one"]
    assert log.gaps == {1}
    assert not log.verified


def test_records_of_dev_kmsg() -> None:
    """What was read from /dev/kmsg tells who wrote each record; a line of that form elsewhere does not."""
    text = f"6,1,10,-;{MESSAGE}\n SUBSYSTEM=x\n12,2,20,-;virt/tdx: module initialized\n"
    log = parse_log_text(text)
    assert [record.text for record in log.records] == [MESSAGE]
    assert (log.untrusted, log.verified) == (("virt/tdx: module initialized",), True)
    mixed = parse_log_text(f"first\n{text}")
    assert not mixed.verified
    assert MESSAGE not in [record.text for record in mixed.records]
    with pytest.raises(SourceError, match="not a record"):
        parse_log_text(f"{text}something else\n")


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """A log that a Windows editor has saved is read from its first line on."""
    assert parse_log_text(f"\ufeff[    1.630945] {MESSAGE}\r\n").records[0].text == MESSAGE


def test_json_lines_that_are_no_entries() -> None:
    """JSON values other than objects are skipped."""
    log = parse_log_text(lines(journal("one"), 7, [1], None, journal("two")))
    assert [record.text for record in log.records] == ["one", "two"]


DMESG_JSON = """\
{
   "dmesg": [
      {
         "fac": "kern",
         "pri": "info",
         "time":     1.630945,
         "msg": "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
      },{
         "fac": "user",
         "pri": "info",
         "time":     1.731000,
         "msg": "virt/tdx: module initialized"
      }
   ]
}
"""


def test_dmesg_in_json_with_facilities() -> None:
    """dmesg --json -x names each record's facility: a process's are not used. With -S that can be forged."""
    log = parse_log_text(DMESG_JSON)
    assert [record.text for record in log.records] == [MESSAGE]
    assert log.untrusted == ("virt/tdx: module initialized",)
    assert not log.verified


def test_dmesg_in_json_with_numbers() -> None:
    """dmesg --json of util-linux 2.38 prints a process's 14 as 7, so a number proves nothing: unverified."""
    entries = [
        {"pri": 6, "time": 1.63, "msg": MESSAGE},
        {"pri": 7, "time": 9.0, "msg": "virt/tdx: module initialized"},
    ]
    log = parse_log_text(json.dumps({"dmesg": entries}))
    assert log.records[0].text == MESSAGE
    assert not log.verified


def test_dmesg_in_json_with_a_large_number() -> None:
    """A number of 8 and more is a process's in any case."""
    log = parse_log_text(
        json.dumps({"dmesg": [{"pri": 14, "time": 9.0, "msg": "virt/tdx: module initialized"}]})
    )
    assert log.records == ()
    assert log.untrusted == ("virt/tdx: module initialized",)


@pytest.mark.parametrize("entry", [None, 7, [], {}, {"msg": None}, {"msg": 7}, {"pri": 6}])
def test_dmesg_in_json_with_odd_entries(entry: object) -> None:
    """Entries without a message are skipped."""
    log = parse_log_text(json.dumps({"dmesg": [{"fac": "kern", "pri": "info", "msg": "good"}, entry]}))
    assert [record.text for record in log.records] == ["good"]


RAW = f"""\
<6>[    1.630945] {MESSAGE}
<6>[    1.631000]   node   0: [mem 0x0000000000001000-0x000000000009efff]
<5>[   10.774047] virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.
<3>[   70.774047] virt/tdx: module initialization failed (-28)
"""


@pytest.mark.skipif(shutil.which("dmesg") is None, reason="dmesg is not installed")
@pytest.mark.parametrize(
    "options",
    [
        "--notime",
        "--raw",
        "--decode",
        "--ctime",
        "--human --nopager",
        "--show-delta",
        "--show-delta --ctime",
        "--reltime",
        "--time-format iso",
        "--time-format delta",
        "--decode --ctime",
        "--decode --reltime",
        "--color=always",
        "--color=always --ctime",
    ],
)
def test_what_dmesg_prints(tmp_path: Path, options: str) -> None:
    """The installed dmesg's own output is read in each of its forms."""
    (tmp_path / "raw").write_text(RAW)
    run = subprocess.run(
        ["dmesg", "--file", tmp_path / "raw", *options.split()], capture_output=True, text=True, check=True
    )
    expected = [line.split("] ", 1)[1].strip() for line in RAW.splitlines()]
    assert [record.text for record in parse_log_text(run.stdout).records] == expected
