# SPDX-License-Identifier: Apache-2.0
"""What `tdx-headroom remedy` says: of which boot, what it gives and costs, how to do it and undo it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom.cli import main
from tdx_headroom.facts.boots import BootEntry, BootInventory, Loader, Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.remedy_report import remedy_json, remedy_text
from tdx_headroom.output.terminal import Style
from tdx_headroom.verdict.assessment import Assessment, assess

if TYPE_CHECKING:
    import pytest

HOSTS = Path(__file__).parents[2] / "hosts"
EMR = HOSTS / "emerald-rapids"
REMEDY = "memmap=4K%0x64158000-1+2"
PLAIN = Style(colour=False, unicode=True)


def staged(name: str, *, line: tuple[str, ...] = ("nohibernate",)) -> Assessment:
    """A captured host that runs one kernel, with another staged by GRUB."""
    facts = read_facts(Root(HOSTS / name))
    entries = (
        BootEntry(release=facts.kernel_release, arguments=line, roles=(Role.RUNNING,), differs=()),
        BootEntry(
            "e",
            release="7.3.0",
            arguments=line,
            roles=(Role.NEXT,),
            loader=Loader.GRUB,
            file="boot/grub/grub.cfg",
        ),
    )
    return assess(replace(facts, boots=BootInventory(entries=entries, configured=True)))


def test_the_boot_that_comes_next() -> None:
    """It is about the staged kernel, what was computed comes first, with commands there and back."""
    text = remedy_text(staged("emerald-rapids"), PLAIN)
    assert text.startswith("emerald-rapids, kernel 7.3.0: the next boot: will fail\n")
    assert f"memmap={REMEDY.removeprefix('memmap=')} at the end" in text.replace("\n   ", " ")
    assert "the fullest TDMR with 0 reserved areas left (computed)" in text
    assert "costs  4 KiB" in text
    apply, undo = text.index("update-grub"), text.index("rm /etc/default/grub.d/99-tdx-headroom.cfg")
    assert apply < undo
    assert text.index("(computed)") < text.index("likely to help, not computed")


def test_for_programs() -> None:
    """JSON has the same, each remedy with its finding and its steps; what adds no argument has none."""
    answer = remedy_json(staged("emerald-rapids"))
    assert (answer["schema"], answer["verdict"], answer["entry"]) == (
        "tdx-headroom/remedy/1",
        "will-fail",
        "e",
    )
    added = [r for r in answer["remedies"] if r["arguments"] == [REMEDY]]
    assert [(r["finding"], r["areas_left"], r["bytes_given_up"]) for r in added] == [
        ("reserved-areas", 0, 4096)
    ]
    assert REMEDY in " ".join(added[0]["steps"]["apply"])
    assert all(r["steps"] is None for r in answer["remedies"] if r["kind"] != "add-arguments")


def test_a_loader_that_is_not_known() -> None:
    """Without a file of the boot entry the arguments are named, and no commands."""
    facts = read_facts(Root(EMR))
    answer = remedy_json(assess(facts))
    assert (answer["kernel_release"], answer["verdict"]) == (facts.kernel_release, "will-fail")
    assert [REMEDY] in [r["arguments"] for r in answer["remedies"]]
    assert all(r["steps"] is None for r in answer["remedies"])


def test_once_it_is_on_the_line() -> None:
    """The staged line that has the remedy keeps TDX up by it, which is said; it is not proposed again."""
    answer = remedy_json(staged("emerald-rapids", line=("nohibernate", REMEDY)))
    assert answer["verdict"] == "at-risk"
    assert [text.startswith(f"{REMEDY} on the command line keeps TDX up") for text in answer["in_place"]] == [
        True
    ]
    assert all(REMEDY not in r["arguments"] for r in answer["remedies"])


def test_nothing_to_do() -> None:
    """A host on which all is well gets no list."""
    assert remedy_text(staged("good-2-node"), PLAIN).endswith("Nothing is to be changed.\n")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """It reads any input, ends with 0, and notes a hole that takes nothing away beside the answer."""
    assert main(["remedy", str(EMR), "--format", "json", "--add-hole", "0x80000000-0x80001000"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["host"] == "emerald-rapids"
    assert said.err == (
        "tdx-headroom: --add-hole 0x80000000-0x80001000 changes nothing: there is no memory to take away\n"
    )
