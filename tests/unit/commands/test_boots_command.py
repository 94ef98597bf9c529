# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom boots``, and what other commands show of the boot that comes next."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.tools.images import put_image

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.cli import main
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.page import render_page
from tdx_headroom.verdict.assessment import assess

TESTS = Path(__file__).resolve().parents[2]
MENU = """\
menuentry 'Ubuntu, with Linux {release}' --id one {{
  linux /boot/vmlinuz-{release} root=/dev/vda {line}
}}
menuentry 'Rescue <script>' --id two {{
  linux /boot/vmlinuz-6.8.0-1007-intel single
}}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image that somebody else has looked through is remembered, and none is kept."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))


def host(
    folder: Path, release: str, line: str = "nohibernate kvm_intel.tdx=1", base: str = "good-2-node"
) -> Path:
    """A host on which a kernel is staged."""
    shutil.copytree(TESTS / "hosts" / base, folder, symlinks=True)
    (folder / "boot/grub").mkdir(parents=True)
    put_image(folder, release, "6.8.0-1007-intel")
    (folder / "boot/grub/grub.cfg").write_text(MENU.format(release=release, line=line))
    return folder


def boots(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["boots", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("release", "line", "base", "status"),
    [
        ("7.3.0", "nohibernate", "good-2-node", 0),
        ("7.3.0", "nohibernate nosmt", "good-2-node", 1),
        ("6.12.57+deb13-amd64", "", "good-2-node", 2),
        ("6.12.57+deb13-amd64", "", "no-tdx", 0),
        ("6.17.0", "kvm_intel.tdx=0", "good-2-node", 2),
    ],
)
def test_exit_status(
    release: str, line: str, base: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes by the boot that comes next; a host without TDX is in order, for mixed fleets."""
    folder = host(tmp_path / "host", release, line, base)
    assert boots(capsys, "--root", str(folder))[0] == status


def test_unknown_is_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be told is told why, and passes no gate; nor does an input that cannot be read."""
    folder = host(tmp_path / "host", "7.3.0")
    (folder / "boot/grub/grub.cfg").write_text("if true; then\n")
    status, out, err = boots(capsys, "--root", str(folder))
    assert (status, err) == (3, "")
    assert "Next boot: cannot tell, because boot/grub/grub.cfg" in out
    assert boots(capsys, str(tmp_path / "missing"))[0] == 3


def test_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of several hosts the worst decides, and each is named."""
    good = host(tmp_path / "good", "7.3.0")
    bad = host(tmp_path / "bad", "6.12.57+deb13-amd64")
    status, out, _ = boots(capsys, "--root", str(good), "--root", str(bad))
    assert status == 2
    assert [line for line in out.splitlines() if line.startswith("==>")] == [
        f"==> {good} <==",
        f"==> {bad} <==",
    ]


def test_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each entry has a row, the next one is marked, and what decides is below."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    _, out, _ = boots(capsys, "--root", str(folder), "--no-color")
    rows = out.splitlines()
    assert [row[:9].rstrip() for row in rows[:4]] == ["", "  running", "> next", ""]
    (coming,) = [row for row in rows if row.startswith("> next")]
    assert "6.12.57+deb13-amd64" in coming
    assert "will fail" in coming
    assert "not built" in coming
    assert any(
        row.startswith("Next boot: WILL FAIL under kernel 6.12.57+deb13-amd64 (another kernel")
        for row in rows
    )
    assert "  - Make a kernel that initializes TDX the one that boots" in out


