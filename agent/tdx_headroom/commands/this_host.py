# SPDX-License-Identifier: Apache-2.0
"""What ``textfile`` and ``labels`` share: this host as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.boots.inventory import boots_of
from tdx_headroom.commands.arguments import add_assume_strategy, add_rootfs, file_name
from tdx_headroom.commands.kept_records import kept_records
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import host_root
from tdx_headroom.inputs.earlier import earlier_in_root, with_earlier
from tdx_headroom.service.descriptors import take
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.verdict.assessment import Assessment


def add_options(parser: argparse.ArgumentParser, file: str) -> None:
    """The options of both.

    Args:
        parser: of the command.
        file: how the help calls the file.
    """
    parser.add_argument(
        "--output",
        type=file_name,
        required=True,
        metavar=file,
        help="file to write, replaced at once; - is stdout",
    )
    add_rootfs(parser)
    add_assume_strategy(parser)


def assess_host(options: argparse.Namespace) -> Assessment:
    """The host that the options name, as it is now."""
    log.configure("warn", "logfmt")
    root = host_root(options.rootfs).holding(take().files)
    earlier = kept_records() if root.live else earlier_in_root(root)
    facts = with_earlier(read_facts(root, boots=boots_of(root)), earlier)
    return assess(facts, WhatIf(strategy=options.assume_strategy))
