# SPDX-License-Identifier: Apache-2.0
"""The command line. Results go to stdout, logs and errors to stderr, exit states follow sysexits.h."""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from tdx_headroom import __version__
from tdx_headroom.errors import AgentError, one_line, place_of
from tdx_headroom.inputs.named import STANDARD_STREAM, Kind, Named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

COMMANDS = {
    "serve": "serve this host's headroom to Prometheus",
    "plan": "show the plan of this host, a captured one, or a log",
    "check": "check this host, a captured one, or a log: exit 0, 1, 2, 3",
    "boots": "list boot entries, the one that comes next, and what TDX does with each: exit as check",
    "remedy": "show what to change so that TDX comes up, with the commands for this host's boot loader",
    "history": "show what each of the last boots needed, and what became of TDX in it",
    "capture": "pack all that makes this host's plan, and nothing private",
    "fleet": "audit many captured hosts before a kernel upgrade",
    "textfile": "write the metrics once, for node_exporter",
    "labels": "write node labels once, for Node Feature Discovery",
    "demo": "serve a captured host on which TDX fails",
    "open-files": None,
    "take-boots": None,
    "take-history": None,
}
"""Every command, with its help; None: not for people. Each is a module in ``commands/``, of that name, where
``add(parser)`` is for its options and ``run(options)`` gives the exit status."""


READER_GONE = 128 + signal.SIGPIPE
"""The status where nobody reads the answer, as a shell has it of a program that such a pipe has ended."""


_CANNOT_BE_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        raise AgentError(message, hint=f"see {self.prog} --help", status=os.EX_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    if sys.stdout is None:
        print("tdx-headroom: standard output is closed", file=sys.stderr)
        return os.EX_IOERR
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Results hold names from outside: a locale that cannot show one must not end the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parse(arguments)
        status: int = options.run(options)
        sys.stdout.flush()
    except AgentError as error:
        print(f"tdx-headroom: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # `| head` has what it wants; who goes by the status must not take a lost answer for a good one.
        _print_no_more()
        return READER_GONE
    except OSError as error:
        # Files that are written by their names have errors of their own.
        if error.filename is None and error.errno in _CANNOT_BE_WRITTEN:
            said = f"standard output cannot be written: {os.strerror(error.errno or 0)}"
        else:
            said = f"{one_line(str(error))} (at {place_of(error)})"
        print(f"tdx-headroom: {said}", file=sys.stderr)
        _print_no_more()
        return os.EX_IOERR
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  whatever it is, it is told in a line, and where to look
        what = f"internal error: {one_line(repr(error))} at {place_of(error)}"
        print(f"tdx-headroom: {what}; please report it", file=sys.stderr)
        return os.EX_SOFTWARE
    return status


def _print_no_more() -> None:
    """Let nothing be said any more, not even at the interpreter's exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; inputs may stand before, between and behind them, which argparse does not do itself."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser(arguments)
    options, left = parser.parse_known_args(arguments)
    if left and (
        not hasattr(options, "inputs") or any(a.startswith("-") and a != STANDARD_STREAM for a in left)
    ):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.inputs = [*options.inputs, *(Named(Kind.ANY, path) for path in left)]
    return options


def command_parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """All commands, and their options.

    Args:
        arguments: of the command line: only the commands that it names are loaded, since a daemon needs none
            of the others, and they need neither web server nor event loop. None: all.
    """
    parser = _Parser(
        prog="tdx-headroom",
        description="Tells before the reboot whether Intel TDX will come up on a host.",
    )
    parser.add_argument("--version", action="version", version=f"tdx-headroom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name) if text is None else commands.add_parser(name, help=text)
        if arguments is None or name in arguments:
            module = _loaded(f"tdx_headroom.commands.{name.replace('-', '_')}")
            module.add(command)
            command.set_defaults(run=module.run)
    return parser


def _loaded(name: str) -> ModuleType:
    """A module, loaded without collections of garbage: next to nothing of it ever is, and they take time."""
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.enable()
