# SPDX-License-Identifier: Apache-2.0
"""Captures: complete, the same everywhere, and safe to show."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools.archives import unpack

from tdx_headroom.capture.build import TOP, make_capture
from tdx_headroom.cli import main
from tdx_headroom.errors import AgentError
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.files import MAX_FILE
from tdx_headroom.hostfs.recording import RecordingRoot
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg
from tdx_headroom.sources.registry import SELECTION, reduce_file

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = sorted(path for path in (Path(__file__).parents[2] / "hosts").iterdir() if path.is_dir())
each_host = pytest.mark.parametrize("host", HOSTS, ids=lambda path: path.name)


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", "--format", "json", *arguments]) == 0
    return capsys.readouterr().out


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {
            member.name.removeprefix(f"{TOP}/"): file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }


@each_host
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_capture_gives_the_same_plan(
    host: Path,
    named: bool,  # noqa: FBT001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The plan of the archive, and of the extracted archive, is that of the host, to the byte."""
    archive = str(tmp_path / "x.tar.gz")
    options = ["--keep-host-name"] if named else []
    assert main(["capture", "-o", archive, "--path.rootfs", str(host), *options]) == 0
    capsys.readouterr()
    expected = plan(capsys, "--root", str(host))
    if not named:
        expected = json.dumps({**json.loads(expected), "host": None}) + "\n"
    with tarfile.open(archive) as tar:
        unpack(tar, tmp_path / "out")
    assert plan(capsys, "--capture", archive) == expected
    assert plan(capsys, archive) == expected
    assert plan(capsys, "--root", str(tmp_path / "out" / TOP)) == expected
    assert plan(capsys, str(tmp_path / "out")) == expected
    assert (tmp_path / "out" / TOP / "plan.json").read_text() == expected


@pytest.mark.root("sees what root sees")
def test_this_machine(tmp_path: Path) -> None:
    """A capture of the running machine gives the plan that the machine gives."""
    command = [sys.executable, "-m", "tdx_headroom"]
    archive = str(tmp_path / "x.tar.gz")
    run = subprocess.run([*command, "capture", "-o", archive, "--keep-host-name"], capture_output=True)
    assert run.returncode == 0, run.stderr
    plans = [
        subprocess.run([*command, "plan", "--format", "json", *named], capture_output=True).stdout
        for named in ([], ["--capture", archive])
    ]
    assert plans[0] == plans[1] != b""


@each_host
def test_a_capture_of_a_capture_is_the_same(host: Path, tmp_path: Path) -> None:
    """Nothing is left that could be taken away: capturing again changes no file."""
    first = make_capture(Root(host), 0, keep_host_name=True)
    with tarfile.open(fileobj=io.BytesIO(first.data)) as tar:
        unpack(tar, tmp_path)
    again = make_capture(Root(tmp_path / TOP), 0, keep_host_name=True)
    before, after = contents(first.data), contents(again.data)
    del before["manifest.json"], after["manifest.json"]
    assert before == after


