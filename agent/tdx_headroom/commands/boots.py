# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom boots``: every boot entry and the one that comes next, with what becomes of TDX."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.answers import AssessmentAnswers, add_format, add_no_color
from tdx_headroom.commands.arguments import add_what_if
from tdx_headroom.commands.input_arguments import add_inputs, add_jobs
from tdx_headroom.errors import AgentError
from tdx_headroom.output.boots_brief import WIDTH, brief
from tdx_headroom.output.boots_report import boots_text
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.verdict.checks import Status
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.verdict.assessment import Assessment

_STATUS = {
    State.WILL_INITIALIZE: Status.OK,
    State.AT_RISK: Status.WARNING,
    State.WILL_FAIL: Status.CRITICAL,
    State.NOT_TDX: Status.OK,
}


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_jobs(parser)
    group = parser.add_mutually_exclusive_group()
    add_format(group)
    group.add_argument(
        "--brief",
        action="store_true",
        help="a paragraph at most: a line where all is well, and nothing about a host without TDX",
    )
    for option, text in (("installed", "was installed"), ("removed", "was removed")):
        parser.add_argument(
            f"--{option}", metavar="RELEASE", help=f"with --brief: this kernel {text} just now"
        )
    add_no_color(parser)
    add_what_if(parser)


def run(options: argparse.Namespace) -> int:
    """The boots of all inputs; the worst status of the next boots, as ``check`` has it.

    Raises:
        AgentError: an option is given without the one that it belongs to.
    """
    for option in ("installed", "removed"):
        if getattr(options, option) is not None and not options.brief:
            raise AgentError(f"--{option} is for --brief", status=os.EX_USAGE)
    answers = AssessmentAnswers(options)

    def answer(assessment: Assessment) -> tuple[Status, dict[str, Any] | str]:
        status = _status_of(assessment)
        if options.brief:
            width = min(WIDTH, answers.style.width)
            said = brief(assessment, installed=options.installed, removed=options.removed, width=width)
            return status, said
        return status, to_json(assessment) if answers.json else boots_text(assessment, answers.style)

    return answers.worst(set(answers.print_assessments(answer)))


def _status_of(assessment: Assessment) -> Status:
    """Of the boot that comes next; a host without TDX is in order, so that mixed fleets can gate on it."""
    if assessment.verdict.state is State.NOT_TDX:
        return Status.OK
    coming = assessment.coming
    return Status.UNKNOWN if coming is None else _STATUS.get(coming.state, Status.UNKNOWN)
