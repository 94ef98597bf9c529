# SPDX-License-Identifier: Apache-2.0
"""The command line. Results go to stdout, logs and errors to stderr, exit states follow sysexits.h."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from importlib import resources
from typing import TYPE_CHECKING, NoReturn

from tdx_headroom import __version__
from tdx_headroom.address import ADDRESS_SPACE, Range
from tdx_headroom.assessment import Assessment, assess
from tdx_headroom.checks import Status, run_checks, status_of
from tdx_headroom.errors import AgentError
from tdx_headroom.facts import FactsError
from tdx_headroom.inputs import FactsLineError, facts_of_log, facts_of_tree, facts_stream
from tdx_headroom.oneshot import add_open_files, add_textfile
from tdx_headroom.output.check_report import check_json, check_text
from tdx_headroom.output.plan_json import error_to_json, to_json
from tdx_headroom.output.text import Style, render
from tdx_headroom.plan import Strategy
from tdx_headroom.root import Root
from tdx_headroom.web.flags import add_flags, settings_from
from tdx_headroom.whatif import WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts import HostFacts

_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


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
        options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tdx-headroom",
        description="Tells before the reboot whether Intel TDX will come up on a host.",
    )
    parser.add_argument("--version", action="version", version=f"tdx-headroom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands.add_parser("serve", help="serve this host's headroom to Prometheus"))
    _add_plan(commands.add_parser("plan", help="show the plan of this host, a captured one, or a log"))
    _add_check(
        commands.add_parser("check", help="check this host, a captured one, or a log: exit 0, 1, 2, 3")
    )
    add_textfile(commands.add_parser("textfile", help="write the metrics once, for node_exporter"))
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
    parser.add_argument(
        "--path.rootfs", dest="rootfs", default="/", metavar="DIR", help="the host's root (default /)"
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_demo)
    _add_web(parser)


def _add_web(parser: argparse.ArgumentParser) -> None:
    add_flags(parser)
    parser.add_argument(
        "--assume-strategy", type=_strategy, metavar="S", help="take this kernel to look for holes by S"
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="started as root: become this user before listening (default tdx-headroom or nobody)",
    )
    parser.add_argument(
        "--refresh-interval", type=_duration, default=60.0, metavar="TIME", help="such as 60s (default), 5m"
    )
    parser.add_argument(
        "--log.level", dest="log_level", choices=("debug", "info", "warn", "error"), default="info"
    )
    parser.add_argument("--log.format", dest="log_format", choices=("logfmt", "json"), default="logfmt")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_plan)
    _add_input(parser)
    parser.add_argument("--strategy", type=_strategy, metavar="S", help="only this hole strategy")
    parser.add_argument("--format", choices=("text", "json"), help="text, or JSON (the default with --facts)")
    _add_what_if(parser)
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_check)
    _add_input(parser)
    parser.add_argument("--format", choices=("text", "json"), help="text, or JSON (the default with --facts)")
    parser.add_argument("--short", action="store_true", help="only what is not well")
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")
    _add_what_if(parser)


def _add_input(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--root", metavar="DIR", help="a captured tree that mirrors a host's /proc and /sys")
    source.add_argument("--log", metavar="FILE", help="a kernel log as text; - is stdin")
    source.add_argument("--facts", metavar="FILE", help="facts, a JSON object a line; - is stdin")


def _add_what_if(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what if")
    group.add_argument("--assume-strategy", type=_strategy, metavar="S", help="take this kernel to use S")
    group.add_argument("--kernel", metavar="RELEASE", help="with another kernel, by its `uname -r`")
    group.add_argument("--max-reserved", type=_count, metavar="N", help="with N reserved areas a TDMR")
    group.add_argument("--max-tdmrs", type=_count, metavar="N", help="with N TDMRs")
    group.add_argument("--dynamic-pamt", action="store_true", help="with Dynamic PAMT")
    group.add_argument(
        "--add-hole",
        action="append",
        type=_range,
        default=[],
        metavar="START-END",
        help="without this memory, end exclusive, such as 0x64158000-0x64159000 or 62G-63G; repeatable",
    )
    group.add_argument(
        "--without-memmap", action="store_true", help="without the memmap= and mem= of the command line"
    )


def _what_if(options: argparse.Namespace) -> WhatIf:
    return WhatIf(
        strategy=options.assume_strategy,
        kernel=options.kernel,
        max_reserved=options.max_reserved,
        max_tdmrs=options.max_tdmrs,
        dynamic_pamt=options.dynamic_pamt,
        holes=tuple(options.add_hole),
        without_memmap=options.without_memmap,
    )


def _run_plan(options: argparse.Namespace) -> int:
    form = options.format or ("json" if options.facts else "text")
    bad = 0
    for answer in _answers(options):
        if isinstance(answer, FactsLineError):
            bad += 1
            _print_bad_line(answer, options, form)
        elif form == "json":
            print(json.dumps(_only(to_json(answer), options.strategy)))
        else:
            print(render(answer, _style(options), options.strategy), end="")
    return os.EX_DATAERR if bad else os.EX_OK


def _run_check(options: argparse.Namespace) -> int:
    """The worst status of all hosts; a facts line that cannot be read is unknown."""
    form = options.format or ("json" if options.facts else "text")
    seen: set[Status] = set()
    for answer in _answers(options):
        if isinstance(answer, FactsLineError):
            _print_bad_line(answer, options, form)
            seen.add(Status.UNKNOWN)
            continue
        checks = run_checks(answer)
        status = status_of(answer, checks)
        seen.add(status)
        if form == "json":
            print(json.dumps(check_json(answer, checks, status)))
        else:
            print(check_text(checks, status, _style(options), short=options.short), end="")
    ranked = (Status.CRITICAL, Status.UNKNOWN, Status.WARNING, Status.OK)
    return next((status.exit_status for status in ranked if status in seen), Status.UNKNOWN.exit_status)


def _print_bad_line(bad: FactsLineError, options: argparse.Namespace, form: str) -> None:
    if form == "text":
        print(f"tdx-headroom: {options.facts} line {bad.line}: {bad}", file=sys.stderr)
    else:
        print(json.dumps(error_to_json(bad.line, bad.host, bad.message, bad.hint)))


def _answers(options: argparse.Namespace) -> Iterator[Assessment | FactsLineError]:
    if options.facts is None:
        yield assess(_one_host(options), _what_if(options))
        return
    for number, facts in facts_stream(options.facts):
        if isinstance(facts, FactsLineError):
            yield facts
            continue
        try:
            yield assess(facts, _what_if(options))
        except FactsError as error:
            yield FactsLineError(number, facts.host, error)


def _one_host(options: argparse.Namespace) -> HostFacts:
    if options.log is not None:
        return facts_of_log(options.log)
    return facts_of_tree(options.root or "/")


def _only(plan: dict[str, object], strategy: Strategy | None) -> dict[str, object]:
    plans = plan["strategies"]
    if strategy is not None and isinstance(plans, dict):
        plan["strategies"] = {name: p if name == strategy else None for name, p in plans.items()}
    return plan


def _style(options: argparse.Namespace) -> Style:
    colour = sys.stdout.isatty() and not options.no_color and not os.environ.get("NO_COLOR")
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")
    return Style(colour=colour, unicode=unicode)


def _run_serve(options: argparse.Namespace) -> int:
    return _serve(Root(options.rootfs), options)


def _run_demo(options: argparse.Namespace) -> int:
    from tdx_headroom.memory_root import MemoryRoot  # noqa: PLC0415  only the demo reads a tree once

    with resources.as_file(resources.files("tdx_headroom") / "hosts" / "emerald-rapids") as directory:
        return _serve(MemoryRoot(directory), options)


def _serve(root: Root, options: argparse.Namespace) -> int:
    # Loaded here: offline commands need neither a web server nor an event loop.
    from tdx_headroom import log  # noqa: PLC0415
    from tdx_headroom.daemon import Settings, serve  # noqa: PLC0415
    from tdx_headroom.inherited import take  # noqa: PLC0415
    from tdx_headroom.privileges import give_up  # noqa: PLC0415

    log.configure(options.log_level, options.log_format)
    inherited = take()
    web = settings_from(options, inherited.sockets)
    if not (web.addresses or web.sockets):
        raise AgentError(
            "systemd has handed over no socket",
            hint="start tdx-headroom.socket, or leave --web.systemd-socket out",
            status=os.EX_UNAVAILABLE,
        )
    root = root.holding({**inherited.files, **give_up(root, options.user)})
    settings = Settings(
        web=web,
        refresh_interval=options.refresh_interval,
        exporter_metrics=options.exporter_metrics,
        what_if=WhatIf(strategy=options.assume_strategy),
        state_directory=getattr(options, "state_directory", None),
    )
    serve(root, settings)
    return os.EX_OK


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h)", text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 60s or 5m")
    return float(match[1]) * _UNITS[match[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _range(text: str) -> Range:
    match = re.fullmatch(r"(0x[0-9a-fA-F]+|[0-9]+)([KMGT]?)-(0x[0-9a-fA-F]+|[0-9]+)([KMGT]?)", text)
    if match is not None:
        start = int(match[1], 0) << _SHIFTS[match[2]]
        end = int(match[3], 0) << _SHIFTS[match[4]]
        if start < end <= ADDRESS_SPACE:
            return Range(start, end)
    raise argparse.ArgumentTypeError(f"{text!r} is no range START-END, end exclusive")


def _strategy(text: str) -> Strategy:
    try:
        return Strategy(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Strategy)}") from None
