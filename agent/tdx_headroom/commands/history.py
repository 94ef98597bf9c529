# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom history``: what each of the last boots needed, and what became of TDX in it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.answers import Answers, add_format, add_no_color
from tdx_headroom.commands.input_arguments import add_inputs, add_jobs
from tdx_headroom.commands.kept_records import add_state_directory, kept_records
from tdx_headroom.commands.readers import warn, with_history
from tdx_headroom.output.history_report import history_json, history_text

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.inputs.read import Found


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_jobs(parser)
    add_format(parser)
    add_no_color(parser)
    add_state_directory(parser)


def run(options: argparse.Namespace) -> int:
    """The boots of all inputs; the exit status."""
    answers = Answers(options, with_history(partial(kept_records, options.state_directory, warn)))

    def tell(found: Found, facts: HostFacts) -> tuple[None, dict[str, Any] | str]:
        if answers.json:
            return None, history_json(facts.host, found.records)
        return None, history_text(facts.host, found.records, answers.style)

    answers.print_hosts(tell)
    return answers.status
