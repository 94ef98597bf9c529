# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom plan``: what the kernel makes of each host's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.answers import AssessmentAnswers, add_format, add_no_color
from tdx_headroom.commands.arguments import add_what_if, one_of
from tdx_headroom.commands.input_arguments import add_inputs, add_jobs
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.text import render, render_short
from tdx_headroom.plan import Strategy

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.verdict.assessment import Assessment


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_jobs(parser)
    parser.add_argument(
        "--strategy", type=one_of(*Strategy), metavar="S", help="show only this hole strategy's plan"
    )
    group = parser.add_mutually_exclusive_group()
    add_format(group)
    group.add_argument(
        "--short",
        action="store_true",
        help="only the verdict, what to do and what is missing: for a ticket",
    )
    add_what_if(parser)
    add_no_color(parser)


def run(options: argparse.Namespace) -> int:
    """Plans of all inputs; the exit status."""
    answers = AssessmentAnswers(options)

    def answer(assessment: Assessment) -> tuple[None, dict[str, Any] | str]:
        if answers.json:
            return None, _only(to_json(assessment), options.strategy)
        if options.short:
            return None, render_short(assessment, answers.style)
        return None, render(assessment, answers.style, options.strategy)

    answers.print_assessments(answer)
    return answers.status


def _only(plan: dict[str, Any], only: Strategy | None) -> dict[str, Any]:
    if only is not None:
        plan["strategies"] = {name: p if name == only else None for name, p in plan["strategies"].items()}
    return plan
