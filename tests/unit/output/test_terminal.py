# SPDX-License-Identifier: Apache-2.0
"""Reports fit the terminal, and end no line where a reader would stumble or a paste would fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.cli import main
from tdx_headroom.errors import printable
from tdx_headroom.output.table import Column, Row, table
from tdx_headroom.output.terminal import Style, wrapped
from tdx_headroom.verdict import State

Said = Callable[[list[str], int | None], list[str]]
TESTS = Path(__file__).parents[2]
HOSTS = TESTS / "hosts"
EMR = str(HOSTS / "emerald-rapids")
WHOLE = re.compile(r"\[0x[0-9a-f]+, 0x[0-9a-f]+\)|errno -\d+|memmap=\S+|[\d.]+ [KMG]iB")
"""What stands in one line."""
REPORTS = {
    "plan": ["plan", EMR],
    "plan --short": ["plan", "--short", EMR],
    "plan of a log": ["plan", str(TESTS / "field/logs/canonical-tdx-135-fail.log")],
    "check": ["check", EMR],
    "boots": ["boots", str(TESTS / "boots/debian-two-saved")],
    "boots --brief": ["boots", "--brief", EMR],
    "remedy": ["remedy", EMR],
    "history": ["history", str(TESTS / "field/logs/canonical-tdx-135-fail.log")],
}
FLEET = ["fleet", str(HOSTS), "--kernel", "6.14.0-1009-intel", "--kernel", "7.3.0"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs a command on a terminal of so many columns, and gives the lines that it prints."""

    def run(arguments: list[str], columns: int | None) -> list[str]:
        if columns is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(columns))
        main(arguments)
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("columns", [132, 80, 60])
@pytest.mark.parametrize("report", REPORTS)
def test_lines_fit_the_terminal(said: Said, report: str, columns: int) -> None:
    """No line is longer than COLUMNS, and what has to stand in one line does."""
    lines = said(REPORTS[report], columns)
    assert [line for line in lines if len(line) > columns] == []
    rejoined = " ".join(" ".join(lines).split())
    broken = {
        piece
        for piece in WHOLE.findall(rejoined)
        if rejoined.count(piece) != sum(" ".join(line.split()).count(piece) for line in lines)
    }
    assert broken == set()


@pytest.mark.parametrize("columns", [100, 80, 60])
def test_totals_of_a_fleet_fit(said: Said, columns: int) -> None:
    """The totals fit COLUMNS; each host stays one line, for grep."""
    lines = said(FLEET, columns)
    gap = lines.index("")
    assert max(map(len, lines[gap:])) <= columns
    assert all(line.startswith("WILL FAIL") for line in lines[:gap])


def test_without_a_width(said: Said) -> None:
    """In a file, sentences end at 110 columns and tables have all of theirs."""
    lines = said(["plan", EMR], None)
    assert max(map(len, lines)) <= 110
    head = next(line for line in lines if "at worst" in line)
    assert head.split() == [
        "TDMR",
        "node",
        "size",
        "areas",
        "needed",
        "holes",
        "PAMTs",
        "left",
        "at",
        "worst",
    ]


def test_a_short_plan(said: Said) -> None:
    """It has verdict, what to do and the next boot, and neither evidence, tables nor sources."""
    lines = said(["plan", "--short", EMR], 100)
    assert lines[0] == "emerald-rapids, kernel 6.8.0-1004-intel"
    assert any(line.startswith("  FAILED: ") for line in lines)
    assert "  What to do" in lines
    assert any(line.startswith("Next boot: WILL FAIL") for line in lines)
    assert not {"  Why", "Sources"} & set(lines)
    assert not any(line.startswith("Strategy") for line in lines)
    log = said(["plan", "--short", REPORTS["plan of a log"][1]], 100)
    assert "  What is missing" in log


def test_short_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A short plan as JSON is a wrong option."""
    assert main(["plan", "--short", "--format", "json", EMR]) == 64
    assert "not allowed with" in capsys.readouterr().err


def test_strategies_without_a_plan_are_one_line(said: Said) -> None:
    """However many cannot be planned, it is said once, with what is missing."""
    lines = said(["plan", str(HOSTS / "granite-rapids-like")], None)
    assert [line for line in lines if "no plan" in line] == [
        "Strategies cmr-subregion, cmr-walk: no plan, the CMRs are unknown"
    ]
    (line,) = (line for line in said(REPORTS["plan of a log"], None) if "no plan" in line)
    assert line == (
        "Strategies memory-regions (this kernel's), cmr-subregion, cmr-walk: no plan, the memory regions are"
        " unknown"
    )


def test_a_remedy_is_told_once(said: Said) -> None:
    """What to do about the boot that comes next is not repeated where it was told above."""
    lines = said(["plan", EMR], None)
    assert sum("memmap=4K%0x64158000-1+2 at the end" in line for line in lines) == 1
    assert "  What to do: as above." in lines


@given(st.text(max_size=300), st.integers(20, 200))
def test_wrapped_loses_nothing(text: str, width: int) -> None:
    """Whatever the text is, all of it comes in order, and no line has a control character of it."""
    lines = wrapped(text, width)
    assert all(line.isprintable() for line in lines)
    assert "".join("".join(lines).split()) == "".join(printable(text).split())


def test_a_verdict_is_painted_also_where_its_line_ends() -> None:
    """The word for it is one piece, and has its colour in whichever line it stands."""
    style = Style(colour=True, columns=30)
    lines = style.wrapped_verdict("Next initialization now: WILL FAIL: no room", "WILL FAIL", State.WILL_FAIL)
    assert sum("\x1b[1;31mWILL FAIL\x1b[0m" in line for line in lines) == 1


COLUMNS = (
    Column("name"),
    Column("size", right=True, spared=2),
    Column("node", spared=1),
    Column("why", wraps=True),
)
ROWS = [Row(["a", "1 GiB", "0", "because the firmware keeps it"]), Row(["bcd", "12 GiB", "1", ""])]


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            None,
            [
                "name    size  node  why",
                "a      1 GiB  0     because the firmware keeps it",
                "bcd   12 GiB  1",
            ],
        ),
        (
            44,
            [
                "name    size  node  why",
                "a      1 GiB  0     because the firmware",
                "                    keeps it",
                "bcd   12 GiB  1",
            ],
        ),
        (
            40,
            [
                "name    size  node",
                "          why",
                "a      1 GiB  0",
                "          because the firmware keeps it",
                "bcd   12 GiB  1",
            ],
        ),
    ],
)
def test_a_table(columns: int | None, lines: list[str]) -> None:
    """Texts are wrapped beside the other columns, and stand below where that leaves them no room."""
    assert list(table(Style(columns=columns), COLUMNS, ROWS)) == lines


def test_what_a_table_leaves_out_is_named() -> None:
    """The columns that can be spared go, the highest number first."""
    columns = (Column("name"), Column("size", spared=2), Column("node", spared=1))
    rows = [Row(["x" * 14, "1 GiB", "0"])]
    assert list(table(Style(columns=25), columns, rows)) == [
        "name            node",
        "xxxxxxxxxxxxxx  0",
        "Not shown in 25 columns:",
        "size.",
    ]
