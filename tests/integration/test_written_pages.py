# SPDX-License-Identifier: Apache-2.0
"""Pages that the tests before this one have written: `make faults-page` writes, here they are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.recorded import ROWS
from tests.tools.generated import assert_current

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
KEPT = Path(__file__).with_name("recorded.json")
"""The rows of the last `make faults-page`, so that this test needs no other to see a changed page."""

HEAD = """\
# Faults, and what the agent does

Each row is a test that injects the fault into the running agent; `make faults-page` writes this page
from the results. In all of them the agent keeps answering, `tdx_headroom_source_success` and a log line name
the failing source, and the others still serve. When a whole assessment fails, the last good one stays
and `tdx_headroom_assessment_stale` is 1.

| fault | what the agent does | recovers when it ends |
|---|---|---|
"""
FOOT = """
Measured once, on two cores with Python 3.11:

* 10,000 refreshes of one host, with the metrics rendered after every tenth: resident memory went from
  29.2 MiB (after 1000) to 29.4 MiB (after 5000) and stayed there, with 6 descriptors.
* From a record written to the kernel's log to the scrape that shows it, 24 times: 6 to 14 ms. The
  record was a forged line, which appears in its counter and takes the same path as every other record.
* 100,000 forged TDX lines in a guest's log (tests/vm): counted 0.6 to 1.6 s after the last was written,
  and nothing else changed. Lines overwritten while the agent was stopped are counted as lost, and what
  was known stays known.
* Killed with -9 a hundred times at random moments: the state file was complete every time, and no other
  file was left behind. It may lack what was learnt in the last five seconds; the next start takes that
  from the kernel's log, or from the journal.
"""


def page(rows: Iterable[list[str]]) -> str:
    """docs/reliability.md with these rows."""
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows) + FOOT


def test_reliability_page(request: pytest.FixtureRequest) -> None:
    """docs/reliability.md has the kept rows, and those what the agent did under every fault of this run."""
    ran = [[fault, *result] for fault, result in ROWS.items()]
    if request.config.getoption("--rewrite-golden"):
        KEPT.write_text(json.dumps(ran, indent=1, ensure_ascii=False) + "\n", "utf-8")
        PAGE.write_text(page(ran), "utf-8")
    kept = json.loads(KEPT.read_text("utf-8"))
    assert_current(PAGE, page(kept), "make faults-page")
    assert [row for row in ran if row not in kept] == [], "run `make faults-page`, and read its diff"
    # A machine that lacks a program, or a user who is not root, skips some faults; CI injects all of them.
    if request.config.getoption("--require-everything"):
        assert ran == kept, "run `make faults-page`, and read its diff"
