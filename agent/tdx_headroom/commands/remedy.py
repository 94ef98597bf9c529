# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom remedy``: what to change so that the next boot brings TDX up. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.answers import AssessmentAnswers, add_format, add_no_color
from tdx_headroom.commands.arguments import add_what_if
from tdx_headroom.commands.input_arguments import add_inputs, add_jobs
from tdx_headroom.output.remedy_report import remedy_json, remedy_text

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.verdict.assessment import Assessment


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_jobs(parser)
    add_format(parser)
    add_no_color(parser)
    add_what_if(parser)


def run(options: argparse.Namespace) -> int:
    """The remedies for all inputs; the exit status."""
    answers = AssessmentAnswers(options)

    def answer(assessment: Assessment) -> tuple[None, dict[str, Any] | str]:
        return None, remedy_json(assessment) if answers.json else remedy_text(assessment, answers.style)

    answers.print_assessments(answer)
    return answers.status
