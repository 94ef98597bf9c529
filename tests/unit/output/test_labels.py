# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.cli import main
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.labels import label_number, render_labels
from tdx_headroom.verdict import State
from tdx_headroom.verdict.assessment import assess

HOSTS = Path(__file__).parents[2] / "hosts"
BOOTS = Path(__file__).parents[2] / "boots"
NAME = r"tdx-headroom/[a-z]([a-z-]{0,61}[a-z])?"
VALUE = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""What Kubernetes takes as a label's value."""


def labels(host: str) -> str:
    return of(HOSTS / host)


def of(tree: Path) -> str:
    return render_labels(assess(read_facts(Root(tree), boots=BootReader()))).decode()


def staged(folder: Path, boots: str) -> Path:
    """A host that is up, with the boot configuration of another."""
    shutil.copytree(HOSTS / "good-2-node", folder, dirs_exist_ok=True)
    shutil.copytree(BOOTS / boots, folder, dirs_exist_ok=True)
    return folder


def test_a_failing_host() -> None:
    """A host that misses by one area says so in labels that a selector can use."""
    assert labels("emerald-rapids") == (
        "tdx-headroom/verdict=failed\n"
        "tdx-headroom/next-boot=will-fail\n"
        "tdx-headroom/next-boot-tdx=false\n"
        "tdx-headroom/strategy=memory-regions\n"
        "tdx-headroom/headroom=minus-1\n"
        "tdx-headroom/mainline-headroom=minus-1\n"
    )


def test_a_host_without_tdx() -> None:
    """It has its verdict and nothing that would be said about TDX."""
    assert labels("no-tdx") == "tdx-headroom/verdict=not-tdx\n"


def test_the_boot_that_comes_next(tmp_path: Path) -> None:
    """Both labels of the next boot are about the staged kernel, which has no TDX, and not the running one."""
    assert labels("good-2-node").splitlines()[1:3] == [
        "tdx-headroom/next-boot=will-initialize",
        "tdx-headroom/next-boot-tdx=true",
    ]
    found = of(staged(tmp_path, "debian-two-saved")).splitlines()
    assert found[:3] == [
        "tdx-headroom/verdict=initialized",
        "tdx-headroom/next-boot=will-fail",
        "tdx-headroom/next-boot-tdx=false",
    ]
    assert "tdx-headroom/headroom=13" in found


def test_what_cannot_be_told_has_no_label(tmp_path: Path) -> None:
    """Where nothing tells which kernel boots next, neither label is there, whatever the running one does."""
    tree = staged(tmp_path, "debian-one")
    (tree / "sys/kernel").mkdir(parents=True, exist_ok=True)
    (tree / "sys/kernel/kexec_loaded").write_text("1\n")
    assert "next-boot" not in of(tree)
    assert "tdx-headroom/verdict=initialized\n" in of(tree)


@pytest.mark.parametrize(
    ("state", "label"),
    [
        (State.WILL_INITIALIZE, "true"),
        (State.AT_RISK, "at-risk"),
        (State.WILL_FAIL, "false"),
        (State.CANNOT_TELL, None),
        (State.NOT_TDX, None),
    ],
)
def test_every_verdict_of_the_next_boot(state: State, label: str | None) -> None:
    """What the label says of each verdict; it says nothing of an unknown one."""
    found = assess(read_facts(Root(HOSTS / "good-2-node"), boots=BootReader()))
    assert found.boots is not None
    changed = replace(found, boots=tuple(boot._replace(state=state) for boot in found.boots))
    lines = render_labels(changed).decode().splitlines()
    assert [line for line in lines if "/next-boot-tdx=" in line] == (
        [] if label is None else [f"tdx-headroom/next-boot-tdx={label}"]
    )


def test_where_nobody_has_looked_for_boots() -> None:
    """Without an inventory the old label is the running kernel's, and the new one is not there."""
    text = render_labels(assess(read_facts(Root(HOSTS / "good-2-node")))).decode()
    assert "tdx-headroom/next-boot=will-initialize\n" in text
    assert "next-boot-tdx" not in text


@pytest.mark.parametrize("host", sorted(path.name for path in HOSTS.iterdir() if path.is_dir()))
def test_kubernetes_takes_every_label(host: str) -> None:
    """Names and values keep to Kubernetes' rules."""
    for line in labels(host).splitlines():
        assert re.fullmatch(f"{NAME}={VALUE}", line), line


@pytest.mark.parametrize(("number", "text"), [(13, "13"), (0, "0"), (-1, "minus-1")])
def test_numbers(number: int, text: str) -> None:
    """No value begins with a minus."""
    assert label_number(number) == text


def test_the_command_replaces_the_file(tmp_path: Path) -> None:
    """`labels --output F` writes the file whole, readable for the discovery's worker; `-` prints the same."""
    command = [sys.executable, "-m", "tdx_headroom", "labels", "--path.rootfs", str(HOSTS / "emerald-rapids")]
    path = tmp_path / "tdx-headroom"
    path.write_text("old\n")
    run = subprocess.run([*command, "--output", str(path)], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert path.read_text() == labels("emerald-rapids")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    run = subprocess.run([*command, "--output", "-"], capture_output=True, text=True, timeout=60)
    assert run.stdout == labels("emerald-rapids")


def test_a_hidden_file_is_refused(tmp_path: Path) -> None:
    """The discovery passes hidden files over, so one is not written."""
    command = [sys.executable, "-m", "tdx_headroom", "labels", "--output", str(tmp_path / ".hidden")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 64
    assert len(run.stderr.splitlines()) == 1
    assert "is no file that Node Feature Discovery reads" in run.stderr


def test_of_an_input(capsys: pytest.CaptureFixture[str]) -> None:
    """A captured host is named as in the other commands, by its kind or without, and has the same labels."""
    host = str(HOSTS / "emerald-rapids")
    for arguments in (["--root", host], [host]):
        assert main(["labels", "--output", "-", *arguments]) == 0
        assert capsys.readouterr().out == labels("emerald-rapids")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([str(HOSTS)], "several hosts are in the input; labels are those of one node"),
        (["--path.rootfs", str(HOSTS / "no-tdx"), str(HOSTS / "no-tdx")], "are two hosts; name one"),
    ],
)
def test_labels_are_of_one_host(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    """Inputs that hold more than one host are a wrong use, said in a line."""
    assert main(["labels", "--output", "-", *arguments]) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err


def test_an_input_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and nothing is written."""
    assert main(["labels", "--output", "-", "--root", "/nowhere"]) == 66
    assert "/nowhere" in capsys.readouterr().err
