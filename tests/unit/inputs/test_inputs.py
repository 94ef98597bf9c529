# SPDX-License-Identifier: Apache-2.0
"""What users name: kinds found out, directories, standard input, compression, and what goes wrong."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tdx_headroom.capture.build import make_capture
from tdx_headroom.cli import main
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.inputs import facts_lines
from tdx_headroom.inputs.compressed import decompressed
from tdx_headroom.inputs.expand import expand
from tdx_headroom.inputs.facts_lines import FactsLineError, facts_stream
from tdx_headroom.inputs.named import Kind, Named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOSTS = Path(__file__).parents[2] / "hosts"
GOOD = HOSTS / "good-2-node"
LOG = Path(__file__).parents[2] / "field" / "logs" / "canonical-tdx-385.log"
FACTS = json.dumps(read_facts(Root(GOOD)).to_json()) + "\n"
CAPTURE = make_capture(Root(GOOD), 0, keep_host_name=True).data


class Trickle(io.RawIOBase):
    """A pipe whose writer is slow: a byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        count = min(1, len(self._left), len(buffer))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


FILES: dict[str, bytes] = {
    "host.tar.gz": CAPTURE,
    "host.tar": gzip.decompress(CAPTURE),
    "host.tar.xz": lzma.compress(gzip.decompress(CAPTURE)),
    "dmesg.txt": LOG.read_bytes(),
    "dmesg.txt.gz": gzip.compress(LOG.read_bytes()),
    "kern.log.xz": lzma.compress(LOG.read_bytes()),
    "facts.jsonl": FACTS.encode(),
    "facts.jsonl.gz": gzip.compress(FACTS.encode()),
    "journal.json": b'{"_TRANSPORT": "kernel", "MESSAGE": "virt/tdx: module initialized"}\n',
}


