# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that look once and end; what runs is loaded then, for a daemon needs none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.commands.arguments import add_rootfs, add_what_if, release, strategy
from tdx_headroom.commands.input_flags import add_inputs

if TYPE_CHECKING:
    import argparse


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Options of ``tdx-headroom plan``."""
    parser.set_defaults(run=_run_plan)
    add_inputs(parser)
    parser.add_argument("--strategy", type=strategy, metavar="S", help="show only this hole strategy's plan")
    parser.add_argument("--format", choices=("text", "json"), help="text, or JSON (the default with --facts)")
    add_what_if(parser)
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")


def add_check(parser: argparse.ArgumentParser) -> None:
    """Options of ``tdx-headroom check``."""
    parser.set_defaults(run=_run_check)
    add_inputs(parser)
    parser.add_argument("--format", choices=("text", "json"), help="text, or JSON (the default with --facts)")
    parser.add_argument("--short", action="store_true", help="only what is not well")
    parser.add_argument("--no-color", action="store_true", help="no colour, even on a terminal")
    add_what_if(parser)


def add_capture(parser: argparse.ArgumentParser) -> None:
    """Options of ``tdx-headroom capture``."""
    parser.set_defaults(run=_run_capture)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE.tar.gz", help="archive to write; - is stdout"
    )
    add_rootfs(parser)
    parser.add_argument("--keep-host-name", action="store_true", help="leave the host's name in it")


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """Options of ``tdx-headroom fleet``."""
    parser.set_defaults(run=_run_fleet)
    add_inputs(parser)
    parser.add_argument(
        "--kernel",
        action="append",
        type=release,
        default=[],
        metavar="RELEASE",
        help="audit for this kernel, by its `uname -r`; repeatable (default: each host's own, and mainline)",
    )
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text", help="default text")
    parser.add_argument("--all", action="store_true", help="in text, list hosts that fit, too")


def _run_plan(options: argparse.Namespace) -> int:
    from tdx_headroom.commands.plan import run_plan  # noqa: PLC0415

    return run_plan(options)


def _run_check(options: argparse.Namespace) -> int:
    from tdx_headroom.commands.plan import run_check  # noqa: PLC0415

    return run_check(options)


def _run_capture(options: argparse.Namespace) -> int:
    from tdx_headroom.commands.capture import run_capture  # noqa: PLC0415

    return run_capture(options)


def _run_fleet(options: argparse.Namespace) -> int:
    from tdx_headroom.commands.fleet import run_fleet  # noqa: PLC0415

    return run_fleet(options)
