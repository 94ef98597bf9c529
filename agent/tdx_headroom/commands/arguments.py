# SPDX-License-Identifier: Apache-2.0
"""What several commands take: types of arguments, and the options of inputs and of what-if."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import ADDRESS_SPACE, Range
from tdx_headroom.facts.command_line import fitting, map_edits
from tdx_headroom.inputs.named import THIS_HOST, Inputs, Kind, Named, expand, merged
from tdx_headroom.plan import Strategy
from tdx_headroom.sources.platform import relevant_arguments
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def add_rootfs(parser: argparse.ArgumentParser) -> None:
    """The option that names the host's root."""
    parser.add_argument(
        "--path.rootfs", dest="rootfs", default="/", metavar="DIR", help="the host's root (default /)"
    )


def duration(text: str) -> float:
    """A time such as ``60s``, in seconds."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h)", text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 60s or 5m")
    return float(match[1]) * _UNITS[match[2]]


def count(text: str) -> int:
    """A positive number."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def release(text: str) -> str:
    """A kernel release, as ``uname -r`` prints it: a wrong one would be answered as mainline is."""
    if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,4}(?:[.+~_-][A-Za-z0-9.+~_-]{0,80})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no kernel release such as 6.14.0-1009-intel")
    return text


def address_range(text: str) -> Range:
    """A range ``START-END`` in bytes, with units, end exclusive; or the ``memmap=`` that takes it away."""
    edits = map_edits([text])
    if len(edits) == 1 and edits[0].punches and edits[0].size:
        return edits[0].range
    match = re.fullmatch(r"(0x[0-9a-fA-F]+|[0-9]+)([KMGT]?)-(0x[0-9a-fA-F]+|[0-9]+)([KMGT]?)", text)
    if match is not None:
        start = int(match[1], 0) << _SHIFTS[match[2]]
        end = int(match[3], 0) << _SHIFTS[match[4]]
        if start < end <= ADDRESS_SPACE:
            return Range(start, end)
    raise argparse.ArgumentTypeError(f"{text!r} is no range START-END, end exclusive, and no memmap= of one")


def strategy(text: str) -> Strategy:
    """A hole strategy by its name."""
    try:
        return Strategy(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Strategy)}") from None


def add_assume_strategy(parser: argparse._ActionsContainer) -> None:
    """The operator's word on how this kernel looks for holes."""
    parser.add_argument(
        "--assume-strategy",
        type=strategy,
        metavar="S",
        help=f"take this kernel to look for holes by S: {', '.join(Strategy)}",
    )


def _command_line(text: str) -> tuple[str, ...]:
    """The arguments that matter, of those that the kernel gets of a line."""
    return relevant_arguments(fitting(text))


def add_command_line(parser: argparse._ActionsContainer) -> None:
    """Another command line."""
    parser.add_argument(
        "--command-line",
        type=_command_line,
        metavar="LINE",
        help="with another command line of the kernel, given whole",
    )


def add_what_if(parser: argparse.ArgumentParser) -> None:
    """Changes to try."""
    group = parser.add_argument_group("what if")
    add_assume_strategy(group)
    group.add_argument(
        "--kernel", type=release, metavar="RELEASE", help="with another kernel, by its `uname -r`"
    )
    add_command_line(group)
    group.add_argument("--max-reserved", type=count, metavar="N", help="with N reserved areas a TDMR")
    group.add_argument("--max-tdmrs", type=count, metavar="N", help="with N TDMRs")
    group.add_argument("--dynamic-pamt", action="store_true", help="with Dynamic PAMT")
    group.add_argument(
        "--add-hole",
        action="append",
        type=address_range,
        default=[],
        metavar="START-END",
        help="without this memory, end exclusive, such as 0x64158000-0x64159000 or 62G-63G, or as the memmap="
        " that takes it away; repeatable",
    )
    group.add_argument(
        "--without-memmap", action="store_true", help="without the memmap= and mem= of the command line"
    )


def what_if_of(options: argparse.Namespace) -> WhatIf:
    """The changes that were asked for."""
    return WhatIf(
        strategy=options.assume_strategy,
        kernel=options.kernel,
        command_line=options.command_line,
        max_reserved=options.max_reserved,
        max_tdmrs=options.max_tdmrs,
        dynamic_pamt=options.dynamic_pamt,
        holes=tuple(options.add_hole),
        without_memmap=options.without_memmap,
    )


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
        help="read several inputs with so many processes (default: as many as there are cores to use)",
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
        AgentError: standard input is named twice.
    """
    inputs: Sequence[Named] = options.inputs
    if options.merge and inputs:
        return Inputs([merged(inputs)])
    return expand(inputs or [THIS_HOST])


def only_facts(options: argparse.Namespace) -> bool:
    """Whether all that is named is facts: then answers are JSON unless something else is asked for."""
    return bool(options.inputs) and all(one.kind is Kind.FACTS for one in options.inputs)
