# SPDX-License-Identifier: Apache-2.0
"""The kernel's command line, read as the kernel reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tdx_headroom.address import GIB, MIB, Range
from tdx_headroom.cli import main
from tdx_headroom.facts.command_line import (
    Action,
    asks_for_tdx,
    map_edits,
    misspelt_tdx,
    parse_amount,
    split_arguments,
)

HOST = Path(__file__).parents[2] / "hosts" / "emerald-rapids"


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ("4096", 4096, ""),
        ("014405300000", 0x64158000, ""),
        ("0x64158000", 0x64158000, ""),
        ("0X64158000", 0x64158000, ""),
        ("0xaBcDeF", 0xABCDEF, ""),
        ("4k", 4096, ""),
        ("0x10M", 16 * MIB, ""),
        ("010g", 8 * GIB, ""),
        ("1T", 1 << 40, ""),
        ("1p", 1 << 50, ""),
        ("1E", 1 << 60, ""),
        ("0x1E", 0x1E, ""),
        ("16E", 0, ""),
        ("17e", 1 << 60, ""),
        ("18446744073709551617", 1, ""),
        ("0x10000000000000001", 1, ""),
        ("02000000000000000000001", 1, ""),
        ("0x", 0, "x"),
        ("0xg", 0, "xg"),
        ("08", 0, "8"),
        ("0", 0, ""),
        ("K", 0, ""),
        ("", 0, ""),
        ("-1", 0, "-1"),
        (" 1", 0, " 1"),
        ("\u0661", 0, "\u0661"),
        ("1K$2", 1024, "$2"),
        ("1KK", 1024, "K"),
        ("1\u212a", 1, "\u212a"),
    ],
)
def test_numbers(text: str, value: int, rest: str) -> None:
    """Octal, hexadecimal and decimal, a unit or none; overflow wraps, nonsense is 0 and stays behind."""
    assert parse_amount(text) == (value, rest)


@pytest.mark.parametrize(
    ("piece", "action", "at", "old", "new", "punches"),
    [
        ("4K$0x64158000", Action.ADD, Range(0x64158000, 0x64159000), None, 2, True),
        ("4K$014405300000", Action.ADD, Range(0x64158000, 0x64159000), None, 2, True),
        ("0X1000$0X64158000", Action.ADD, Range(0x64158000, 0x64159000), None, 2, True),
        ("4k$1639776k", Action.ADD, Range(0x64158000, 0x64159000), None, 2, True),
        ("1M#1G", Action.ADD, Range(GIB, GIB + MIB), None, 3, True),
        ("1M!1G", Action.ADD, Range(GIB, GIB + MIB), None, 12, True),
        ("1M@1G", Action.ADD, Range(GIB, GIB + MIB), None, 1, False),
        ("1M$1Gnonsense", Action.ADD, Range(GIB, GIB + MIB), None, 2, True),
        ("1M%1G-1+2", Action.CONVERT, Range(GIB, GIB + MIB), 1, 2, True),
        ("1M%1G-0x1+07", Action.CONVERT, Range(GIB, GIB + MIB), 1, 7, True),
        ("1M%1G-2+1", Action.CONVERT, Range(GIB, GIB + MIB), 2, 1, False),
        ("1M%1G+2", Action.ADD, Range(GIB, GIB + MIB), None, 2, True),
        ("1M%1G+0xefffffff", Action.ADD, Range(GIB, GIB + MIB), None, 0xEFFFFFFF, True),
        ("1M%1G+0x1efffffff", Action.ADD, Range(GIB, GIB + MIB), None, 0xEFFFFFFF, True),
        ("1M%1G-1", Action.REMOVE, Range(GIB, GIB + MIB), 1, None, True),
        ("1M%1G-2", Action.REMOVE, Range(GIB, GIB + MIB), 2, None, False),
        ("1M%1G", Action.REMOVE, Range(GIB, GIB + MIB), None, None, True),
        ("exactmap", Action.EMPTY, Range(0, 0), None, None, False),
        ("exactmaps", Action.EMPTY, Range(0, 0), None, None, False),
        ("4G", Action.REMOVE, Range(4 * GIB, (1 << 64) - 1), 1, None, False),
    ],
)
def test_forms_of_memmap(
    piece: str, action: Action, at: Range, old: int | None, new: int | None, *, punches: bool
) -> None:
    """Each form with its addresses, types, and whether it makes a hole of RAM."""
    (edit,) = map_edits([f"memmap={piece}"])
    assert (edit.action, edit.range, edit.old, edit.new) == (action, at, old, new)
    assert edit.punches is punches
    assert edit.argument == f"memmap={piece}"


@pytest.mark.parametrize(
    "argument",
    ["memmap=", "memmap", "memmap=x", "memmap=1M%1G-1+2x", "mem=", "mem=0", "mem=nopentium", "amem=1G"],
)
def test_what_the_kernel_does_not_take(argument: str) -> None:
    """It goes on without a word, and the map stays as it was."""
    assert map_edits([argument, "quiet"]) == []


def test_order_and_lists() -> None:
    """Several in one argument and several arguments keep their order; a bad one between them is skipped."""
    edits = map_edits(['"memmap=exactmap,1G@0,,bad,1M$512M"', 'memmap="4K%1G-1+2"', "mem=2G"])
    assert [edit.argument for edit in edits] == [
        "memmap=exactmap",
        "memmap=1G@0",
        "memmap=1M$512M",
        "memmap=4K%1G-1+2",
        "mem=2G",
    ]
    assert [edit.action for edit in edits[:2]] == [Action.EMPTY, Action.ADD]


def test_arguments_end_and_hold_blanks() -> None:
    """Quotes hold blanks together, so that nothing inside is an argument; after `--` all is for init."""
    line = 'ro foo="a memmap=1K$1 b" "bar=c d" memmap="4K$1G"\tquiet\n -- mem=1G'
    assert split_arguments(line) == ["ro", 'foo="a memmap=1K$1 b"', '"bar=c d"', 'memmap="4K$1G"', "quiet"]


@pytest.mark.parametrize(
    "argument", ["memmap=4K%0x64158000-1+2", "memmap=4K$014405300000", "0x64158000-0x64159000"]
)
def test_a_remedy_is_tried_as_it_is(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--add-hole takes the memory away that the kernel would take away for the same argument."""
    assert main(["plan", "--root", str(HOST), "--add-hole", argument, "--format", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)["strategies"]["memory-regions"]
    assert (plan["errno"], plan["tdmrs"][0]["needed"]) == (0, 16)


@pytest.mark.parametrize("argument", ["memmap=1G@1G", "memmap=4G", "memmap=1K$1G,1K$2G", "memmap=0$1G"])
def test_what_takes_no_one_range_is_no_hole(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that adds RAM, cuts all above, or holds several is a mistake of usage, in one line."""
    assert main(["plan", "--root", str(HOST), "--add-hole", argument]) == os.EX_USAGE
    assert "no memmap= of one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("quiet kvm_intel.tdx=1", True),
        ("kvm-intel.tdx=Y", True),
        ("kvm_intel.tdx=true nohibernate", True),
        ("kvm_intel.tdx=on", True),
        ("kvm_intel.tdx", True),
        ('"kvm_intel.tdx=1"', True),
        ("kvm_intel.tdx=1 kvm_intel.tdx=0", False),
        ("kvm_intel.tdx=off kvm-intel.tdx=1", True),
        ("kvm_intel.tdx=n", False),
        ("kvm_intel.tdx=2", None),
        ("kvm_intel.tdx= ", None),
        ("kvm_intel.tdx=1 kvm_intel.tdx=maybe", True),
        ("kvm_intel.tdx_x=1 kvm.tdx=1", None),
        ("quiet -- kvm_intel.tdx=1", None),
        ("", None),
    ],
)
def test_asking_for_tdx(line: str, *, asked: bool | None) -> None:
    """The last argument that says yes or no counts, however it is written."""
    assert asks_for_tdx(split_arguments(line)) is asked


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("kvm_inte.tdx=1", "kvm_inte.tdx=1"),
        ("quiet kvm_intel_tdx=1", "kvm_intel_tdx=1"),
        ("kvmintel.tdx=1 x", "kvmintel.tdx=1"),
        ("kvm_intel.txd=1", None),
        ("kvm_intel.tdx=1", None),
        ("kvm-intel.tdx=1", None),
        ("tdx_host=on", None),
        ("kvm_intel.ept=1", None),
    ],
)
def test_a_misspelt_argument(line: str, found: str | None) -> None:
    """What is nearly the argument, and is none, is found; what kernels know, or is far from it, is not."""
    assert misspelt_tdx(split_arguments(line)) == found
