# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom history``: what each of the last boots needed, and what became of TDX in it."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING

from tdx_headroom.commands.answers import add_format, add_no_color, style_of
from tdx_headroom.commands.arguments import add_inputs, add_jobs, named_inputs, only_facts
from tdx_headroom.commands.hosts import Hosts, print_complaint
from tdx_headroom.commands.kept_records import add_state_directory, kept_records
from tdx_headroom.commands.readers import warn, with_history
from tdx_headroom.errors import one_line
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
    as_json = (options.format or ("json" if only_facts(options) else "text")) == "json"
    inputs = named_inputs(options)
    several = len(inputs) > 1
    style = style_of(no_color=options.no_color)

    def tell(found: Found, facts: HostFacts) -> str:
        if not as_json:
            return history_text(facts.host, found.records, style)
        value = history_json(facts.host, found.records)
        return json.dumps({**value, "input": found.name} if several else value) + "\n"

    reader = with_history(partial(kept_records, options.state_directory, warn))
    hosts = Hosts(inputs, tell, print_complaint, options.jobs, options.input_timeout, reader)
    gap = ""
    for answer in hosts.each():
        if several and not as_json:
            sys.stdout.write(f"{gap}==> {one_line(answer.name)} <==\n")
            gap = "\n"
        sys.stdout.write(answer.value or "")
    return hosts.status
