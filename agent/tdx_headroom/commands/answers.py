# SPDX-License-Identifier: Apache-2.0
"""The answers of commands about one host or many, whatever they are kept in."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from tdx_headroom.commands.arguments import what_if_of
from tdx_headroom.commands.hosts import Hosts, print_complaint
from tdx_headroom.commands.input_arguments import named_inputs, only_facts
from tdx_headroom.errors import one_line
from tdx_headroom.output.plan_json import error_to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.checks import Status
from tdx_headroom.verdict.kernels import why_unknown
from tdx_headroom.verdict.what_if import without_effect

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tdx_headroom.commands.hosts import Answer
    from tdx_headroom.commands.readers import Reader
    from tdx_headroom.errors import AgentError
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.read import Found
    from tdx_headroom.verdict.assessment import Assessment

Kept = TypeVar("Kept")

_RANKED = (Status.OK, Status.WARNING, Status.UNKNOWN, Status.CRITICAL)
"""The worst last."""


def add_format(parser: argparse._ActionsContainer) -> None:
    """The option for text or JSON."""
    parser.add_argument("--format", choices=("text", "json"), help="text, or JSON (the default with --facts)")


def add_no_color(parser: argparse.ArgumentParser) -> None:
    """The option for text without colours."""
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")


class Answers:
    """Prints what there is to say about each host, and about each input that cannot be read, in their order.

    Args:
        options: of the command.
        reader: how hosts are read.

    Attributes:
        json: whether answers are JSON.
        style: of answers that are text.
        status: the exit status that the inputs so far make.
    """

    def __init__(self, options: argparse.Namespace, reader: Reader | None = None) -> None:
        self.json = (options.format or ("json" if only_facts(options) else "text")) == "json"
        self.style = style_of(no_color=options.no_color)
        self.status = os.EX_OK
        self._inputs = named_inputs(options)
        self._several = len(self._inputs) > 1
        self._jobs, self._seconds = options.jobs, options.input_timeout
        self._reader = reader
        self._gap = ""

    def print_hosts(
        self, answer: Callable[[Found, HostFacts], tuple[Kept, dict[str, Any] | str]]
    ) -> list[Kept]:
        """Print what there is to say about each host; of those of which nothing can be said, why.

        Args:
            answer: what to keep of a host, and what to print: JSON, or a text, of which an empty one is none.

        Returns:
            What was kept, each once.
        """

        def judge(found: Found, facts: HostFacts) -> tuple[Kept, str]:
            kept, shown = answer(found, facts)
            return kept, shown if isinstance(shown, str) else json.dumps(self._from(found.name, shown)) + "\n"

        hosts = Hosts(self._inputs, judge, self._complain, self._jobs, self._seconds, self._reader)
        seen: dict[Kept, None] = {}
        for told in hosts.each():
            if told.value is not None:
                kept, text = told.value
                seen[kept] = None
                self._print(told.name, text)
        self.status = hosts.status
        return [*seen]

    def _from(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        """JSON of a host; which input it comes from is said when there are several."""
        return {**value, "input": name} if self._several else value

    def _print(self, name: str, text: str) -> None:
        """One host's answer; a report is printed under the name of its input when there are several."""
        if self._several and text and not self.json:
            text = f"{self._gap}==> {one_line(name)} <==\n{text}"
            self._gap = "\n"
        sys.stdout.write(text)

    def _complain(self, answer: Answer[Any], error: AgentError) -> None:
        if self.json and answer.line is not None:
            print(json.dumps(self._from(answer.name, error_to_json(answer.line, answer.host, error))))
        else:
            print_complaint(answer, error)


class AssessmentAnswers(Answers):
    """Prints what there is to say about each host's assessment, with the changes that the options ask for.

    Args:
        options: of the command.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self._what_if = what_if_of(options)
        if unknown := why_unknown(self._what_if.kernel):
            print(f"tdx-headroom: {unknown}", file=sys.stderr)

    def worst(self, seen: set[Status]) -> int:
        """The exit status for monitoring: of the worst host; an input that cannot be read is unknown.

        Args:
            seen: the status of every host.
        """
        if self.status != os.EX_OK or not seen:
            seen = {*seen, Status.UNKNOWN}
        return max(seen, key=_RANKED.index).exit_status

    def print_assessments(
        self, answer: Callable[[Assessment], tuple[Kept, dict[str, Any] | str]]
    ) -> list[Kept]:
        """Print what there is to say about each host's assessment.

        Args:
            answer: what to keep of a host, and what to print: JSON, or a text, of which an empty one is none.

        Returns:
            What was kept, each once.
        """
        return self.print_hosts(lambda found, facts: answer(self._assess(found, facts)))

    def _assess(self, found: Found, facts: HostFacts) -> Assessment:
        assessment = assess(facts, self._what_if)
        where = f"{one_line(found.name)}: " if self._several else ""
        for hole in without_effect(self._what_if, facts):
            what = (
                f"--add-hole {hole.start:#x}-{hole.end:#x} changes nothing: there is no memory to take away"
            )
            print(f"tdx-headroom: {where}{what}", file=sys.stderr)
        return assessment


def style_of(*, no_color: bool) -> Style:
    """What standard output can show, and is to show."""
    colour = sys.stdout.isatty() and not no_color and not os.environ.get("NO_COLOR")
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
    # COLUMNS, or the terminal's own width; what goes into a file has none.
    columns = shutil.get_terminal_size((0, 0)).columns
    return Style(colour=colour, unicode=unicode, columns=columns or None)