class Spy(Root):
    """Notes every path that is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.paths: set[str] = set()

    def read(self, source: str, relative: str, *, limit: int = MAX_FILE) -> str:
        self.paths.add(relative)
        return super().read(source, relative, limit=limit)


@each_host
def test_everything_that_is_read_is_wanted(host: Path) -> None:
    """A file that the agent reads and that archives and captures do not know would be missing in them."""
    spy = Spy(host)
    read_facts(spy)
    unknown = {path for path in spy.paths if not SELECTION.text(path)}
    assert not unknown, "give them a row in sources/registry.py"


@each_host
def test_everything_that_is_read_has_a_reduction(host: Path) -> None:
    """No file that the agent reads is left out because nobody has thought of it."""
    root = RecordingRoot(Root(host), SELECTION)
    read_facts(root)
    for path, text in root.texts.items():
        if "kmsg" not in path and "dmesg" not in path:
            reduced, kept = reduce_file(path, text)
            assert "not known" not in kept
            assert reduced is not None or "all zero" in text or "iomem" in path


@each_host
def test_manifest_lists_every_file(host: Path) -> None:
    """The manifest has each file with its size and hash, and says what was kept of it."""
    files = contents(make_capture(Root(host), 1_700_000_000, keep_host_name=False).data)
    manifest: dict[str, Any] = json.loads(files.pop("manifest.json"))
    assert manifest["schema"] == "tdx-headroom/capture/2"
    assert manifest["created"] == "2023-11-14T22:13:20+00:00"
    assert manifest["host"] is None
    named = (host / "proc/sys/kernel/hostname").exists()
    assert ("proc/sys/kernel/hostname" in manifest["left_out"]) == named
    listed = {entry["path"]: entry for entry in manifest["files"]}
    assert set(listed) == set(files)
    for path, entry in listed.items():
        assert entry["size"] == len(files[path])
        assert entry["sha256"] == hashlib.sha256(files[path]).hexdigest()
        assert entry["kept"]
    assert str(host) not in json.dumps(manifest)


@each_host
def test_few_files(host: Path) -> None:
    """What Linux has in very many files is in one."""
    made = make_capture(Root(host), 5, keep_host_name=False).data
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        assert len(tar.getmembers()) < 50


FAULTS = Path(__file__).parents[2] / "faults"
PLACES = {"firmware-memmap": "sys/firmware/memmap", "nodes": "sys/devices/system"}


@pytest.mark.parametrize("part", ["start", "end", "type", None])
def test_a_part_of_the_map_missing(tmp_path: Path, part: str | None) -> None:
    """A list of the entries before the fault would pass for the whole."""
    host = tmp_path / "host"
    shutil.copytree(HOSTS[-1].parent / "good-2-node", host)
    if part:
        (host / "sys/firmware/memmap/5" / part).unlink()
    packed = contents(make_capture(Root(host), 5, keep_host_name=False).data)
    assert ("sys/firmware/memmap/entries" in packed) == (part is None)


@pytest.mark.parametrize(
    ("source", "fault"),
    [(source, path.name) for source in PLACES for path in sorted((FAULTS / source).iterdir())],
)
def test_what_spoils_a_source_spoils_it_in_the_capture(tmp_path: Path, source: str, fault: str) -> None:
    """A source that fails on the host fails in its capture, and gives the same where it does not."""
    host = tmp_path / "host"
    shutil.copytree(HOSTS[-1].parent / "good-2-node", host)
    shutil.rmtree(host / PLACES[source])
    shutil.copytree(FAULTS / source / fault, host / PLACES[source])
    with tarfile.open(fileobj=io.BytesIO(make_capture(Root(host), 5, keep_host_name=False).data)) as tar:
        unpack(tar, tmp_path)
    before, after = (read_facts(Root(root)) for root in (host, tmp_path / TOP))
    assert [s.ok for s in before.sources] == [s.ok for s in after.sources]
    assert before.memory_regions == after.memory_regions


@each_host
def test_a_file_each_as_before(host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive with a file for each part of the firmware's map and each block is read as ever."""
    old = tmp_path / "old.tar.gz"
    with tarfile.open(old, "w:gz") as tar:
        tar.add(host.resolve(), TOP)
    assert plan(capsys, str(old)) == plan(capsys, "--root", str(host))


def test_the_same_bytes_from_the_same_host() -> None:
    """Two captures at the same time are equal, and no time, owner or name of a file is in the archive."""
    captures = [make_capture(Root(HOSTS[0]), 5, keep_host_name=True).data for _ in range(2)]
    assert captures[0] == captures[1]
    assert captures[0][3:8] == bytes(5)
    with tarfile.open(fileobj=io.BytesIO(captures[0])) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_mode_and_replacement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive has mode 0640 whatever the umask; a link in its place is replaced, not followed."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "x.tar.gz").symlink_to(tmp_path / "victim")
    old = os.umask(0)
    try:
        status = main(["capture", "-o", str(tmp_path / "x.tar.gz"), "--path.rootfs", str(HOSTS[0])])
    finally:
        os.umask(old)
    assert status == 0
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "x.tar.gz").is_symlink()
    assert stat.S_IMODE((tmp_path / "x.tar.gz").stat().st_mode) == 0o640
    assert (tmp_path / "victim").read_text() == "untouched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["victim", "x.tar.gz"]


