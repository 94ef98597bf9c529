# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom history``: what each of the last boots needed, and what became of TDX in it."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from tdx_headroom.commands.answers import add_format, add_no_color, style_of
from tdx_headroom.commands.arguments import add_inputs, named_inputs, only_facts
from tdx_headroom.errors import AgentError, SourceError, one_line
from tdx_headroom.hostfs.root import Root
from tdx_headroom.inputs.history import histories
from tdx_headroom.inputs.read import shown
from tdx_headroom.output.history_report import history_json, history_text
from tdx_headroom.service.state_file import FILE, MAX_FILE, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.inputs.history import HostHistory
    from tdx_headroom.inputs.named import Named


STATE_DIRECTORY = "/var/lib/tdx-headroom"
"""As the unit has it."""


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_format(parser)
    add_no_color(parser)
    parser.add_argument(
        "--state-directory",
        default=STATE_DIRECTORY,
        metavar="DIR",
        help=f"where the service of this host keeps its records (default {STATE_DIRECTORY})",
    )


def run(options: argparse.Namespace) -> int:
    """The boots of all inputs; the exit status."""
    as_json = (options.format or ("json" if only_facts(options) else "text")) == "json"
    inputs = named_inputs(options)
    several = len(inputs) > 1
    style = style_of(options)
    status = os.EX_OK
    gap = ""
    for found in _each(inputs, partial(_kept, options.state_directory)):
        if isinstance(found, AgentError):
            _warn(str(found))
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


def _warn(what: str) -> None:
    sys.stdout.flush()
    print(f"tdx-headroom: {what}", file=sys.stderr)


def _kept(directory: str) -> tuple[BootRecord, ...]:
    """What the service has on record, for who may read it."""
    path = f"{directory}/{FILE}"
    try:
        data = Root("/").read_bytes("state", path.lstrip("/"), limit=MAX_FILE)
        return parse(data).records
    except SourceError as error:
        if not error.absent:
            _warn(str(error))
    except (ValueError, RecursionError) as error:
        _warn(f"{path}: {error}")
    return ()


def _each(
    inputs: list[Named], kept: Callable[[], tuple[BootRecord, ...]]
) -> Iterator[HostHistory | AgentError]:
    for named in inputs:
        try:
            yield from histories(named, _warn, kept)
        except AgentError as error:
            yield error
        except OSError as error:
            yield AgentError(f"{shown(named.path)}: {error.strerror}", status=os.EX_NOINPUT)
