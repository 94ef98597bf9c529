# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom history``: what each of the last boots needed, and what became of TDX in it."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

from tdx_headroom.commands.answers import add_format, add_no_color, style_of
from tdx_headroom.commands.arguments import add_inputs, named_inputs, only_facts
from tdx_headroom.commands.hosts import warn
from tdx_headroom.commands.kept_records import add_state_directory, kept_records
from tdx_headroom.errors import AgentError, one_line
from tdx_headroom.inputs.history import histories
from tdx_headroom.inputs.read import shown
from tdx_headroom.output.history_report import history_json, history_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.inputs.history import HostHistory
    from tdx_headroom.inputs.named import Named


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_format(parser)
    add_no_color(parser)
    add_state_directory(parser)


def run(options: argparse.Namespace) -> int:
    """The boots of all inputs; the exit status."""
    as_json = (options.format or ("json" if only_facts(options) else "text")) == "json"
    inputs = named_inputs(options)
    several = len(inputs) > 1
    style = style_of(no_color=options.no_color)
    status = os.EX_OK
    gap = ""
    for found in _each(inputs, partial(kept_records, options.state_directory, warn)):
        if isinstance(found, AgentError):
            warn(str(found))
            status = status or found.status
        elif as_json:
            value = history_json(found.host, found.records)
            print(json.dumps({**value, "input": found.name} if several else value), flush=True)
        else:
            if several:
                print(f"{gap}==> {one_line(found.name)} <==")
                gap = "\n"
            print(history_text(found.host, found.records, style), end="")
    return status


def _each(
    inputs: list[Named], kept: Callable[[], tuple[BootRecord, ...]]
) -> Iterator[HostHistory | AgentError]:
    for named in inputs:
        try:
            yield from histories(named, warn, kept)
        except AgentError as error:
            yield error
        except OSError as error:
            yield AgentError(f"{shown(named.path)}: {error.strerror}", status=os.EX_NOINPUT)
