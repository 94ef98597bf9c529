# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom demo``: what ``serve`` shows of a host on which TDX fails."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from tdx_headroom.commands.serve import add_web as add
from tdx_headroom.commands.serve import serve
from tdx_headroom.hostfs.memory import load_tree

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "run"]


def run(options: argparse.Namespace) -> int:
    """Serve the captured host until it is told to end."""
    with resources.as_file(resources.files("tdx_headroom") / "hosts" / "emerald-rapids") as directory:
        return serve(load_tree(directory), options)
