# SPDX-License-Identifier: Apache-2.0
"""What several commands take: types of arguments, and the options of what-if."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, TypeVar

from tdx_headroom.address import ADDRESS_SPACE, Range
from tdx_headroom.facts.command_line import fitting, map_edits
from tdx_headroom.plan import Strategy
from tdx_headroom.sources.platform import relevant_arguments
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Callable

Word = TypeVar("Word", bound=str)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def add_rootfs(parser: argparse.ArgumentParser) -> None:
    """The option that names the host's root."""
    parser.add_argument(
        "--path.rootfs",
        dest="rootfs",
        type=file_name,
        default="/",
        metavar="DIR",
        help="the host's root (default /)",
    )


def file_name(text: str) -> str:
    """The name of a file or directory; an empty one, from an unset variable, would be the present folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


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


def one_of(*words: Word) -> Callable[[str], Word]:
    """The type of an argument that is one of these words."""

    def chosen(text: str) -> Word:
        found = next((word for word in words if word == text), None)
        if found is None:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return found

    return chosen


def add_assume_strategy(parser: argparse._ActionsContainer) -> None:
    """The operator's word on how this kernel looks for holes."""
    parser.add_argument(
        "--assume-strategy",
        type=one_of(*Strategy),
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