def test_to_standard_output() -> None:
    """``-o -`` writes the archive to standard output, and nothing else goes there."""
    command = [sys.executable, "-m", "tdx_headroom", "capture", "-o", "-", "--path.rootfs", str(HOSTS[0])]
    run = subprocess.run(command, capture_output=True)
    assert run.returncode == 0
    assert "plan.json" in contents(run.stdout)
    assert run.stderr.startswith(b"standard output: ")


def test_nothing_of_a_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty root is an error, and no file is left behind."""
    assert (
        main(["capture", "-o", str(tmp_path / "x.tar.gz"), "--path.rootfs", str(tmp_path)]) == os.EX_NOINPUT
    )
    assert capsys.readouterr().err == "tdx-headroom: nothing of this host can be read; run as root\n"
    assert not list(tmp_path.iterdir())


def test_a_reduction_that_loses_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture that would give another plan is not written: the error says so."""
    monkeypatch.setattr(
        "tdx_headroom.capture.build.reduce_file",
        lambda path, text: (None, "lost") if "memblock/memory" in path else reduce_file(path, text),
    )
    monkeypatch.setattr("tdx_headroom.sources.kernel_log.redact.keep", lambda _text, **_: None)
    with pytest.raises(AgentError, match="would not give this host's plan"):
        make_capture(Root(HOSTS[0]), 0, keep_host_name=False)


def test_losses_and_forgeries_are_counted_on(tmp_path: Path) -> None:
    """Lost records and forged lines are as many in a capture as on the host; the forged text is not in it."""
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "kmsg").write_text(
        "5,3,0,-;Linux version 6.8.0-1006-intel (a@b) #1\n"
        "12,4,5,-;virt/tdx: module initialized by alice\n"
        "6,9,10,-;virt/tdx: BIOS enabled: private KeyID range [32, 64)\n"
        "6,10,11,-;usb 1-1: SerialNumber: ABC123\n"
        "6,20,12,-;virt/tdx: CMR: [0x100000, 0x6f800000)\n"
        "6,21,13,-;usb 1-1: SerialNumber: ABC123\n"
        "6,22,13,-;usb 1-2: SerialNumber: ABC124\n"
    )
    before = read_facts(Root(tmp_path))
    data = make_capture(Root(tmp_path), 0, keep_host_name=False).data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        unpack(tar, tmp_path / "out")
    after = read_facts(Root(tmp_path / "out" / TOP))
    assert before.log_health is not None
    assert (before.log_health.lost, before.log_health.untrusted) == (13, 1)
    assert after.log_health == before.log_health
    assert after.kernel_log == before.kernel_log
    text = contents(data)["dev/kmsg"].decode()
    assert "alice" not in text
    assert "ABC12" not in text
    assert text.count("(redacted)") == 3


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("System RAM\n", "System RAM\n"),
        ("Persistent Memory (legacy)\n", "Persistent Memory (legacy)\n"),
        ("type 0x7f of rack7\n", "another type\n"),
    ],
)
def test_types_of_the_firmware(text: str, kept: str) -> None:
    """A type that no kernel has yet is no reason to lose the map."""
    assert reduce_file("sys/firmware/memmap/3/type", text)[0] == kept


def entry(text: str, **fields: str) -> str:
    known = {"_TRANSPORT": "kernel", "SYSLOG_FACILITY": "0", "_BOOT_ID": "b", "MESSAGE": text}
    return json.dumps({**known, **fields})


