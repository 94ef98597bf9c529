# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom capture``: this host, fit for a public ticket."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from tdx_headroom.address import show_size
from tdx_headroom.capture.build import make_capture
from tdx_headroom.commands.arguments import add_rootfs, file_name
from tdx_headroom.commands.kept_records import add_state_directory, kept_records
from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import host_root
from tdx_headroom.inputs.earlier import earlier_in_root
from tdx_headroom.inputs.history import journal_records
from tdx_headroom.inputs.named import STANDARD_STREAM
from tdx_headroom.whole_file import write_whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.hostfs.files import HostFiles

MODE = 0o640


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "-o",
        "--output",
        type=file_name,
        required=True,
        metavar="FILE.tar.gz",
        help="archive to write; - is stdout",
    )
    add_rootfs(parser)
    add_state_directory(parser)
    parser.add_argument("--without-history", action="store_true", help="leave earlier boots out of it")
    parser.add_argument("--keep-host-name", action="store_true", help="leave the host's name in it")


def run(options: argparse.Namespace) -> int:
    """Write a capture; the exit status."""
    to_stdout = options.output == STANDARD_STREAM
    if to_stdout and sys.stdout.isatty():
        raise AgentError("a terminal is no place for an archive", hint="-o FILE.tar.gz", status=os.EX_USAGE)
    root = host_root(options.rootfs)
    earlier = () if options.without_history else _earlier(root, options.state_directory)
    capture = make_capture(root, time.time(), keep_host_name=options.keep_host_name, earlier=earlier)
    if to_stdout:
        sys.stdout.buffer.write(capture.data)
    else:
        write_whole(options.output, capture.data, MODE)
    name = "standard output" if to_stdout else options.output
    print(
        f"{name}: {capture.files} files, {show_size(len(capture.data))}; its manifest.json says what is kept",
        file=sys.stderr,
    )
    for source in capture.failed:
        print(f"not in it: {source.error}", file=sys.stderr)
    return os.EX_OK


def _earlier(root: HostFiles, state_directory: str) -> Sequence[BootRecord]:
    """What is on record of this host's boots; where there is no service, what the journal tells of them."""
    if not root.live:
        return earlier_in_root(root, _warn)
    return kept_records(state_directory, _warn) or journal_records(_warn)


def _warn(what: str) -> None:
    print(f"tdx-headroom: {what}", file=sys.stderr)
