# SPDX-License-Identifier: Apache-2.0
"""Single outputs of a host: what the report asks for is read when it comes, in whatever it is wrapped."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.verdict.test_obstacles import EXAMPLES

from tdx_headroom.capture.build import make_capture
from tdx_headroom.cli import main
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.hostfs.root import Root
from tdx_headroom.inputs.expand import expand
from tdx_headroom.inputs.named import Kind, Named
from tdx_headroom.inputs.printed import files_in
from tdx_headroom.inputs.read import read_hosts
from tdx_headroom.inputs.together import MOST_FILES
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = Path(__file__).parents[2] / "hosts"
HOST = HOSTS / "good-2-node"
MEMORY = "sys/kernel/debug/memblock/memory"
RESERVED = "sys/kernel/debug/memblock/reserved"


def file(path: str, host: Path = HOST) -> str:
    return (host / path).read_text("utf-8")


def printed(command: str, host: Path = HOST) -> bytes:
    """What a command of the report prints on that host."""
    program, *arguments = [word for word in shlex.split(command) if word != "sudo"]
    if program == "cat":
        return "".join(file(path.lstrip("/"), host) for path in arguments).encode()
    if program == "grep":
        assert arguments[0] == "."
        paths = sorted(host.glob(arguments[1].lstrip("/")))
        rows = ((path, line) for path in paths for line in path.read_text().splitlines())
        return "".join(f"/{path.relative_to(host)}:{line}\n" for path, line in rows).encode()
    if program == "uname":
        return file("proc/sys/kernel/osrelease", host).encode()
    if program == "journalctl":
        messages = re.findall(r"^[0-7],[^;]*;(.*)$", file("dev/kmsg", host), re.MULTILINE)
        if "json" in arguments:
            rows_ = ({"_TRANSPORT": "kernel", "MESSAGE": text, "PRIORITY": "6"} for text in messages)
            return "".join(json.dumps(row) + "\n" for row in rows_).encode()
        return "".join(f"Jul 10 20:50:19 rack7 kernel: {text}\n" for text in messages).encode()
    assert (program, arguments) == ("tdx-headroom", ["capture", "-o", "host.tar.gz"])
    return make_capture(Root(host), 0, keep_host_name=False).data


def commands() -> list[str]:
    """Every command that "What is missing" can name."""
    texts = {text for facts in EXAMPLES.values() for text in assess(facts).verdict.missing}
    return sorted({command for text in texts for command in re.findall("`([^`]+)`", text)})


def facts_of(path: Path) -> HostFacts:
    (found,) = read_hosts([Named(Kind.ANY, str(path))])
    assert isinstance(found.facts, HostFacts), found.facts
    return found.facts


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def plan_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status, out, err = run(capsys, "plan", "--format", "json", *arguments)
    assert (status, err) == (0, "")
    plan: dict[str, Any] = json.loads(out)
    return plan


@pytest.mark.parametrize("command", commands())
def test_what_is_asked_for_is_read(command: str, tmp_path: Path) -> None:
    """The output of each command is recognised for what it is, whatever its file is called."""
    (tmp_path / "x").write_bytes(printed(command))
    facts = facts_of(tmp_path / "x")
    read = {source.source for source in facts.sources if source.ok}
    if "memblock/reserved" in command:
        assert facts.reserved
    elif command == "uname -r":
        assert facts.kernel_release == file("proc/sys/kernel/osrelease").strip()
    elif "cpuinfo" in command:
        assert facts.platform is not None
        assert facts.platform.cpu_model
        assert (facts.platform.hibernation, facts.platform.kvm_intel_tdx) == (False, True)
    elif "journalctl" in command or "capture" in command:
        assert "kernel-log" in read
    else:
        (source,) = read
        assert source in command.replace("/firmware/memmap", "firmware-memmap")


@pytest.mark.parametrize("host", ["good-2-node", "emerald-rapids"])
def test_all_that_is_asked_for_is_enough(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all of it together nothing is missing any more, and the plan is the host's own."""
    asked = [c for c in commands() if "json" not in c and "capture" not in c]
    for number, command in enumerate(asked):
        (tmp_path / f"{number}").write_bytes(printed(command, HOSTS / host))
    merged = plan_of(capsys, "--merge", *(str(tmp_path / f"{n}") for n in range(len(asked))))
    own = plan_of(capsys, str(HOSTS / host))
    assert merged["strategies"] == own["strategies"]
    assert merged["verdict"]["state"] == own["verdict"]["state"]
    kinds = {finding["kind"] for finding in merged["verdict"]["findings"]}
    assert not kinds & {f"{what}-unknown" for what in ("memory-map", "kernel", "platform", "pamt-places")}


