# SPDX-License-Identifier: Apache-2.0
"""The real agent as the fork of a process that has loaded it, for tests that start it a hundred times."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import TYPE_CHECKING

from tdx_headroom.cli import main

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess
    from pathlib import Path

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.integration.loaded", __name__])


def start(arguments: list[str], log: Path) -> ForkServerProcess:
    """Start the command with these arguments; what it says is appended to a file."""
    process = _server.Process(target=_run, args=(arguments, log))
    process.start()
    return process


def _run(arguments: list[str], log: Path) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(main(arguments))
