# SPDX-License-Identifier: Apache-2.0
"""The answers of ``plan`` and ``check`` about one host or many, whatever they are kept in."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.arguments import named_inputs, only_facts, what_if_of
from tdx_headroom.commands.hosts import Hosts, print_complaint
from tdx_headroom.errors import one_line
from tdx_headroom.inputs.facts_lines import FactsLineError
from tdx_headroom.output.plan_json import error_to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.checks import Status
from tdx_headroom.verdict.kernels import why_unknown
from tdx_headroom.verdict.what_if import without_effect

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tdx_headroom.errors import AgentError
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.read import Found
    from tdx_headroom.verdict.assessment import Assessment

_RANKED = (Status.OK, Status.WARNING, Status.UNKNOWN, Status.CRITICAL)
"""The worst last."""


def add_format(parser: argparse._ActionsContainer) -> None:
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
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.json = (options.format or ("json" if only_facts(options) else "text")) == "json"
        self.style = style_of(no_color=options.no_color)
        self._what_if = what_if_of(options)
        if unknown := why_unknown(self._what_if.kernel):
            print(f"tdx-headroom: {unknown}", file=sys.stderr)
        inputs = named_inputs(options)
        self._several = len(inputs) > 1
        self._hosts = Hosts(inputs, self._complain)
        self._name = ""
        self._gap = ""

    @property
    def status(self) -> int:
        """The exit status that the inputs so far make."""
        return self._hosts.status

    def worst(self, seen: set[Status]) -> int:
        """The exit status for monitoring: of the worst host; an input that cannot be read is unknown.

        Args:
            seen: the status of every host.
        """
        if self.status != os.EX_OK or not seen:
            seen = {*seen, Status.UNKNOWN}
        return max(seen, key=_RANKED.index).exit_status

    def hosts(self) -> Iterator[Assessment]:
        """The hosts that can be assessed; what is wrong with the others is said on the way."""
        for found, assessment in self._hosts.each(self._assess):
            self._name = found.name
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

    def _assess(self, found: Found, facts: HostFacts) -> Assessment:
        assessment = assess(facts, self._what_if)
        where = f"{one_line(found.name)}: " if self._several else ""
        for hole in without_effect(self._what_if, facts):
            what = (
                f"--add-hole {hole.start:#x}-{hole.end:#x} changes nothing: there is no memory to take away"
            )
            print(f"tdx-headroom: {where}{what}", file=sys.stderr)
        return assessment

    def _complain(self, found: Found, error: AgentError) -> None:
        if self.json and found.line is not None:
            host = error.host if isinstance(error, FactsLineError) else getattr(found.facts, "host", None)
            print(json.dumps(error_to_json(found.line, host, error.message, error.hint)), flush=True)
        else:
            print_complaint(found, error)


def style_of(*, no_color: bool) -> Style:
    """What standard output can show, and is to show."""
    colour = sys.stdout.isatty() and not no_color and not os.environ.get("NO_COLOR")
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
    # COLUMNS, or the terminal's own width; what goes into a file has none.
    columns = shutil.get_terminal_size((0, 0)).columns
    return Style(colour=colour, unicode=unicode, columns=columns or None)
