# SPDX-License-Identifier: Apache-2.0
"""Commands that look at the host once and end: ``textfile``, ``labels``, ``open-files`` for old systemd."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from tdx_headroom.commands.arguments import add_assume_strategy, add_rootfs
from tdx_headroom.errors import AgentError
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root, host_root
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.verdict.assessment import Assessment


def add_textfile(parser: argparse.ArgumentParser) -> None:
    """Options of ``tdx-headroom textfile``."""
    parser.set_defaults(run=_run_textfile)
    _add_host(parser, "F.prom")


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Options of ``tdx-headroom labels``."""
    parser.set_defaults(run=_run_labels)
    _add_host(parser, "F")


def _add_host(parser: argparse.ArgumentParser, file: str) -> None:
    parser.add_argument(
        "--output", required=True, metavar=file, help="file to write, replaced at once; - is stdout"
    )
    add_rootfs(parser)
    add_assume_strategy(parser)


def add_open_files(parser: argparse.ArgumentParser) -> None:
    """``tdx-headroom open-files``, which only a unit of systemd before 253 runs."""
    parser.set_defaults(run=_run_open_files)


def _run_textfile(options: argparse.Namespace) -> int:
    # Loaded here: other commands need none of it.
    from tdx_headroom.output.metrics import Health  # noqa: PLC0415
    from tdx_headroom.output.textfile import check_name, render_textfile  # noqa: PLC0415

    if options.output != "-":
        check_name(options.output)
    began = time.perf_counter()
    assessment = _assess(options)
    now = time.time()
    kernel_log = assessment.facts.log_health
    health = Health(
        assessed_at=now,
        duration=time.perf_counter() - began,
        read_at=tuple((source.source, now) for source in assessment.facts.sources if source.ok),
        records_lost=kernel_log.lost if kernel_log else 0,
        records_untrusted=kernel_log.untrusted if kernel_log else 0,
    )
    _put(options.output, render_textfile(assessment, health))
    return os.EX_OK


def _assess(options: argparse.Namespace) -> Assessment:
    """The host that the options name, as it is now."""
    from tdx_headroom import log  # noqa: PLC0415
    from tdx_headroom.service.descriptors import take  # noqa: PLC0415

    log.configure("warn", "logfmt")
    root = host_root(options.rootfs).holding(take().files)
    return assess(read_facts(root), WhatIf(strategy=options.assume_strategy))


def _run_labels(options: argparse.Namespace) -> int:
    from tdx_headroom.output.labels import render_labels  # noqa: PLC0415

    if os.path.basename(options.output).startswith("."):  # noqa: PTH119  split as write_textfile() does
        raise AgentError(
            f"{options.output} is no file that Node Feature Discovery reads",
            hint="give a name such as /etc/kubernetes/node-feature-discovery/features.d/tdx-headroom",
            status=os.EX_USAGE,
        )
    _put(options.output, render_labels(_assess(options)))
    return os.EX_OK


def _put(output: str, data: bytes) -> None:
    """Write a file, or to standard output where that is asked for."""
    from tdx_headroom.output.textfile import write_textfile  # noqa: PLC0415

    if output == "-":
        sys.stdout.write(data.decode())
    else:
        write_textfile(output, data)


def _run_open_files(_options: argparse.Namespace) -> int:
    from tdx_headroom import log  # noqa: PLC0415
    from tdx_headroom.service.fdstore import store_files  # noqa: PLC0415
    from tdx_headroom.service.notify import Notifier  # noqa: PLC0415

    log.configure("info", "logfmt")
    names = store_files(Root("/"), Notifier())
    log.get().info("files handed to systemd", names=" ".join(names))
    return os.EX_OK
