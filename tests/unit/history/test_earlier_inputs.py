# SPDX-License-Identifier: Apache-2.0
"""What inputs tell of earlier boots: in the verdict, and in captures."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.history.journals import Boot, of

from tdx_headroom.capture.build import TOP, make_capture
from tdx_headroom.cli import main
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom
from tdx_headroom.facts.record_file import RECORDS_PATH, parse_records, write_records
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.inputs.earlier import records_of
from tdx_headroom.sources.kernel_log.text import parse_boots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ALIKE = (Boot(1, 9), Boot(2, 13), Boot(3, 12))
"""Boots whose need spreads over 4 areas, the last with 3 left."""


def records(*boots: Boot) -> list[BootRecord]:
    return records_of(parse_boots(of(*boots)), RecordFrom.JOURNAL)


def verdict(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str | None, bool]:
    """The verdict on the next boot, and whether what the host needs varies too far."""
    assert main(["plan", "--format", "json", *arguments]) == os.EX_OK
    found = json.loads(capsys.readouterr().out)["verdict"]
    return found["next_boot"], "varies" in [finding["kind"] for finding in found["findings"]]


def last_boot(folder: Path) -> Path:
    """A captured tree of the last of these boots."""
    (folder / "dmesg").write_text("".join(f"[    0.000000] {text}\n" for text in ALIKE[-1].messages()))
    return folder


def test_a_log_with_earlier_boots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a log shows of earlier boots counts, as it does for the agent; one boot alone does not vary."""
    (tmp_path / "all").write_text(of(*ALIKE))
    (tmp_path / "last").write_text(of(*ALIKE[-1:]))
    assert verdict(capsys, "--log", str(tmp_path / "all")) == ("at-risk", True)
    assert verdict(capsys, str(tmp_path / "all")) == ("at-risk", True)
    assert verdict(capsys, "--log", str(tmp_path / "last")) == ("will-initialize", False)


def test_boots_that_are_not_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another firmware explains what differs."""
    (tmp_path / "all").write_text(of(*(replace(boot, bios="1.0") for boot in ALIKE[:-1]), ALIKE[-1]))
    assert verdict(capsys, "--log", str(tmp_path / "all")) == ("will-initialize", False)


def members(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            member.name.removeprefix(f"{TOP}/"): file.read().decode()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }


def captured(folder: Path, earlier: Sequence[BootRecord]) -> dict[str, str]:
    """The files of a capture with these records."""
    root = MemoryRoot("host", {"dmesg": (last_boot(folder) / "dmesg").read_text()}, [])
    return members(make_capture(root, 0, keep_host_name=False, earlier=earlier).data)


def test_a_capture_carries_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict of an archive is that of the host with all its boots, and its history has them all."""
    files = captured(tmp_path, records(*ALIKE[:-1]))
    assert "varies" in [f["kind"] for f in json.loads(files["plan.json"])["verdict"]["findings"]]
    tree = tmp_path / "tree"
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    assert verdict(capsys, "--root", str(tree)) == ("at-risk", True)
    assert main(["history", "--root", str(tree), "--format", "json"]) == os.EX_OK
    boots = json.loads(capsys.readouterr().out)["boots"]
    fullest = [boot["areas"][0]["tdmrs"][0] for boot in boots]
    assert [tdmr[Areas._fields.index("holes")] for tdmr in fullest] == [boot.holes + 1 for boot in ALIKE]
    assert [boot["began"] for boot in boots[:2]] == [boot.when for boot in ALIKE[:2]]


def test_records_are_redacted(tmp_path: Path) -> None:
    """No id of a boot, no private argument, no version that no firmware has."""
    private = replace(
        records(ALIKE[0])[0],
        boot_id="deadbeef" * 4,
        arguments=("nohibernate", "root=UUID=secret", "password=hunter2"),
        bios_version="2.1 <of alice@example.org>",
        kernel_release="6.12.5\n\0alice",
    )
    text = captured(tmp_path, [private])[RECORDS_PATH]
    for word in ("deadbeef", "secret", "hunter2", "alice"):
        assert word not in text
    (kept,) = parse_records(text)
    assert kept == replace(
        private, boot_id=None, arguments=("nohibernate",), bios_version=None, kernel_release=None
    )


def test_this_boot_is_not_an_earlier_one(tmp_path: Path) -> None:
    """The agent's own record of the running boot is told once, by its files."""
    boot_id = "01234567-89ab-cdef-0123-456789abcdef"
    files = {
        "dmesg": (last_boot(tmp_path) / "dmesg").read_text(),
        "proc/sys/kernel/random/boot_id": boot_id + "\n",
        "proc/cpuinfo": "vendor_id\t: GenuineIntel\n",
    }
    own = replace(records(ALIKE[-1])[0], boot_id=boot_id.replace("-", ""))
    found = members(make_capture(MemoryRoot("host", files, []), 0, keep_host_name=False, earlier=[own]).data)
    assert RECORDS_PATH not in found


def test_without_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A capture of a tree with records has them, unless told not to."""
    tree = tmp_path / "tree"
    path = tree / RECORDS_PATH
    path.parent.mkdir(parents=True)
    last_boot(tree)
    path.write_text(write_records(records(*ALIKE[:-1])))
    for options, expected in (([], True), (["--without-history"], False)):
        archive = str(tmp_path / "x.tar.gz")
        assert main(["capture", "-o", archive, "--path.rootfs", str(tree), *options]) == os.EX_OK
        capsys.readouterr()
        assert verdict(capsys, archive)[1] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", "it is no JSON"),
        ('{"schema": "x"}', "its schema is 'x'"),
        ('{"schema": "tdx-headroom/boot-records/1"}', "its records are no list"),
        ('{"schema": "tdx-headroom/boot-records/1", "records": [{"known_from": 5}]}', "record 1"),
        ("[" * 100_000, "it is no JSON"),
    ],
)
def test_records_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """One line says why; the boot that the tree is about is told all the same."""
    path = last_boot(tmp_path) / RECORDS_PATH
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert main(["history", "--root", str(tmp_path)]) == os.EX_OK
    out, err = capsys.readouterr()
    assert ": 1 boot\n" in out
    assert said in err
    assert len(err.splitlines()) == 1
    assert verdict(capsys, "--root", str(tmp_path)) == ("will-initialize", False)
