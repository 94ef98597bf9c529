# SPDX-License-Identifier: Apache-2.0
"""The options of commands that take any number of inputs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from tdx_headroom.commands.arguments import count, duration
from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.expand import Inputs, expand, merged
from tdx_headroom.inputs.named import STANDARD_STREAM, THIS_HOST, Kind, Named

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Name(argparse.Action):
    """Adds to the one list of inputs, so that they stay in the order in which they are given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002  argparse's interface
        namespace: argparse.Namespace,
        values: Any,  # noqa: ANN401  a path, or several
        option_string: str | None = None,
    ) -> None:
        kind = Kind.ANY if option_string is None else Kind(option_string.lstrip("-"))
        paths = values if isinstance(values, list) else [values]
        namespace.inputs = [*namespace.inputs, *(Named(kind, path) for path in paths)]


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Options for any number of inputs, and plain paths whose kind is found out."""
    parser.set_defaults(inputs=[])
    parser.add_argument(
        "paths",
        nargs="*",
        action=_Name,
        metavar="INPUT",
        help="captured tree, archive, log, facts, a directory of them, or - (stdin); default: this host",
    )
    group = parser.add_argument_group(
        "inputs by kind, repeatable; files may be compressed with gzip, xz or bzip2"
    )
    for kind, metavar, text in (
        (Kind.ROOT, "DIR", "a captured tree that mirrors a host's /proc and /sys, or an unpacked sosreport"),
        (Kind.CAPTURE, "FILE", "what `capture` has written, or a sosreport, as tar archive"),
        (Kind.LOG, "FILE", "a kernel log as text"),
        (Kind.FACTS, "FILE", "facts, a JSON object a line"),
    ):
        group.add_argument(f"--{kind}", dest="inputs", action=_Name, metavar=metavar, help=text)
    group.add_argument(
        "--merge",
        action="store_true",
        help="all inputs are of one host: its log, and what was printed of its /proc and /sys",
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """How many processes share the inputs, and how long one may take."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs",
        type=count,
        default=cores,
        metavar="N",
        help="read several inputs in N processes (default: the number of usable cores)",
    )
    parser.add_argument(
        "--input-timeout",
        type=duration,
        default=600.0,
        metavar="TIME",
        help="of several inputs, give up on one that takes longer (default 10m)",
    )


def named_inputs(options: argparse.Namespace) -> Inputs:
    """What the command line names, directories of captures expanded; this host when it names nothing.

    Raises:
        AgentError: standard input is named twice, or closed, or a name is empty.
    """
    inputs: Sequence[Named] = options.inputs
    if not all(one.path for one in inputs):
        hint = "a variable may not be set"
        raise AgentError("the name of an input is empty", hint=hint, status=os.EX_USAGE)
    if sys.stdin is None and any(one.path == STANDARD_STREAM for one in inputs):
        raise AgentError("standard input is closed", status=os.EX_NOINPUT)
    if options.merge and inputs:
        return Inputs([merged(inputs)])
    return expand(inputs or [THIS_HOST])


def only_facts(options: argparse.Namespace) -> bool:
    """Whether all that is named is facts: then answers are JSON unless something else is asked for."""
    return bool(options.inputs) and all(one.kind is Kind.FACTS for one in options.inputs)
