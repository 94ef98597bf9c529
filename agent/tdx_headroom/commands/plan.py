# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom plan`` and ``tdx-headroom check``: one host or many, whatever they are kept in."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.arguments import what_if_of
from tdx_headroom.commands.complaints import complain, worse
from tdx_headroom.commands.input_flags import named_inputs, only_facts
from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.facts.host_facts import FactsError
from tdx_headroom.inputs.facts_lines import FactsLineError
from tdx_headroom.inputs.read import read_hosts
from tdx_headroom.output.check_report import check_json, check_text
from tdx_headroom.output.plan_json import error_to_json, to_json
from tdx_headroom.output.text import Style, render
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.checks import Status, run_checks, status_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tdx_headroom.plan import Strategy
    from tdx_headroom.verdict.assessment import Assessment


def run_plan(options: argparse.Namespace) -> int:
    """Plans of all inputs; the exit status."""
    outlet = _Outlet(options)
    for answer in outlet.answers():
        if outlet.json:
            outlet.line(_only(to_json(answer), options.strategy))
        else:
            outlet.text(render(answer, _style_of(options), options.strategy))
    return outlet.status


def run_check(options: argparse.Namespace) -> int:
    """Checks of all inputs; the worst status of all hosts. An input that cannot be read is unknown."""
    outlet = _Outlet(options)
    seen: set[Status] = set()
    for answer in outlet.answers():
        checks = run_checks(answer)
        status = status_of(answer, checks)
        seen.add(status)
        if outlet.json:
            outlet.line(check_json(answer, checks, status))
        else:
            outlet.text(check_text(checks, status, _style_of(options), short=options.short))
    if outlet.status != os.EX_OK:
        seen.add(Status.UNKNOWN)
    ranked = (Status.CRITICAL, Status.UNKNOWN, Status.WARNING, Status.OK)
    return next((status.exit_status for status in ranked if status in seen), Status.UNKNOWN.exit_status)


class _Outlet:
    """Gives each host its place in the output, and errors theirs.

    Attributes:
        json: whether answers are JSON.
        status: the exit status that the inputs so far make.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.json = (options.format or ("json" if only_facts(options) else "text")) == "json"
        self.status = os.EX_OK
        self._inputs = named_inputs(options)
        self._several = len(self._inputs) > 1
        self._name = ""
        self._gap = ""

    def answers(self) -> Iterator[Assessment]:
        """The hosts that can be assessed; what is wrong with the others is said on the way."""
        what_if = what_if_of(self._options)
        for found in read_hosts(self._inputs):
            self._name = found.name
            if isinstance(found.facts, AgentError):
                self._complain(found.facts, found.line)
                continue
            try:
                assessment = assess(found.facts, what_if)
            except FactsError as error:
                host = found.facts.host
                self._complain(
                    error if found.line is None else FactsLineError(found.line, host, error), found.line
                )
                continue
            yield assessment

    def line(self, value: dict[str, Any]) -> None:
        """Print one host's JSON; which input it comes from is said when there are several."""
        value = {**value, "input": self._name} if self._several else value
        # At once: whoever writes facts into a pipe may wait for the answer.
        print(json.dumps(value), flush=True)

    def text(self, text: str) -> None:
        """Print one host's report, under the name of its input when there are several."""
        if self._several:
            print(f"{self._gap}==> {one_line(self._name)} <==")
            self._gap = "\n"
        print(text, end="")

    def _complain(self, error: AgentError, line: int | None) -> None:
        if self.json and isinstance(error, FactsLineError):
            answer = error_to_json(error.line, error.host, error.message, error.hint)
            print(json.dumps(answer), flush=True)
        else:
            complain(self._name, line, error)
        self.status = worse(self.status, line, error)


def _only(plan: dict[str, Any], only: Strategy | None) -> dict[str, Any]:
    if only is not None:
        plan["strategies"] = {name: p if name == only else None for name, p in plan["strategies"].items()}
    return plan


def _style_of(options: argparse.Namespace) -> Style:
    """What standard output can show."""
    colour = sys.stdout.isatty() and not options.no_color and not os.environ.get("NO_COLOR")
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
    return Style(colour=colour, unicode=unicode)