IOMEM = file("proc/iomem")
EMR_MEMORY = file(MEMORY, HOSTS / "emerald-rapids")
MAP = printed("grep . /sys/firmware/memmap/*/*").decode()
WRAPPED: dict[str, str] = {
    "another prompt": f"rack7:~ # cat /proc/iomem\n{IOMEM}rack7:~ # exit\nlogout\nConnection to r closed.\n",
    "harmless filters": f"$ sudo cat /proc/iomem 2>/dev/null | tee iomem.txt | cat\n{IOMEM}",
    "the whole tail": f"$ tail -n +1 /proc/iomem /proc/cmdline\n==> /proc/iomem <==\n{IOMEM}",
    "another command's pipe": f"$ dmesg | head -1; cat /proc/iomem\n{IOMEM}",
    "before a heading": f"iomem:\n{IOMEM}uname -r:\n",
    "underlined": f"{IOMEM}------\n",
    "prompt": f"$ sudo cat /proc/iomem\n{IOMEM}$ \n",
    "root's prompt": f"[root@rack7 ~]# cat /proc/iomem\n{IOMEM}[root@rack7 ~]# exit\n",
    "prompt with a path": f"alice@rack7:~/tdx$ sudo cat /proc/iomem\n[sudo] password for alice: \n{IOMEM}",
    "command alone": f"sudo cat /proc/iomem\n\n{IOMEM}",
    "code": f"Here is the map:\n\n```\n{IOMEM}```\n\nThanks!\n",
    "named by tail": f"==> /proc/iomem <==\n{IOMEM}",
    "quoted": "".join(f"> {line}\n" for line in IOMEM.splitlines()),
    "indented": "".join(f"    {line}\n" for line in IOMEM.splitlines()),
    "crlf": IOMEM.replace("\n", "\r\n"),
    "coloured": "".join(f"\x1b[01;31m\x1b[K{line}\x1b[m\x1b[K\n" for line in IOMEM.splitlines()),
    "without end": IOMEM.rstrip("\n"),
    "only memory by grep": "$ sudo grep -i 'system ram' /proc/iomem\n"
    + "".join(line + "\n" for line in IOMEM.splitlines() if "System RAM" in line),
    "only memory by a pipe": "$ sudo cat /proc/iomem | grep RAM\n"
    + "".join(line + "\n" for line in IOMEM.splitlines() if "System RAM" in line),
    "only memory": "".join(line + "\n" for line in IOMEM.splitlines() if "System RAM" in line),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrappings(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What people and shells put around an output changes nothing."""
    (tmp_path / "plain").write_text(IOMEM)
    (tmp_path / "wrapped").write_text(WRAPPED[how], newline="")
    plain, wrapped = (plan_of(capsys, str(tmp_path / name)) for name in ("plain", "wrapped"))
    # The crash kernel stands in a row of its own.
    assert how.startswith("only memory") or plain["strategies"] == wrapped["strategies"]
    assert wrapped["strategies"]["memory-regions"]["tdmrs"]


TOGETHER = [
    "cat /sys/kernel/debug/memblock/memory /sys/kernel/debug/memblock/reserved",
    "sudo cat /proc/zoneinfo /proc/cmdline",
    "cat /proc/cpuinfo /sys/power/disk /sys/module/kvm_intel/parameters/tdx",
]


def test_one_session(tmp_path: Path) -> None:
    """Outputs below each other in one text are told apart, those of one command too."""
    session = "".join(f"# {command}\n{printed(command).decode()}\n" for command in TOGETHER)
    (tmp_path / "session.txt").write_text(session)
    facts = facts_of(tmp_path / "session.txt")
    assert {source.source for source in facts.sources} == {"memblock", "zoneinfo", "platform"}
    assert facts.reserved
    assert facts.command_line
    assert facts.platform is not None
    assert facts.platform.kvm_intel_tdx


LISTS: dict[str, tuple[str, str]] = {
    "memory": (file(MEMORY), MEMORY),
    "memory of a kernel with flags": (file(MEMORY, HOSTS / "emerald-rapids"), MEMORY),
    "reserved": (file(RESERVED), RESERVED),
    "reserved by its flags": ("   0: 0x00000000005f4000..0x00000000053f3fff    0 RSV_KERN\n", RESERVED),
    "reserved by its command": (f"$ sudo cat /{RESERVED}\n{file(MEMORY)}", RESERVED),
    "one processor": ("processor : 0\nvendor_id : GenuineIntel\n", "proc/cpuinfo"),
    "a part of cpuinfo": ("model name\t: INTEL(R) XEON(R) GOLD 6548Y+\n", "proc/cpuinfo"),
    "hibernation": ("[platform] shutdown reboot suspend test_resume\n", "sys/power/disk"),
    "command line": ("BOOT_IMAGE=/vmlinuz-6.17 root=/dev/sda ro nohibernate\n", "proc/cmdline"),
    "command line of another loader": ("root=UUID=0 rw kvm_intel.tdx=1\n", "proc/cmdline"),
    "uname -a": ("Linux rack7 6.17.0-20-generic #20-Ubuntu SMP x86_64\n", "sos_commands/kernel/uname_-a"),
    "uname -r": ("$ uname -r\n7.3.4+deb13-amd64\n$\n", "proc/sys/kernel/osrelease"),
    "uname -r in prose": ("The kernel:\n$ uname -r\n6.17.0\n", "proc/sys/kernel/osrelease"),
    "kvm_intel.tdx": (
        "$ cat /sys/module/kvm_intel/parameters/tdx\nN\n",
        "sys/module/kvm_intel/parameters/tdx",
    ),
}


@pytest.mark.parametrize("what", LISTS)
def test_what_it_is(what: str) -> None:
    """Each is told by its lines; only between two lists of one form their command decides."""
    text, path = LISTS[what]
    assert list(files_in(text, "x")) == [path]


NONE: dict[str, str] = {
    "log": "[    0.000000] Linux version 6.17.0 (x) #1\n" + IOMEM,
    "log behind": IOMEM + "virt/tdx: module not loaded\n",
    "prose": "The map has 00000000-00000fff : Reserved\nand more.\n",
    "mostly prose": "One row is\n00000000-00000fff : Reserved\nof it, and\nthere are more.\n",
    "versions": "Versions:\n6.17.0\n",
    "switch": "Y\n",
    "empty": "",
}


@pytest.mark.parametrize("what", NONE)
def test_what_it_is_not(what: str) -> None:
    """A log, or prose, is no output of these."""
    assert files_in(NONE[what], "x") == {}


def cut(mark: str) -> str:
    lines = IOMEM.splitlines(keepends=True)
    return "".join([*lines[:4], mark, *lines[8:]])


FAULTY: dict[str, tuple[str, str]] = {
    "without root": (re.sub("[0-9a-f]{8,}", "00000000", IOMEM), "not privileged: every address is zero"),
    "elided": (cut("...\n"), "iomem line 5: not a row"),
    "elided in words": (cut("[much more of it]\n"), "iomem line 5: not a row"),
    "elided at its end": (IOMEM + "[...]\n", "not a row"),
    "elided at its start": ("…\n" + IOMEM, "iomem line 1: not a row"),
    "cut in its last address": (
        IOMEM + "80000000000-8040",
        "not a row `start-end : name`: '80000000000-8040'",
    ),
    "cut in its last name": (IOMEM + "80000000000-8040fffffff : Syst", "part of /proc/iomem: '80000000000-"),
    "cut before its last name": (IOMEM + "80000000000-8040fffffff :\n", "part of /proc/iomem: '80000000000-"),
    "a pager's": (IOMEM + "--More--\n", "not a row `start-end : name`: '--More--'"),
    "said to be cut": (
        IOMEM + "\n(output truncated)\n",
        "not a row `start-end : name`: '(output truncated)'",
    ),
    "memblock cut in an address": (
        file(MEMORY) + "   9: 0x00000000521cd",
        "part of /sys/kernel/debug/memblock/memory: '9: 0x00000000521cd'",
    ),
    "memblock cut in its last address": (EMR_MEMORY.rstrip()[:-12], "part of /sys/kernel/debug/memblock"),
    "memblock cut in its columns": (EMR_MEMORY.rstrip()[:-9], "part of /sys/kernel/debug/memblock"),
    "memblock cut in a flag": (EMR_MEMORY.rstrip()[:-1], "part of /sys/kernel/debug/memblock"),
    "zones cut": (file("proc/zoneinfo") + "--More--(40%)\n", "part of /proc/zoneinfo: '--More--(40%)'"),
    "map cut in a type": (MAP.rstrip()[:-2], "part of /sys/firmware/memmap: '/sys/firmware/memmap/"),
    "head": (f"$ sudo head -n 40 /proc/iomem\n{IOMEM}", "part of /proc/iomem: 'sudo head -n 40 /proc/iomem'"),
    "head without a prompt": (f"head -5 /proc/iomem\n{IOMEM}", "part of /proc/iomem: 'head -5 /proc/iomem'"),
    "pipe": (f"# cat /proc/iomem | head\n{IOMEM}", "part of /proc/iomem: 'cat /proc/iomem | head'"),
    "named by head": (
        f"$ head /proc/iomem /proc/cmdline\n==> /proc/iomem <==\n{IOMEM}",
        "part of /proc/iomem: 'head /proc/iomem /proc/cmdline'",
    ),
    "sed": (f"[root@rack7 ~]# sed -n 1,9p /{MEMORY}\n{file(MEMORY)}", f"part of /{MEMORY}: 'sed -n 1,9p"),
    "tail": (f"$ uname -r; tail /proc/iomem\n6.17.0\n{IOMEM}", "part of /proc/iomem: 'tail /proc/iomem'"),
    "less": (
        f"alice@rack7:~> sudo less /proc/iomem\n{IOMEM}",
        "part of /proc/iomem: 'sudo less /proc/iomem'",
    ),
    "map elided": ("/sys/firmware/memmap/0/end:0x1\n...\n", "part of /sys/firmware/memmap: '...'"),
    "a file missing": ("/sys/firmware/memmap/0/end:0x1\n", "part of /sys/firmware/memmap: '0/start'"),
    "two hosts": (IOMEM + "\n$ cat /proc/iomem\n" + cut(""), "holds two versions of /proc/iomem"),
}


@pytest.mark.parametrize("what", FAULTY)
def test_faulty_outputs(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part of a list does not pass for the whole, and zeros are named as what they are."""
    text, reason = FAULTY[what]
    (tmp_path / "x").write_text(text)
    status, out, err = run(capsys, "plan", str(tmp_path / "x"))
    assert (status in (os.EX_DATAERR, os.EX_NOINPUT), out, err.count("\n")) == (True, "", 1)
    assert reason in err


def test_zeros_beside_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user without root has printed costs itself alone."""
    (tmp_path / "iomem").write_text(FAULTY["without root"][0])
    (tmp_path / "boot.log").write_bytes(printed("journalctl -k -b"))
    status, out, _ = run(capsys, "plan", str(tmp_path))
    assert status == 0
    assert "FAILED  iomem: not privileged: every address is zero" in out
    assert "log-node-ranges  ok  used for memory regions" in out


CONFLICTS: dict[str, tuple[dict[str, bytes], str]] = {
    "maps": (
        {"a": IOMEM.encode(), "b": b"$ sudo cat /proc/iomem\n" + IOMEM.encode()},
        "a and {}b both hold /proc/iomem",
    ),
    "logs": (
        {"a": b"virt/tdx: module initialized\n", "b": b"virt/tdx: module not loaded\n"},
        "a and {}b both hold a kernel log",
    ),
    "kernels": ({"a": b"6.17.0\n", "b": b"6.16.0\n"}, "a and {}b both hold /proc/sys/kernel/osrelease"),
    "boots": (
        {"a": b"6.17.0\n", "b": b"[    0.000000] Linux version 6.16.0 (x) #1\n[    0.1] x\n"},
        "a and {}b: different kernels, 6.17.0 and 6.16.0",
    ),
    "boots by uname -a": (
        {"a": b"Linux r 6.17.0 #1 SMP\n", "b": b"[    0.000000] Linux version 6.16.0 (x) #1\n[    0.1] x\n"},
        "a and {}b: different kernels, 6.17.0 and 6.16.0",
    ),
    "boots by the loader": (
        {"a": b"BOOT_IMAGE=/vmlinuz-6.17.0-2-x ro\n", "b": b"[    0.000000] Linux version 6.16.0 (x) #1\n"},
        "b and {}a: different kernels, 6.16.0 and 6.17.0-2-x",
    ),
    "boots without a log": (
        {"a": b"6.17.0\n", "b": b"Linux r 6.17.0 #1 SMP\n", "c": b"BOOT_IMAGE=/boot/vmlinuz-6.16.0 ro\n"},
        "b and {}c: different kernels, 6.17.0 and 6.16.0",
    ),
    "archive": (
        {"a": make_capture(Root(HOST), 0, keep_host_name=False).data},
        "is a host by itself (capture)",
    ),
    "facts": ({"a": b'{"schema": "tdx-headroom/facts/1"}\n'}, "is a host by itself (facts)"),
    "prose": ({"a": IOMEM.encode(), "b": b"hello\n"}, "no kernel message in"),
}


@pytest.mark.parametrize("what", CONFLICTS)
def test_what_cannot_be_merged(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the files."""
    files, reason = CONFLICTS[what]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    status, out, err = run(capsys, "plan", "--merge", *(str(tmp_path / name) for name in files))
    assert (status, out, err.count("\n")) == (os.EX_DATAERR, "", 1)
    assert reason.format(f"{tmp_path}/") in err


@pytest.mark.parametrize(("option", "status"), [("--root", 64), ("--capture", 64), ("--facts", 64)])
def test_what_has_no_place_in_a_merge(option: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What is a host by itself is not merged."""
    assert run(capsys, "plan", "--merge", option, "x")[::2] == (
        status,
        f"tdx-headroom: --merge takes no {option}: that is a host by itself\n",
    )


REPORT = """\
<======== COPY BELOW HERE ========>

### Kernel version

```
{release} #20-Ubuntu SMP PREEMPT_DYNAMIC x86_64 x86_64 x86_64 GNU/Linux
```

### TDX kernel logs

```
{log}
```

### Model specific registers (MSRs)

```
MK_TME_ENABLED bit: 1 (expected value: 1)
SEAM_RR bit: 1 (expected value: 1)
NUM_TDX_PRIV_KEYS: {keyids}
```

### CPU details

```
 INTEL(R) XEON(R) GOLD 6548Y+
```
"""


@pytest.mark.parametrize(("keyids", "guests"), [("20", 31), ("3f (expected value: >0)", 62), ("0x40", 63)])
@pytest.mark.parametrize(
    "log", ["", "...", "virt/tdx: module not loaded", "[    1.6] virt/tdx: module initialized"]
)
def test_a_system_report(keyids: str, guests: int, log: str, tmp_path: Path) -> None:
    """What canonical/tdx asks for: kernel, CPU and KeyIDs, and the log only from its own section."""
    text = REPORT.format(release="6.8.0-1028-intel", log=log, keyids=keyids)
    (tmp_path / "x").write_text(text.replace("\n", "\r\n") if guests == 62 else text, newline="")
    facts = facts_of(tmp_path / "x")
    assert facts.kernel_release == "6.8.0-1028-intel"
    assert facts.platform is not None
    assert facts.platform.cpu_model == "INTEL(R) XEON(R) GOLD 6548Y+"
    assert facts.platform.guest_keyids == guests
    assert facts.kernel_log is not None
    assert (facts.kernel_log.state is ModuleState.UNKNOWN) is (log in ("", "..."))


FAILED = "[   11.746190] virt/tdx: module initialization failed (-28)"
OUTSIDE: dict[str, Callable[[str], str]] = {
    "before": lambda report: f"{FAILED}\n{report}",
    "behind": lambda report: f"{report}\nAfter the reboot:\n{FAILED}\n",
    "in a block behind": lambda report: f"{report}\n\n```\n{FAILED}\n```\n",
    "indented": lambda report: f"{report}\nAfter the reboot:\n\n    {FAILED}\n",
    "in a section of its own": lambda report: f"{report}\n### dmesg\n\n```\n{FAILED}\n```\n",
    "without a log's section": lambda report: report.replace("### TDX kernel logs\n", f"{FAILED}\n"),
}


@pytest.mark.parametrize("log", ["", "[    1.6] virt/tdx: BIOS enabled: private KeyID range [32, 64)"])
@pytest.mark.parametrize("where", OUTSIDE)
def test_lines_of_a_log_outside_a_report(where: str, log: str, tmp_path: Path) -> None:
    """What stands beside a report's sections and is a kernel's message is not lost."""
    report = REPORT.format(release="6.17.0", log=log, keyids=20)
    (tmp_path / "x").write_text(OUTSIDE[where](report))
    facts = facts_of(tmp_path / "x")
    assert facts.kernel_log is not None
    assert facts.kernel_log.state is ModuleState.FAILED
    assert facts.kernel_release == "6.17.0"


@pytest.mark.parametrize("mark", ["> ", ">", "> > ", ">> "])
@pytest.mark.parametrize("intro", ["", "Bob wrote:\n"])
def test_a_quoted_report(mark: str, intro: str, tmp_path: Path) -> None:
    """A report in the answer to a mail is one."""
    report = REPORT.format(release="6.17.0", log="virt/tdx: module not loaded", keyids=20)
    (tmp_path / "x").write_text(intro + "".join(f"{mark}{line}\n" for line in report.splitlines()))
    facts = facts_of(tmp_path / "x")
    assert facts.kernel_release == "6.17.0"
    assert facts.platform is not None
    assert facts.platform.guest_keyids == 31
    assert facts.kernel_log is not None
    assert facts.kernel_log.state is not ModuleState.UNKNOWN


def test_a_report_is_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report and the memory map of its host go together; its log and another one do not."""
    (tmp_path / "report").write_text(
        REPORT.format(release="6.17.0", log="virt/tdx: module not loaded", keyids=20)
    )
    (tmp_path / "iomem").write_text(IOMEM)
    plan = plan_of(capsys, "--merge", str(tmp_path / "report"), str(tmp_path / "iomem"))
    assert plan["observed"]["reason"] == "module-not-loaded"
    assert plan["strategies"]["memory-regions"]["tdmrs"]
    (tmp_path / "log").write_text("virt/tdx: module initialized\n")
    assert (
        "both hold a kernel log"
        in run(capsys, "plan", "--merge", str(tmp_path / "report"), str(tmp_path / "log"))[2]
    )


def place(folder: Path, *names: str) -> None:
    made: dict[str, Callable[[], bytes]] = {
        "boot.log": lambda: printed("journalctl -k -b"),
        "old.log": lambda: printed("journalctl -k -b"),
        "iomem": IOMEM.encode,
        "memmap.txt": lambda: printed("grep . /sys/firmware/memmap/*/*"),
        "uname.txt": lambda: printed("uname -r"),
        "notes.txt": lambda: b"Bought in 2024.\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(made[name]())


def test_directories_of_one_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host's files in a directory are one host; logs alone, or two of a kind, are hosts each."""
    place(tmp_path / "rack7", "boot.log", "iomem", "memmap.txt", "uname.txt", "notes.txt")
    place(tmp_path / "rack8", "boot.log", "old.log", "iomem")
    place(tmp_path / "rack9", "boot.log", "old.log")
    found = [
        (one.kind, Path(one.path).name, len(one.parts)) for one in expand([Named(Kind.ANY, str(tmp_path))])
    ]
    assert found == [
        (Kind.MERGE, "rack7", 4),
        (Kind.ANY, "notes.txt", 0),
        *((Kind.ANY, name, 0) for name in ("boot.log", "iomem", "old.log", "boot.log", "old.log")),
    ]
    status, out, err = run(capsys, "fleet", "--all", "--format", "csv", str(tmp_path / "rack7"))
    assert status == os.EX_DATAERR
    assert "notes.txt" in err
    assert f"\n{tmp_path}/rack7,," in out
    (tmp_path / "rack7/notes.txt").unlink()
    assert plan_of(capsys, str(tmp_path / "rack7")) == plan_of(capsys, "--merge", str(tmp_path / "rack7"))


@pytest.mark.parametrize("command", ["cat /proc/cpuinfo", "grep -m1 -A1 ^flags /proc/cpuinfo"])
@pytest.mark.parametrize("width", [40, 79])
def test_folded_flags(command: str, width: int, tmp_path: Path) -> None:
    """The flags of a processor are longer than any line of a terminal, or of a mail."""
    rows = file("proc/cpuinfo").partition("\n\n")[0].splitlines()
    if "grep" in command:
        rows = [row for row in rows if row.startswith(("flags", "bugs"))]
    folded = [row[i : i + width] for row in rows for i in range(0, len(row), width)]
    (tmp_path / "x").write_text("\n".join([f"$ {command}", *folded, "$", ""]))
    platform = facts_of(tmp_path / "x").platform
    assert platform is not None
    assert (platform.tdx_host_platform, platform.virtual_machine) == (True, False)


NAMES: dict[str, tuple[dict[str, str], bool]] = {
    "kinds": ({"iomem.txt": "iomem", "boot.log": "boot.log", "uname-r.txt": "uname.txt"}, True),
    "one host before": ({"rack1-iomem.txt": "iomem", "rack1-boot.log": "boot.log"}, True),
    "one host behind": ({"iomem_rack1.txt": "iomem", "journal-k-b.rack1.log": "boot.log"}, True),
    "two hosts": ({"rackA-iomem.txt": "iomem", "rackB-boot.log": "boot.log"}, False),
    "one named": ({"iomem.txt": "iomem", "dmesg.rack1": "boot.log"}, False),
    "nothing but hosts": ({"a.log": "boot.log", "b-uname.txt": "uname.txt"}, False),
}


@pytest.mark.parametrize("what", NAMES)
def test_names_tell_hosts_apart(what: str, tmp_path: Path) -> None:
    """Files in one directory are one host's only where their names do not say otherwise."""
    names, one = NAMES[what]
    for name, kind in names.items():
        place(tmp_path, kind)
        (tmp_path / kind).rename(tmp_path / f"{name}~")
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.removesuffix("~")))
    found = list(expand([Named(Kind.ANY, str(tmp_path))]))
    assert [part.kind for part in found] == ([Kind.MERGE] if one else [Kind.ANY] * len(names))


@pytest.mark.parametrize("other", ["6.99.0-9-other\n", "BOOT_IMAGE=/boot/vmlinuz-6.99.0-9-other ro\n"])
def test_other_kernels_in_a_directory(other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that lie together, but are of different kernels, are each a host; who merges them is told."""
    place(tmp_path, "boot.log")
    (tmp_path / "uname.txt").write_text(other)
    status, out, err = run(capsys, "plan", "--format", "json", str(tmp_path))
    inputs = [Path(json.loads(line)["input"]).name for line in out.splitlines()]
    assert (status, err, inputs) == (0, "", ["boot.log", "uname.txt"])
    status, out, err = run(capsys, "plan", "--merge", str(tmp_path))
    assert (status, out, "different kernels" in err) == (os.EX_DATAERR, "", True)


@pytest.mark.parametrize("notes", [MOST_FILES - 2, MOST_FILES - 1])
def test_many_files_in_a_directory(notes: int, tmp_path: Path) -> None:
    """No host has more kinds of files than it has outputs: then all of them are inputs by themselves."""
    place(tmp_path, "iomem", "boot.log")
    for number in range(notes):
        (tmp_path / f"note-{number}.txt").write_text("seen on Monday\n")
    kinds = [one.kind for one in expand([Named(Kind.ANY, str(tmp_path))])]
    together = notes + 2 <= MOST_FILES
    assert kinds == ([Kind.MERGE] if together else []) + [Kind.ANY] * (notes + (0 if together else 2))


def test_no_root_is_taken_apart(tmp_path: Path) -> None:
    """A captured tree with an output beside it stays a tree."""
    shutil.copytree(HOSTS / "small-vm", tmp_path / "tree")
    place(tmp_path / "tree", "uname.txt", "iomem")
    assert list(expand([Named(Kind.ANY, str(tmp_path))])) == [Named(Kind.ROOT, str(tmp_path / "tree"))]


def test_other_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``check`` and ``fleet`` read what ``plan`` reads."""
    place(tmp_path, "iomem")
    status, told, *_ = run(capsys, "check", str(tmp_path / "iomem"))
    # A map alone is no promise, but it is read.
    assert (status, "The memory map alone: " in told) == (3, True)
    assert run(capsys, "fleet", str(tmp_path / "iomem"))[0] == 0