@pytest.mark.parametrize("name", FILES)
def test_kinds_are_found_out(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plain path gives what the option for its kind gives, whatever the file is called."""
    path = tmp_path / "anything"
    path.write_bytes(FILES[name])
    option = "--capture" if "tar" in name else "--facts" if "facts" in name else "--log"
    plain = run(capsys, "plan", "--format", "json", str(path))
    assert plain == run(capsys, "plan", "--format", "json", option, str(path))
    assert plain[0] == 0
    assert json.loads(plain[1])["verdict"]["state"] == "initialized"


@pytest.mark.parametrize("name", FILES)
def test_standard_input(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-`` is any kind of input, and may come byte by byte."""

    class Stdin:
        buffer = io.BufferedReader(Trickle(FILES[name]), 1)

    monkeypatch.setattr("sys.stdin", Stdin)
    status, out, _ = run(capsys, "plan", "--format", "json", "-")
    assert status == 0
    assert json.loads(out)["verdict"]["state"] == "initialized"


def test_a_line_is_answered_before_the_next_one_comes() -> None:
    """A stream of facts is answered as it comes, however short: nobody waits for a buffer to fill."""
    short = (
        '{"schema": "tdx-headroom/facts/1", "host": "good-2-node", "memory_regions": null, "cmrs": null}\n'
    )
    command = [sys.executable, "-m", "tdx_headroom", "plan", "--facts", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for facts, schema in ((short, "plan"), (FACTS, "plan"), ("{}\n", "error"), (short, "plan")):
            process.stdin.write(facts.encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["schema"] == f"tdx-headroom/{schema}/1"
        process.stdin.close()
        assert process.wait() == os.EX_DATAERR


def test_several_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    """Inputs of all kinds mix, stay in order, and each answer stands under its input's name."""
    arguments = [str(LOG), "--root", str(GOOD), "/nope", "--log", str(LOG), str(HOSTS / "no-tdx")]
    status, out, err = run(capsys, "plan", *arguments)
    heads = [line for line in out.splitlines() if line.startswith("==> ")]
    assert heads == [f"==> {p} <==" for p in (LOG, GOOD, LOG, HOSTS / "no-tdx")]
    assert status == os.EX_NOINPUT
    assert err == "tdx-headroom: /nope: No such file or directory\n"
    status, out, _ = run(capsys, "plan", "--format", "json", *arguments)
    assert [json.loads(line)["input"] for line in out.splitlines()] == [
        str(p) for p in (LOG, GOOD, LOG, HOSTS / "no-tdx")
    ]


def test_inputs_that_the_system_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is too long and a file that gives EIO are named, and the others are answered."""
    too_long, broken = "a" * 300, "/proc/self/mem"
    status, out, err = run(capsys, "plan", "--format", "json", too_long, str(GOOD), broken, str(LOG))
    assert [json.loads(line)["input"] for line in out.splitlines()] == [str(GOOD), str(LOG)]
    assert status == os.EX_NOINPUT
    first, second = err.splitlines()
    assert first.startswith("tdx-headroom: aaaa")
    assert second == "tdx-headroom: /proc/self/mem: Input/output error"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to look everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_directory_that_nobody_may_look_into(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and what lies beside it is answered."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(LOG, folder / "good.log")
        (folder / "closed" / "host").mkdir(parents=True)
        expected = run(capsys, "plan", str(folder / "good.log"))[1]
        (folder / "closed").chmod(0)
        try:
            with as_nobody():
                status, out, err = run(capsys, "plan", str(folder))
                inside = run(capsys, "plan", str(folder / "closed" / "host"))
        finally:
            (folder / "closed").chmod(0o700)
    assert out == f"==> {folder}/good.log <==\n{expected}"
    assert (status, err.count("\n")) == (os.EX_NOINPUT, 1)
    assert f"{folder}/closed holds nothing of a host that can be read: " in err
    assert inside == (os.EX_NOINPUT, "", f"tdx-headroom: {folder}/closed/host: Permission denied\n")


def test_check_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    """The worst host decides; an input that cannot be read is unknown, which is worse than well."""
    assert run(capsys, "check", str(GOOD))[0] == 0
    assert run(capsys, "check", str(GOOD), "/nope")[0] == 3
    assert run(capsys, "check", "/nope") == (3, "", "tdx-headroom: /nope: No such file or directory\n")
    assert run(capsys, "check", str(HOSTS / "emerald-rapids"), "/nope", str(GOOD))[0] == 2


def test_directories(tmp_path: Path) -> None:
    """A directory that is no host means the captures below it, by name; other files are passed over."""
    shutil.copytree(HOSTS / "small-vm", tmp_path / "b-host")
    shutil.copytree(HOSTS / "small-vm", tmp_path / "site" / "rack" / "sosreport-x")
    (tmp_path / "a.tar.xz").touch()
    (tmp_path / "a.tar.xz.sha256").touch()
    (tmp_path / "README.md").touch()
    (tmp_path / ".hidden.log").touch()
    (tmp_path / "c.log").touch()
    (tmp_path / "d\n.log").touch()
    (tmp_path / "dmesg-host7").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = list(expand([Named(Kind.ANY, str(tmp_path))]))
    assert [(n.kind, Path(n.path).relative_to(tmp_path).as_posix()) for n in found] == [
        (Kind.ANY, "a.tar.xz"),
        (Kind.ROOT, "b-host"),
        (Kind.ANY, "c.log"),
        (Kind.ANY, "d\n.log"),
        (Kind.ANY, "dmesg-host7"),
        (Kind.ROOT, "site/rack/sosreport-x"),
    ]
    only_roots = list(expand([Named(Kind.ROOT, str(tmp_path))]))
    assert [Path(n.path).name for n in only_roots] == ["b-host", "sosreport-x"]
    assert list(expand([Named(Kind.CAPTURE, str(tmp_path))])) == found
    host = Named(Kind.ANY, str(tmp_path / "b-host"))
    assert list(expand([host])) == [host]


ERRORS: list[tuple[str, bytes, str]] = [
    ("plan.json", b'{"schema": "tdx-headroom/plan/1"}', "is output of this agent, not a host"),
    ("audit.json", b'{"schema": "tdx-headroom/fleet-host/1"}', "is output of this agent, not a host"),
    ("manifest.json", b'{\n "schema": "tdx-headroom/capture/1"}', "is output of this agent, not a host"),
    ("empty", b"", "no kernel message in"),
    ("cut.gz", gzip.compress(LOG.read_bytes())[:-9], "is cut short; fetch it again"),
    ("broken.xz", b"\xfd7zXZ\x00" + b"x" * 60, "cannot be unpacked"),
    ("program", b"\x7fELF\0\0\0", "is neither text nor an archive"),
    ("twice.gz", gzip.compress(gzip.compress(b"x")), "is compressed twice"),
]


@pytest.mark.parametrize(("name", "data", "reason"), ERRORS, ids=[name for name, _, _ in ERRORS])
def test_inputs_that_are_none(
    name: str, data: bytes, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which file, and what is wrong with it."""
    (tmp_path / name).write_bytes(data)
    status, out, err = run(capsys, "plan", str(tmp_path / name))
    assert (status, out) == (os.EX_DATAERR, "")
    assert reason in err
    assert err.count("\n") == 1
    assert name in err


MARKED: dict[str, bytes] = {
    "utf-8 with a mark": b"\xef\xbb\xbf" + LOG.read_bytes(),
    "utf-16": LOG.read_text().encode("utf-16"),
    "utf-16 and crlf": LOG.read_text().replace("\n", "\r\n").encode("utf-16"),
    "quoted in a mail": LOG.read_text().replace("\n", "\n> ").encode()[:-2],
    "quoted twice": b">> " + LOG.read_text().replace("\n", "\n>> ").encode()[:-3],
}


@pytest.mark.parametrize("how", MARKED)
def test_logs_that_came_a_long_way(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What editors and mail programs do to a log changes nothing."""
    (tmp_path / "log").write_bytes(MARKED[how])
    (tmp_path / "plain").write_bytes(LOG.read_bytes())
    plain, marked = (run(capsys, "plan", "--format", "json", str(tmp_path / n)) for n in ("plain", "log"))
    assert plain == marked


@pytest.mark.parametrize(
    ("option", "name"), [("--log", "host.tar"), ("--facts", "host.tar.gz"), ("--capture", "dmesg.txt")]
)
def test_the_wrong_option(option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive that is said to be a log, and the like, is an error that says what to do."""
    (tmp_path / name).write_bytes(FILES[name])
    status, _, err = run(capsys, "plan", option, str(tmp_path / name))
    assert status == os.EX_DATAERR
    assert f"tar archive; name it without {option}" in err


@pytest.mark.parametrize("path", ["boot/grub/grub.cfg", "efi/loader/loader.conf"])
def test_a_tree_with_a_boot_configuration_only(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one host's, whatever lies deeper in it that looks like another's."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("menuentry x {\nlinux /boot/vmlinuz-6.1.0\n}\n")
    (tmp_path / path).with_name("dmesg").touch()
    status, _, err = run(capsys, "boots", "--root", str(tmp_path), "--format", "json")
    assert (status, err) == (3, "")


def test_an_empty_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without any host is an error."""
    status, _, err = run(capsys, "plan", str(tmp_path))
    assert status == os.EX_NOINPUT
    assert "holds nothing of a host" in err


def test_a_host_of_which_nothing_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there and of no use is named, not denied."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/iomem").write_text("00000000-00000000 : System RAM\n")
    status, _, err = run(capsys, "plan", str(tmp_path))
    assert status == os.EX_NOINPUT
    assert "holds nothing of a host that can be read: iomem: not privileged: every address is zero" in err


def test_xz_in_several_parts() -> None:
    """What parallel compressors write, several streams with padding between, is read to its end."""
    data = lzma.compress(b"a" * 100_000) + bytes(8) + lzma.compress(b"b" * 3)
    assert decompressed(io.BytesIO(data), "x", 1 << 20).read() == b"a" * 100_000 + b"bbb"


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than any host's facts is answered as an error, and the next one is read."""
    monkeypatch.setattr(facts_lines, "MAX_LINE", 1 << 17)
    stream = io.BytesIO(b"x" * (1 << 18) + b"\n" + FACTS.encode())
    bad, good = facts_stream(stream)
    assert (bad.number, good.number) == (1, 2)
    assert isinstance(bad.facts, FactsLineError)
    assert not isinstance(good.facts, FactsLineError)


SOS = {
    "sos_commands/kernel/dmesg": "[99999.0] usb 1-1: new device\n",
    "sos_commands/kernel/uname_-a": "Linux rack7 6.8.0-1007-intel #7-Ubuntu SMP x86_64 GNU/Linux\n",
    "sos_commands/host/hostname": "rack7\n",
    "sos_commands/logs/journalctl_--no-pager_--boot_-1": "Jul  1 10:00:00 rack7 kernel: virt/tdx:"
    " module initialization failed (-28)\n",
    "sos_commands/logs/journalctl_--list-boots": " 0 0123\n",
    "proc/iomem": "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n",
}


def sosreport() -> dict[str, str]:
    """A sosreport whose dmesg has lost the boot; the journal has it."""
    kmsg = (GOOD / "dev/kmsg").read_text()
    messages = [line.split(";", 1)[1] for line in kmsg.splitlines() if line[0] in "3456" and line[1] == ","]
    journal = "".join(f"Jul 10 20:50:19 rack7 kernel: {text}\n" for text in messages)
    journal += "Jul 10 20:51:00 rack7 sshd[7]: Accepted password for alice\n"
    return {**SOS, "sos_commands/logs/journalctl_--no-pager_--boot": journal}


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "without-top": gzip.compress,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("pack", ["tree", "tar", "tar.gz", "tar.xz", "without-top"])
def test_sosreport(pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a sosreport's logs the one with the boot is read; name and kernel come from its commands."""
    folder = tmp_path / "sosreport-rack7-2024-07-10-abcdefg"
    for name, text in sosreport().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "hostname").symlink_to("sos_commands/host/hostname")
    path = folder
    if pack != "tree":
        path = tmp_path / "sos.archive"
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(folder, arcname="." if pack == "without-top" else folder.name)
        path.write_bytes(PACK[pack.removeprefix("tar")](packed.getvalue()))
    status, out, err = run(capsys, "plan", "--format", "json", str(path))
    found = json.loads(out)
    whole = json.loads(run(capsys, "plan", "--format", "json", str(GOOD))[1])
    assert (status, err) == (0, "")
    assert found["host"] == "rack7"
    assert found["strategies"] == whole["strategies"]
    assert found["observed"] == whole["observed"]
    report = run(capsys, "plan", str(path))[1]
    assert "kernel 6.8.0-1007-intel" in report
    assert "not privileged: every address is zero" in report


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("6,1,2,-;a\nxx\n", "kmsg line 2: not a record"),
        ("rack7: Linux version 6.12.5 (a)\nrack8: Linux version 6.12.5 (a)\n", "several hosts or files"),
        ("", "no kernel message"),
    ],
)
def test_what_is_wrong_names_its_file(
    text: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, whichever part of the reading finds it: among many inputs nobody could tell otherwise."""
    (tmp_path / "rack.log").write_text(text)
    for command in ("plan", "fleet"):
        _, _, err = run(capsys, command, str(tmp_path / "rack.log"))
        assert err.count("rack.log") == 1
        assert what in err


def peak_memory(hosts: int, command: str) -> int:
    """KiB that a command has used at most, for a stream of so many hosts; answers must be in order."""
    code = (
        "import sys; from tdx_headroom.cli import main;"
        f" status = main(['{command}', '--facts', '-', '--format', 'json', '--jobs', '1']);"
        " print(*(row.split()[1] for row in open('/proc/self/status') if 'VmHWM' in row), file=sys.stderr);"
        " sys.exit(status)"
    )
    facts = {"schema": "tdx-headroom/facts/1", "memory_regions": [[1 << 20, 3 << 30, 0]], "cmrs": None}
    facts["kernel_release"] = "6.17.0"
    stdin = "".join(json.dumps({**facts, "host": str(i)}) + "\n" for i in range(hosts))
    run = subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    names = [json.loads(answer).get("host") for answer in run.stdout.splitlines()]
    assert names[:hosts] == [str(i) for i in range(hosts)]
    return int(run.stderr)


@pytest.mark.parametrize("command", ["plan", "fleet"])
def test_memory_does_not_grow_with_hosts(command: str) -> None:
    """A stream is worked off batch by batch: five times as many take no more memory, and order is kept.

    By one job: with more, batches wait for one that takes longer, some for each job, or none.
    """
    assert peak_memory(7500, command) < peak_memory(1500, command) + 3000
