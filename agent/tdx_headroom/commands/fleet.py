# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom fleet``: the audit of many hosts before a kernel upgrade."""

from __future__ import annotations

import argparse
import json
import os
import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.answers import style_of
from tdx_headroom.commands.arguments import add_command_line, file_name, one_of, release
from tdx_headroom.commands.canary import read_canary
from tdx_headroom.commands.hosts import Hosts, print_complaint
from tdx_headroom.commands.input_arguments import add_inputs, add_jobs, named_inputs
from tdx_headroom.commands.kept_records import kept_records
from tdx_headroom.commands.output_file import whole_or_standard
from tdx_headroom.commands.progress import Progress
from tdx_headroom.commands.readers import warn, with_history
from tdx_headroom.inputs.named import STANDARD_STREAM
from tdx_headroom.output import fleet_canary_report as canary_report
from tdx_headroom.output import fleet_groups_report as groups_report
from tdx_headroom.output import fleet_report as report
from tdx_headroom.output.terminal import Style
from tdx_headroom.verdict.firmware_steps import firmware_steps
from tdx_headroom.verdict.fleet import Fit, Totals, audit_host, notes_of, targets_of
from tdx_headroom.verdict.fleet_canary import LeftOut
from tdx_headroom.verdict.fleet_groups import GroupBy, Groups, Members

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.commands.canary import CanaryTrial
    from tdx_headroom.commands.hosts import Answer
    from tdx_headroom.errors import AgentError
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.expand import Inputs
    from tdx_headroom.inputs.read import Found
    from tdx_headroom.verdict.firmware_steps import FirmwareStep
    from tdx_headroom.verdict.fleet import HostAudit, Target
    from tdx_headroom.verdict.fleet_canary import Why


FAILED = 2
"""Exit status where a host is as bad as it must not be."""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_jobs(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--kernel",
        action="append",
        type=release,
        default=[],
        metavar="RELEASE",
        help="audit for this kernel, by its `uname -r`; repeatable (default: each host's own, its next boot,"
        " and mainline)",
    )
    which.add_argument("--next-boot", action="store_true", help="audit only what is staged on each host")
    add_command_line(parser)
    parser.add_argument(
        "--group-by",
        type=_group_by,
        metavar="bios,cpu,kernel",
        help="count hosts by what they have in common, any of these in any order, and tell what updates of"
        " firmware have cost",
    )
    parser.add_argument(
        "--canary",
        nargs=2,
        metavar=("BEFORE", "AFTER"),
        help="captures of one host before and after a firmware update: audit the others of its model with the"
        " holes that came",
    )
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text", help="default text")
    parser.add_argument("--all", action="store_true", help="in text, list hosts that fit, too")
    parser.add_argument(
        "--output",
        type=file_name,
        default=STANDARD_STREAM,
        metavar="FILE",
        help="write it to this file, all at once",
    )
    parser.add_argument(
        "--fail-on",
        type=one_of(Fit.AT_RISK, Fit.WILL_FAIL),
        metavar="at-risk|will-fail",
        help="exit with 2 if a host will fail, or is at risk, under a kernel that is audited",
    )


def _group_by(text: str) -> tuple[GroupBy, ...]:
    """Some of the words, each once."""
    names = text.split(",")
    known = [GroupBy(name) for name in names if name in set(GroupBy)]
    if len(known) != len(names) or len({*known}) != len(known):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of {', '.join(GroupBy)}, each at most once")
    return tuple(known)


def run(options: argparse.Namespace) -> int:
    """The audit; the exit status, 0 when every input was read and nothing is as bad as it must not be."""
    inputs = named_inputs(options)
    targets = targets_of(options.kernel, next_boot=options.next_boot)
    for note in notes_of(targets):
        warn(note)
    trial = read_canary(options.canary) if options.canary else None
    audit = _Audit(inputs, targets, options, trial)
    with whole_or_standard(options.output) as out:
        for text in chain(_canary_texts(trial, options.format), _texts(audit, options)):
            out.write(text)
    for note in report.notes_behind(audit.totals):
        warn(note)
    if options.group_by and options.format != "text":
        # Groups are of those that are audited; text has the others behind its totals.
        for line in canary_report.left_out_text(audit.left_out).splitlines():
            warn(line)
    failed = options.fail_on is not None and audit.totals.any_as_bad_as(options.fail_on)
    return FAILED if failed else audit.status