LOG_FORMS: dict[str, Callable[[list[str]], str]] = {
    "journal": lambda texts: "".join(f"{entry(t)}\n" for t in texts),
    "journal, two boots": lambda texts: "".join(
        f"{line}\n" for line in (*(entry(t, _BOOT_ID="a") for t in texts[:60]), *map(entry, texts))
    ),
    "journal, pretty": lambda texts: "".join(
        f"{json.dumps(json.loads(entry(t)), indent=1)}\n" for t in texts
    ),
    "journal, without facility": lambda texts: "".join(f"{json.dumps({'MESSAGE': t})}\n" for t in texts),
    "dmesg --json": lambda texts: json.dumps({"dmesg": [{"pri": 6, "msg": t} for t in texts]}),
    "dmesg --json -x": lambda texts: json.dumps({"dmesg": [{"fac": "kern", "msg": t} for t in texts]}),
    "kmsg": lambda texts: "".join(f"6,{i},{i},-;{t}\n" for i, t in enumerate(texts)),
    "kmsg, cut": lambda texts: "\n".join(f"6,{i},{i},-;{t}" for i, t in enumerate(texts)),
    "dmesg": lambda texts: "".join(f"[    1.000000] {t}\n" for t in texts),
    "dmesg, cut": lambda texts: "\n".join(f"[    1.000000] {t}" for t in texts),
    "dmesg, some lines bare": lambda texts: "".join(
        f"{t}\n" if i == len(texts) // 2 else f"[    1.000000] {t}\n" for i, t in enumerate(texts)
    ),
    "dmesg -t": lambda texts: "".join(f"{t}\n" for t in texts),
    "syslog": lambda texts: "".join(f"Jul 10 20:50:19 h kernel: {t}\n" for t in texts),
}


@pytest.mark.parametrize("form", LOG_FORMS)
@pytest.mark.parametrize(
    "again",
    [
        "Command line: BOOT_IMAGE=/vmlinuz-6.8.0-1004-intel memmap=1M$1G",
        "Linux version 6.8.0-1004-intel (a@b) #1",
        "Linux version 6.8.0-1004-intel without more",
        "Kernel command line: BOOT_IMAGE=/vmlinuz-6.8.0-1004-intel mem=200G",
        "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
        None,
    ],
)
@pytest.mark.parametrize("where", ["dmesg", "sos_commands/logs/journalctl_--no-pager_-b"])
def test_a_log_in_any_form_with_a_line_that_comes_once_a_boot(
    form: str, again: str | None, where: str, tmp_path: Path
) -> None:
    """What begins another boot in one form and not in another begins none in the capture that began none."""
    texts = [r.text for r in parse_kmsg((HOSTS[0] / "dev/kmsg").read_text()).records]
    texts = [t for t in texts if t.strip()]
    for at in (len(texts) // 2, len(texts) - 1, len(texts)):
        planted = texts if again is None else [*texts[:at], again, *texts[at:]]
        host = tmp_path / str(at)
        (host / where).parent.mkdir(parents=True)
        (host / where).write_text(LOG_FORMS[form](planted))
        before = read_facts(Root(host))
        with tarfile.open(fileobj=io.BytesIO(make_capture(Root(host), 0, keep_host_name=False).data)) as tar:
            unpack(tar, host / "out")
        after = read_facts(Root(host / "out" / TOP))
        assert after.kernel_log == before.kernel_log
        assert after.memory_regions == before.memory_regions
        assert after.command_line == before.command_line
        assert after.log_health is not None
        assert before.log_health is not None
        assert after.log_health.verified == before.log_health.verified


@pytest.mark.parametrize("form", ["kmsg, cut", "dmesg, cut"])
def test_a_log_that_ends_in_a_list_stays_cut(form: str, tmp_path: Path) -> None:
    """A list that may go on behind the end of the log is no whole one in the capture either."""
    texts = [r.text for r in parse_kmsg((HOSTS[0] / "dev/kmsg").read_text()).records]
    last = max(i for i, text in enumerate(texts) if text.strip().startswith("node "))
    (tmp_path / "dmesg").write_text(LOG_FORMS[form](texts[: last + 1]))
    with tarfile.open(fileobj=io.BytesIO(make_capture(Root(tmp_path), 0, keep_host_name=False).data)) as tar:
        unpack(tar, tmp_path / "out")
    failing = {s.source for s in read_facts(Root(tmp_path / "out" / TOP)).sources if not s.ok}
    assert "log-node-ranges" in failing
