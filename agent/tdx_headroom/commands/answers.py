# SPDX-License-Identifier: Apache-2.0
"""The answers of ``plan`` and ``check`` about one host or many, whatever they are kept in."""

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
from tdx_headroom.output.plan_json import error_to_json
from tdx_headroom.output.text import Style
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tdx_headroom.verdict.assessment import Assessment


def add_format(parser: argparse.ArgumentParser) -> None:
    """The option that chooses between the two."""
    parser.add_argument("--format", choices=("text", "json"), help="text, or JSON (the default with --facts)")


def add_no_color(parser: argparse.ArgumentParser) -> None:
    """The option for text without colours."""
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")


class Answers:
    """Prints what there is to say about each host, and about each input that cannot be read, in their order.

    Attributes:
        json: whether answers are JSON.
        style: of answers that are text.
        status: the exit status that the inputs so far make.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.json = (options.format or ("json" if only_facts(options) else "text")) == "json"
        self.style = _style_of(options)
        self.status = os.EX_OK
        self._inputs = named_inputs(options)
        self._several = len(self._inputs) > 1
        self._name = ""
        self._gap = ""

    def hosts(self) -> Iterator[Assessment]:
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

    def print_json(self, value: dict[str, Any]) -> None:
        """Print one host's JSON; which input it comes from is said when there are several."""
        value = {**value, "input": self._name} if self._several else value
        # At once: whoever writes facts into a pipe may wait for the answer.
        print(json.dumps(value), flush=True)

    def print_text(self, text: str) -> None:
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


def _style_of(options: argparse.Namespace) -> Style:
    """What standard output can show."""
    colour = sys.stdout.isatty() and not options.no_color and not os.environ.get("NO_COLOR")
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
    return Style(colour=colour, unicode=unicode)
