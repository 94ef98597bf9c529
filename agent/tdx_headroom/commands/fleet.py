# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom fleet``: the audit of many hosts before a kernel upgrade."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tdx_headroom.commands.answers import style_of
from tdx_headroom.commands.arguments import add_command_line, add_inputs, named_inputs, release
from tdx_headroom.commands.hosts import Hosts, print_complaint
from tdx_headroom.commands.progress import Progress
from tdx_headroom.output import fleet_report as report
from tdx_headroom.verdict.fleet import Totals, audit_host, notes_of, targets_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from tdx_headroom.errors import AgentError
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.named import Named
    from tdx_headroom.inputs.read import Found
    from tdx_headroom.verdict.fleet import HostAudit, Target


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    parser.add_argument(
        "--kernel",
        action="append",
        type=release,
        default=[],
        metavar="RELEASE",
        help="audit for this kernel, by its `uname -r`; repeatable (default: each host's own, its next boot,"
        " and mainline)",
    )
    add_command_line(parser)
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text", help="default text")
    parser.add_argument("--all", action="store_true", help="in text, list hosts that fit, too")


def run(options: argparse.Namespace) -> int:
    """The audit; the exit status, 0 when every input was read."""
    inputs = named_inputs(options)
    targets = targets_of(options.kernel)
    for note in notes_of(targets):
        print(f"tdx-headroom: {note}", file=sys.stderr)
    audit = _Audit(inputs, targets, options.command_line)
    if options.format == "csv":
        print(report.csv_header(), end="")
    listed = False
    for host in audit.hosts():
        if options.format == "json":
            print(json.dumps(report.host_json(host)))
        elif options.format == "csv":
            print(report.host_csv(host), end="")
        else:
            for line in report.host_lines(host, everything=options.all):
                print(line)
                listed = True
    if options.format == "json":
        print(json.dumps(report.totals_json(audit.totals)))
    elif options.format == "text":
        print(("\n" if listed else "") + report.totals_text(audit.totals, style_of(no_color=True)), end="")
    return audit.status


class _Audit:
    """Audits the hosts of the inputs, shows how far it is, and counts.

    Attributes:
        totals: of the hosts so far.
    """

    def __init__(
        self, inputs: Sequence[Named], targets: Sequence[Target], command_line: tuple[str, ...] | None
    ) -> None:
        self.totals = Totals()
        self._command_line = command_line
        self._targets = targets
        self._command_line = command_line
        self._progress = Progress(sys.stderr, len(inputs))
        self._hosts = Hosts(self._stepping(inputs), self._complain)

    def hosts(self) -> Iterator[HostAudit]:
        """Every host that can be audited, in order."""
        for _, host in self._hosts.each(self._audit):
            self.totals.add(host)
            if sys.stdout.isatty():
                self._progress.clear()
            yield host
        self.totals.unreadable = self._hosts.unreadable
        self._progress.clear()

    @property
    def status(self) -> int:
        """The exit status so far."""
        return self._hosts.status

    def _stepping(self, inputs: Sequence[Named]) -> Iterator[Named]:
        for done, named in enumerate(inputs):
            self._progress.step(done, named.path)
            yield named

    def _audit(self, found: Found, facts: HostFacts) -> HostAudit:
        host = audit_host(facts, found.name, found.line, self._targets, self._command_line)
        self._progress.item()
        return host

    def _complain(self, found: Found, error: AgentError) -> None:
        self._progress.clear()
        print_complaint(found, error)
        self._progress.item()
