# SPDX-License-Identifier: Apache-2.0
"""Of each host all outputs say the same: the report, its short form, check, page, JSON and metrics."""

from __future__ import annotations

import html
import re

import pytest
from tests.field.test_answers import EXPECTED, look_at
from tests.golden.test_golden import NAMES, assess_host

from tdx_headroom.output import metrics
from tdx_headroom.output.check_report import check_text
from tdx_headroom.output.no_remedy import no_remedy
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render, render_short
from tdx_headroom.verdict import State
from tdx_headroom.verdict.checks import run_checks, status_of

NEXT = re.compile(r"^ {2}Next initialization[^:]*: ([A-Z ]*[A-Z])", re.MULTILINE)
ANSWER = re.compile(r"<dt>Next initialization</dt><dd><strong>([^<]*)\.</strong> (.*?)</dd>")
AWAY = {State.NOT_TDX: "NOT A TDX HOST"}


def in_capitals(state: State) -> str:
    return AWAY.get(state) or state.replace("-", " ").upper()


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", "", text)).replace("`", "").split())


@pytest.mark.parametrize("name", [*NAMES, *sorted(EXPECTED)])
def test_all_outputs_agree(name: str) -> None:
    """State, next initialization, its reason, what to do and what is missing are the same everywhere."""
    assessment = assess_host(name) if name in NAMES else look_at(name)
    verdict = assessment.verdict
    long, short = render(assessment, Style()), render_short(assessment, Style())
    page = render_page(assessment, full_addresses=True)
    card = plain(page[page.index('id="verdict"') :].partition("</section>")[0])
    for text in (long, short):
        assert f"\n  {in_capitals(verdict.state)}: " in text
    for text in (*verdict.remedies, *verdict.missing):
        for output in (long, short, card):
            assert plain(text) in plain(output)
    # Where nothing is proposed, page and ticket say so in the same words, but for what the page has above.
    if not verdict.remedies and (said := no_remedy(assessment)) is not None:
        assert plain(said) in card
        assert plain(said.partition(" Another")[0]) in plain(short)
    data = to_json(assessment, full_addresses=True)["verdict"]
    assert data["state"] == verdict.state
    samples = [s for family in metrics.collect(assessment, None) for s in family.samples]
    told = {s.name: s.labels["verdict"] for s in samples if s.value == 1 and "verdict" in s.labels}
    assert told["tdx_verdict"] == verdict.state
    assert told.get("tdx_next_init", State.CANNOT_TELL) == (verdict.next_boot or State.CANNOT_TELL)
    checks = run_checks(assessment)
    check = check_text(checks, status_of(assessment, checks), Style(), short=False)
    assert f"{verdict.state}: " in check

    following = assessment.expected
    words = [in_capitals(following)] if following is not None else []
    assert NEXT.findall(long) == NEXT.findall(short) == words
    assert (f"The next initialization: {following}." in plain(check)) == (following is not None)
    if following is None:
        return
    ((word, why),) = ANSWER.findall(page)
    assert word.upper() == words[0]
    assert why
    assert plain(assessment.why_expected or "") in plain(why)
    assert plain(why).removeprefix("The memory map fits, but something else stops TDX. ") in plain(short)


def test_there_is_something_to_compare() -> None:
    """The hosts and logs are of every kind."""
    found = [assess_host(name) for name in NAMES] + [look_at(name) for name in EXPECTED]
    kinds = {(one.verdict.state, one.expected) for one in found}
    up, down = State.INITIALIZED, State.FAILED
    assert {(up, State.WILL_INITIALIZE), (up, State.CANNOT_TELL), (down, State.WILL_FAIL)} <= kinds
    assert {(State.CANNOT_TELL, None), (State.NOT_TDX, None)} <= kinds
