# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom capture``: this host, fit for a public ticket."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from tdx_headroom.address import show_size
from tdx_headroom.capture.build import make_capture
from tdx_headroom.commands.arguments import add_rootfs
from tdx_headroom.errors import AgentError
from tdx_headroom.hostfs.root import host_root
from tdx_headroom.inputs.named import STANDARD_STREAM
from tdx_headroom.whole_file import write_whole

if TYPE_CHECKING:
    import argparse

MODE = 0o640


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE.tar.gz", help="archive to write; - is stdout"
    )
    add_rootfs(parser)
    parser.add_argument("--keep-host-name", action="store_true", help="leave the host's name in it")


def run(options: argparse.Namespace) -> int:
    """Write a capture; the exit status."""
    to_stdout = options.output == STANDARD_STREAM
    if to_stdout and sys.stdout.isatty():
        raise AgentError("a terminal is no place for an archive", hint="-o FILE.tar.gz", status=os.EX_USAGE)
    capture = make_capture(host_root(options.rootfs), time.time(), keep_host_name=options.keep_host_name)
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