def _canary_texts(trial: CanaryTrial | None, form: str) -> Iterator[str]:
    if trial is None:
        return
    lines = [*canary_report.canary_lines(trial.canary), ""]
    if form == "json":
        yield _json_line(canary_report.canary_json(trial.canary))
    elif form == "text":
        yield "".join(f"{line}\n" for line in lines)
    else:
        # A table has no place for it.
        print("\n".join(lines), file=sys.stderr)


def _texts(audit: _Audit, options: argparse.Namespace) -> Iterator[str]:
    """All that is printed, in pieces, as the hosts come."""
    listed = False
    for text in _groups_texts(audit, options) if options.group_by else _hosts_texts(audit, options):
        yield text
        listed = True
    if options.format == "json":
        yield _json_line(report.totals_json(audit.totals))
    elif options.format == "text":
        # A file is as wide as it likes.
        style = style_of(no_color=True) if options.output == STANDARD_STREAM else Style()
        yield ("\n" if listed else "") + report.totals_text(audit.totals, style)
        yield canary_report.left_out_text(audit.left_out)


def _hosts_texts(audit: _Audit, options: argparse.Namespace) -> Iterator[str]:
    """Each host when it comes."""
    if options.format == "csv":
        yield report.csv_header()
    for host, _ in audit.hosts():
        yield from _host_texts(host, options)


def _host_texts(host: HostAudit | LeftOut, options: argparse.Namespace) -> Iterator[str]:
    if isinstance(host, LeftOut):
        if options.format == "json":
            yield _json_line(canary_report.left_out_json(host))
        elif options.format == "csv":
            yield canary_report.left_out_csv(host)
        elif options.all:
            yield f"{canary_report.left_out_line(host)}\n"
    elif options.format == "json":
        yield _json_line(report.host_json(host))
    elif options.format == "csv":
        yield report.host_csv(host)
    else:
        yield from (f"{line}\n" for line in report.host_lines(host, everything=options.all))


def _groups_texts(audit: _Audit, options: argparse.Namespace) -> Iterator[str]:
    """The groups, when all hosts are in."""
    groups = Groups(options.group_by)
    for host, steps in audit.hosts():
        if not isinstance(host, LeftOut):
            groups.add(host, steps)
    if options.format == "json":
        yield from map(_json_line, groups_report.groups_json(groups))
    elif options.format == "csv":
        yield from groups_report.groups_csv(groups)
    elif groups.groups:
        yield groups_report.groups_text(groups)


def _json_line(value: dict[str, Any]) -> str:
    return f"{json.dumps(value)}\n"


class _Audit:
    """Audits the hosts of the inputs, shows how far it is, and counts.

    Attributes:
        totals: of the hosts so far.
        left_out: those to which the canary does not apply.
        status: the exit status, when all hosts are in.
    """

    def __init__(
        self,
        inputs: Inputs,
        targets: Sequence[Target],
        options: argparse.Namespace,
        trial: CanaryTrial | None,
    ) -> None:
        self.totals = Totals()
        self.left_out: dict[Why, Members] = {}
        self.status = os.EX_OK
        self._trial = trial
        self._targets = targets
        self._command_line: tuple[str, ...] | None = options.command_line
        self._progress = Progress(sys.stderr, len(inputs))
        self._group_by = bool(options.group_by)
        reader = with_history(kept_records) if options.group_by or trial else None
        self._hosts = Hosts(inputs, self._audit, self._complain, options.jobs, options.input_timeout, reader)

    def hosts(self) -> Iterator[tuple[HostAudit | LeftOut, tuple[FirmwareStep, ...]]]:
        """Every host that can be audited, in order, and what updates of its firmware have cost."""
        for answer in self._hosts.each(self._progress.step):
            self._progress.item()
            if answer.value is None:
                continue
            host, steps = answer.value
            if isinstance(host, LeftOut):
                self.left_out.setdefault(host.why, Members()).add(host)
            else:
                self.totals.add(host)
            if sys.stdout.isatty():
                self._progress.clear()
            yield host, steps
        self.totals.unreadable = self._hosts.unreadable
        self.status = self._hosts.status
        self._progress.clear()

    def _audit(self, found: Found, facts: HostFacts) -> tuple[HostAudit | LeftOut, tuple[FirmwareStep, ...]]:
        bios = found.records[-1].bios_version if found.records else None
        now = audit_host(facts, found.name, found.line, self._targets, self._command_line, bios)
        steps = firmware_steps(found.records) if self._group_by else ()
        if self._trial is None:
            return now, steps
        return self._trial.audit(facts, now, self._targets, self._command_line), steps

    def _complain(self, answer: Answer[Any], error: AgentError) -> None:
        self._progress.clear()
        print_complaint(answer, error)
        self._progress.item()
