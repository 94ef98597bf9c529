# SPDX-License-Identifier: Apache-2.0
"""The command line. Results go to stdout, logs and errors to stderr, exit states follow sysexits.h."""

from __future__ import annotations

import argparse
import io
import os
import sys
from importlib import resources
from typing import TYPE_CHECKING, NoReturn

from tdx_headroom import __version__
from tdx_headroom.commands.arguments import add_assume_strategy, add_rootfs, duration
from tdx_headroom.commands.oneshot import add_labels, add_open_files, add_textfile
from tdx_headroom.commands.options import add_capture, add_check, add_fleet, add_plan
from tdx_headroom.commands.web_flags import add_flags, settings_from
from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import Root, host_root
from tdx_headroom.inputs.named import STDIN, Kind, Named
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        # The reader has gone (`| head`): nothing is left to say, not even by the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"tdx-headroom: {error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_IOERR
    except KeyboardInterrupt:
        return 130
    return status


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; inputs may stand before, between and behind them, which argparse does not do itself."""
    parser = command_parser()
    options, left = parser.parse_known_args(arguments)
    if left and (not hasattr(options, "inputs") or any(a.startswith("-") and a != STDIN for a in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.inputs = [*options.inputs, *(Named(Kind.ANY, path) for path in left)]
    return options


def command_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="tdx-headroom",
        description="Tells before the reboot whether Intel TDX will come up on a host.",
    )
    parser.add_argument("--version", action="version", version=f"tdx-headroom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands.add_parser("serve", help="serve this host's headroom to Prometheus"))
    add_plan(commands.add_parser("plan", help="show the plan of this host, a captured one, or a log"))
    add_check(commands.add_parser("check", help="check this host, a captured one, or a log: exit 0, 1, 2, 3"))
    add_capture(
        commands.add_parser("capture", help="pack all that makes this host's plan, and nothing private")
    )
    add_fleet(commands.add_parser("fleet", help="audit many captured hosts before a kernel upgrade"))
    add_textfile(commands.add_parser("textfile", help="write the metrics once, for node_exporter"))
    add_labels(commands.add_parser("labels", help="write node labels once, for Node Feature Discovery"))
    _add_demo(commands.add_parser("demo", help="serve a captured host on which TDX fails"))
    add_open_files(commands.add_parser("open-files"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_serve)
    _add_web(parser)
    parser.add_argument(
        "--state-directory",
        metavar="DIR",
        default=os.environ.get("STATE_DIRECTORY") or None,
        help="keep what was learnt from the log here, for after a restart (default $STATE_DIRECTORY)",
    )
    add_rootfs(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_demo)
    _add_web(parser)


def _add_web(parser: argparse.ArgumentParser) -> None:
    add_flags(parser)
    add_assume_strategy(parser)
    parser.add_argument(
        "--user",
        metavar="USER",
        help="started as root: become this user, by name or number, before listening (default: tdx-headroom, "
        "where there is none a number that no other user or process has)",
    )
    parser.add_argument(
        "--refresh-interval",
        type=duration,
        default=60.0,
        metavar="TIME",
        help="look at the host at least this often, such as 60s (default) or 5m",
    )
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=("debug", "info", "warn", "error"),
        default="info",
        help="the least that is logged (default info)",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=("logfmt", "json"),
        default="logfmt",
        help="of the log on standard error (default logfmt)",
    )


def _run_serve(options: argparse.Namespace) -> int:
    return _serve(host_root(options.rootfs), options)


def _run_demo(options: argparse.Namespace) -> int:
    from tdx_headroom.hostfs.memory import load_tree  # noqa: PLC0415  only the demo reads a tree once

    with resources.as_file(resources.files("tdx_headroom") / "hosts" / "emerald-rapids") as directory:
        return _serve(load_tree(directory), options)


def _serve(root: Root, options: argparse.Namespace) -> int:
    # Loaded here: offline commands need neither a web server nor an event loop.
    from tdx_headroom import log  # noqa: PLC0415
    from tdx_headroom.service.daemon import Settings, serve  # noqa: PLC0415
    from tdx_headroom.service.descriptors import take  # noqa: PLC0415
    from tdx_headroom.service.privileges import give_up  # noqa: PLC0415
    from tdx_headroom.service.surroundings import leave_behind  # noqa: PLC0415

    log.configure(options.log_level, options.log_format)
    # The current folder may change.
    state_directory = _absolute(getattr(options, "state_directory", None))
    if options.web_config is not None:
        options.web_config = options.web_config.absolute()
    inherited = take()
    web = settings_from(options, inherited.sockets)
    if not (web.addresses or web.sockets):
        raise AgentError(
            "systemd has handed over no socket",
            hint="start tdx-headroom.socket, or leave --web.systemd-socket out",
            status=os.EX_UNAVAILABLE,
        )
    leave_behind([*inherited.files.values(), *(given.fileno() for given in inherited.sockets)])
    root = root.holding({**inherited.files, **give_up(root, options.user, state_directory)})
    settings = Settings(
        web=web,
        refresh_interval=options.refresh_interval,
        exporter_metrics=options.exporter_metrics,
        what_if=WhatIf(strategy=options.assume_strategy),
        state_directory=state_directory,
    )
    serve(root, settings)
    return os.EX_OK


def _absolute(path: str | None) -> str | None:
    return os.path.abspath(path) if path else None  # noqa: PTH100  a link may change while the agent runs
