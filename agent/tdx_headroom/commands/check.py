# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom check``: the tree of checks behind each host's verdict, for people and for monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.answers import AssessmentAnswers, add_format, add_no_color
from tdx_headroom.commands.arguments import add_what_if
from tdx_headroom.commands.input_arguments import add_inputs, add_jobs
from tdx_headroom.output.check_report import check_json, check_text
from tdx_headroom.verdict.checks import run_checks, status_of

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.verdict.assessment import Assessment
    from tdx_headroom.verdict.checks import Status


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_jobs(parser)
    add_format(parser)
    parser.add_argument("--short", action="store_true", help="only what is not well")
    add_no_color(parser)
    add_what_if(parser)


def run(options: argparse.Namespace) -> int:
    """Checks of all inputs; the worst status of all hosts. An input that cannot be read is unknown."""
    answers = AssessmentAnswers(options)

    def answer(assessment: Assessment) -> tuple[Status, dict[str, Any] | str]:
        checks = run_checks(assessment)
        status = status_of(assessment, checks)
        if answers.json:
            return status, check_json(assessment, checks, status)
        return status, check_text(checks, status, answers.style, short=options.short)

    return answers.worst(set(answers.print_assessments(answer)))
