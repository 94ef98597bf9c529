# SPDX-License-Identifier: Apache-2.0
"""The entry to boot instead of one without TDX, as every output names it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from tests.tools.staged import RUNNING, block, entry_id, staged_host
from tests.unit.output.test_boots_brief import BAD, GOOD, assessed, change_menu

from tdx_headroom.cli import main
from tdx_headroom.output.page import render_page
from tdx_headroom.verdict.way_out import way_out

if TYPE_CHECKING:
    from pathlib import Path

INSTEAD = f"Boot kernel {RUNNING} instead, with which TDX comes up (13 reserved areas left)"
ONCE = f"grub-reboot '{entry_id(RUNNING)}'"
FOR_GOOD = f"grub-set-default '{entry_id(RUNNING)}'"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return staged_host(tmp_path / "host", BAD)


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    main([*command])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [["plan"], ["plan", "--short"], ["boots"]])
def test_reports_name_it_first(command: list[str], bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What to do before the next boot begins with it, and says who knows more."""
    text = said(capsys, *command, "--root", str(bad))
    todo = " ".join(text.partition("Next boot: WILL FAIL")[2].partition("What to do")[2].split())
    assert todo.startswith(f"- {INSTEAD}: `tdx-headroom remedy` says how.")


def test_check_has_it_as_its_hint(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the check that fails."""
    text = " ".join(said(capsys, "check", "--root", str(bad)).split())
    assert f"no confidential guest starts under it. {INSTEAD}: `tdx-headroom remedy` says how." in text


@pytest.mark.parametrize("full", [True, False])
def test_the_page_names_it_first(full: bool, bad: Path) -> None:  # noqa: FBT001
    """Commands are for the host's own terminal."""
    page = render_page(assessed(bad), full_addresses=full)
    todo = page.partition("Before the next boot")[2].partition("</ol>")[0]
    assert todo.partition("<li>")[2].startswith("Boot kernel")
    assert RUNNING in todo
    assert "grub-reboot" not in page


def test_remedy_gives_the_commands(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in a line of its own, and the other remedies behind."""
    text = said(capsys, "remedy", "--root", str(bad))
    assert (
        f"1. {INSTEAD}.\n   do     for one boot, as root:\n            {ONCE}\n"
        f"   or     for good, as root:\n            {FOR_GOOD}\n\n2. "
    ) in text
    found = json.loads(said(capsys, "remedy", "--format", "json", "--root", str(bad)))
    assert found["other_entry"] == {
        "entry": entry_id(RUNNING),
        "kernel_release": RUNNING,
        "verdict": "will-initialize",
        "left": 13,
        "once": ONCE,
        "for_good": FOR_GOOD,
    }


@pytest.mark.parametrize("command", ["once", "for_good"])
def test_what_it_says_comes_true(command: str, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what the command writes, nothing is to be done any more."""
    found = json.loads(said(capsys, "remedy", "--format", "json", "--root", str(bad)))["other_entry"]
    _, name = shlex.split(found[command])
    variable = {"once": "next_entry", "for_good": "saved_entry"}[command]
    (bad / "boot/grub/grubenv").write_text(block(**{variable: name}))
    after = json.loads(said(capsys, "remedy", "--format", "json", "--root", str(bad)))
    assert (after["verdict"], after["entry"]) == (found["verdict"], found["entry"])
    assert after["other_entry"] is None
    assert after["remedies"] == []


def test_without_a_command(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the configuration follows none, the entry is named as the menu shows it."""
    change_menu(bad, "load_env\n", "true\n")
    text = said(capsys, "remedy", "--root", str(bad))
    assert f"1. {INSTEAD}.\n   do     choose 'Debian GNU/Linux, with Linux {RUNNING}' in the boot" in text
    assert "grub-reboot" not in text


@pytest.mark.parametrize(("newest", "other"), [(GOOD, RUNNING), (BAD, "6.1.0-28-amd64")])
def test_there_is_none(newest: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where all is well, and where no entry is better."""
    folder = staged_host(tmp_path / "host", newest, other)
    assert way_out(assessed(folder)) is None
    assert "instead" not in said(capsys, "remedy", "--root", str(folder)).partition("\n")[2][:200]
    assert (
        json.loads(said(capsys, "remedy", "--format", "json", "--root", str(folder)))["other_entry"] is None
    )
