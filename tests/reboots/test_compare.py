# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.kernel.truth import HandedTdmr, Truth
from tests.reboots.compare import Foretold, compare, pamts_elsewhere, read_foretold
from tests.reboots.guest import Came

GIB = 1 << 30
PAMT = {"base": None, "size_4k": 4194304, "size_2m": 8192, "size_1g": 4096}
AREAS = [{"offset": 0, "size": 1 << 20, "kind": "hole"}, {"offset": 1 << 28, "size": 4096, "kind": "hole"}]
PLAN: dict[str, Any] = {
    "errno": 0,
    "messages": [],
    "pamt_kib": 4108,
    "tdmrs": [
        {"base": 0, "size": GIB, "pamt": PAMT, "reserved_areas": AREAS, "needed": 2, "headroom": 14},
    ],
}
HANDED = HandedTdmr(0, GIB, GIB, 4194304, 8192, 4096, ((0, 1 << 20), (1 << 28, 4096)))
LINES = ("4108 KB allocated for PAMT", "TDX-Module initialized")
TRUTH = Truth((), (HANDED,), 0, LINES)
CAME = Came("id", "7.3.4", "initcall_blacklist=x root=/dev/vda2 quiet nohibernate mem=2G", TRUTH)
FORETOLD = Foretold("7.3.4", "e", ("nohibernate", "mem=2G"), "will-initialize", ("next",), "it fits", PLAN)
EXHAUSTED = "initialization failed: TDMR [0x0, 0x40000000): reserved areas exhausted."
FAILED = Truth((), None, None, (EXHAUSTED, "TDX-Module initialization failed (-28)"))
FAILS = replace(FORETOLD, verdict="will-fail", plan={**PLAN, "errno": -28, "messages": [EXHAUSTED]})


def answer(*, roles: list[str], release: str | None = "7.3.4") -> dict[str, Any]:
    boot = {
        "entry": "e", "kernel_release": "7.3.4", "command_line": "nohibernate mem=2G", "roles": roles,
        "verdict": "will-initialize", "why": "it fits", "plan": PLAN,
    }  # fmt: skip
    verdict = {"boots_next": release, "entry_next": "e", "boots_unknown": "a kernel is loaded by kexec"}
    return {"verdict": verdict, "boots": [boot]}


def test_as_foretold() -> None:
    """A boot that came as it was foretold has no difference, whether TDX is up or not."""
    assert compare(FORETOLD, CAME) == []
    assert compare(FAILS, replace(CAME, truth=FAILED)) == []


@pytest.mark.parametrize(
    ("came", "says"),
    [
        (replace(CAME, release="6.12"), "kernel: foretold 7.3.4, came 6.12"),
        (replace(CAME, line="nohibernate"), "command line: foretold mem=2G, not there in this order"),
        (replace(CAME, line="mem=2G nohibernate"), "command line: foretold mem=2G, not there in this order"),
        (replace(CAME, line=CAME.line + " numa=off"), "command line: numa=off was not foretold"),
        (replace(CAME, truth=Truth((), None, None, ())), "TDX: foretold will-initialize, came not up"),
        (
            replace(CAME, truth=replace(TRUTH, tdmrs=(replace(HANDED, areas=HANDED.areas[:1]),))),
            "TDMR 0: reserved areas: foretold [(0, 1048576), (268435456, 4096)], came [(0, 1048576)]",
        ),
        (
            replace(CAME, truth=replace(TRUTH, tdmrs=(replace(HANDED, size=2 * GIB),))),
            "TDMR 0: place: foretold (0, 1073741824), came (0, 2147483648)",
        ),
        (replace(CAME, truth=replace(TRUTH, tdmrs=(HANDED, HANDED))), "TDMRs: foretold 1, came 2"),
    ],
)  # fmt: skip
def test_another_boot(came: Came, says: str) -> None:
    """What came otherwise than foretold is named."""
    assert says in compare(FORETOLD, came)


def test_another_failure() -> None:
    """A failure with other lines, or none, than foretold is a difference."""
    other = replace(FAILED, lines=(EXHAUSTED.replace("0x0,", "0x1,"), FAILED.lines[1]))
    assert compare(FAILS, replace(CAME, truth=other))
    assert compare(FAILS, CAME)


def test_at_risk_promises_nothing() -> None:
    """With a verdict of a risk both outcomes are right."""
    risk = replace(FORETOLD, verdict="at-risk", plan=None)
    assert compare(risk, CAME) == compare(risk, replace(CAME, truth=FAILED)) == []


def test_pamt_elsewhere() -> None:
    """A PAMT inside a TDMR that was predicted outside of it is counted, and is no difference."""
    inside = replace(HANDED, pamt_base=1 << 29, areas=(*HANDED.areas, (1 << 29, 4206592)))
    came = replace(CAME, truth=replace(TRUTH, tdmrs=(inside,)))
    assert compare(FORETOLD, came) == []
    assert pamts_elsewhere(FORETOLD, came) == 1
    assert pamts_elsewhere(FORETOLD, CAME) == 0


def test_answer() -> None:
    """The next boot is taken from the agent's answer, and one that contradicts itself is a difference."""
    assert read_foretold(answer(roles=["next"])) == (FORETOLD, [])
    assert read_foretold(answer(roles=["next"], release="6.12"))[1] != []


def test_answer_that_cannot_tell() -> None:
    """Without a next entry the answer is that it cannot be told, with the reason."""
    foretold, differences = read_foretold(answer(roles=["running"], release=None))
    assert (foretold.verdict, foretold.release, differences) == ("cannot-tell", None, [])
    assert foretold.why == "a kernel is loaded by kexec"
