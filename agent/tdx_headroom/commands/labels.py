# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom labels``: what Kubernetes should know of a node, once, for Node Feature Discovery."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tdx_headroom.commands.output_file import write
from tdx_headroom.commands.this_host import add_options, assess_host
from tdx_headroom.errors import AgentError
from tdx_headroom.output.labels import render_labels

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_options(parser, "F")


def run(options: argparse.Namespace) -> int:
    """Look at the host and write its labels; the exit status."""
    if os.path.basename(options.output).startswith("."):  # noqa: PTH119  split as write_whole() does
        raise AgentError(
            f"{options.output} is no file that Node Feature Discovery reads",
            hint="give a name such as /etc/kubernetes/node-feature-discovery/features.d/tdx-headroom",
            status=os.EX_USAGE,
        )
    write(options.output, render_labels(assess_host(options)))
    return os.EX_OK