def plan_of(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> dict[str, Any]:
    main([command, *arguments, "--format", "json"])
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan's JSON has every boot, the running one first, and the verdict of the next."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    for command in ("boots", "plan"):
        plan = plan_of(capsys, command, "--root", str(folder))
        assert [(b["kernel_release"], b["roles"], b["verdict"]) for b in plan["boots"]] == [
            ("6.8.0-1007-intel", ["running"], "will-initialize"),
            ("6.12.57+deb13-amd64", ["next"], "will-fail"),
            # Without nohibernate, and nothing tells how it is built.
            ("6.8.0-1007-intel", ["installed"], "at-risk"),
        ]
        verdict = plan["verdict"]
        assert (verdict["next_boot"], verdict["boots_next"], verdict["entry_next"]) == (
            "will-fail",
            "6.12.57+deb13-amd64",
            "one",
        )
        assert plan["boots"][2]["recovery"] is True


def test_a_log_has_no_boots(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a log nobody knows what is staged: there is nothing to list, and no gate is passed."""
    log = str(TESTS / "field/logs/canonical-tdx-135-fail.log")
    assert plan_of(capsys, "plan", "--log", log)["boots"] is None
    assert boots(capsys, "--log", log)[0] == 3


def test_what_if(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another command line is judged in place of what is staged, on every command that takes it."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    line = "root=/dev/vda nohibernate kvm_intel.tdx=1 memmap=4K$0x140000000"
    assert boots(capsys, "--root", str(folder), "--command-line", line)[0] == 0
    plan = plan_of(capsys, "plan", "--root", str(folder), "--command-line", line)
    assert [b["command_line"] for b in plan["boots"]] == ["nohibernate kvm_intel.tdx=1 memmap=4K$0x140000000"]
    assert main(["check", "--root", str(folder), "--command-line", "kvm_intel.tdx=0"]) == 2
    capsys.readouterr()


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The group "next boot" says which it is, and fails where TDX will not come up with it."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    assert main(["check", "--root", str(folder)]) == 2
    out = capsys.readouterr().out
    group = out[out.index("next boot\n") :]
    assert "PASS  entry            kernel 6.12.57+deb13-amd64, known from boot/grub/grub.cfg" in group
    assert "FAIL  tdx              will-fail: Kernel 6.12.57+deb13-amd64 is built without TDX" in group


def test_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The audit has what is staged beside the own kernel."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    assert main(["fleet", "--root", str(folder)]) == os.EX_OK
    out = capsys.readouterr().out
    assert "own next boot 6.12.57+deb13-amd64 (memory-regions): Kernel 6.12.57+deb13-amd64 is built" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("own")] == [
        ["own", "kernel", "1"],
        ["own", "next", "boot"],
    ]


def test_page(tmp_path: Path) -> None:
    """The page has a row each, and nothing of a title is taken for markup."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    assessment = assess(read_facts(Root(folder), boots=BootReader()))
    page = render_page(assessment, full_addresses=True)
    assert "Next boot: Will fail" in page
    assert '<h2 id="verdict">' in page
    assert "TDX is up, but not after the next boot" in page
    assert "<code>6.12.57+deb13-amd64</code>" in page
    assert "Rescue &lt;script&gt;" in page
    assert "Rescue" not in render_page(assessment)


def test_fleet_under_another_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every kernel is audited with it, the staged one included."""
    folder = host(tmp_path / "host", "6.12.57+deb13-amd64")
    assert main(["fleet", "--root", str(folder), "--format", "csv", "--command-line", "kvm_intel.tdx=0"]) == 0
    rows = [row.split(",") for row in capsys.readouterr().out.splitlines()[1:]]
    assert [(row[5], row[6], row[8]) for row in rows] == [
        ("own kernel", "6.8.0-1007-intel", "will-fail"),
        ("own next boot", "6.12.57+deb13-amd64", "will-fail"),
        ("mainline", "7.3.0", "at-risk"),
    ]


@pytest.mark.parametrize("filler", [1940, 2040])
def test_a_line_that_is_too_long(filler: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an argument that does not fit the kernel sees nothing."""
    line = f"nohibernate kvm_intel.tdx=1 x={'y' * (filler - 30)} kvm_intel.tdx=0"
    folder = host(tmp_path / "host", "6.17.0-23-generic", line)
    expected = 2 if filler < 2000 else 0
    assert boots(capsys, "--root", str(folder))[0] == expected
    assert boots(capsys, "--root", str(folder), "--command-line", line)[0] == expected
