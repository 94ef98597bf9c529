# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom labels``: what Kubernetes should know of a node, once, for Node Feature Discovery."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from tdx_headroom.commands.input_arguments import add_inputs, named_inputs
from tdx_headroom.commands.output_file import write
from tdx_headroom.commands.this_host import add_options, assess_host
from tdx_headroom.errors import AgentError
from tdx_headroom.inputs.read import read_hosts
from tdx_headroom.output.labels import render_labels
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.what_if import WhatIf

if TYPE_CHECKING:
    import argparse

    from tdx_headroom.facts.host_facts import HostFacts


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_inputs(parser)
    add_options(parser, "F")


def run(options: argparse.Namespace) -> int:
    """Look at the host and write its labels; the exit status."""
    if os.path.basename(options.output).startswith("."):  # noqa: PTH119  split as write_whole() does
        raise AgentError(
            f"{options.output} is no file that Node Feature Discovery reads",
            hint="give a name such as /etc/kubernetes/node-feature-discovery/features.d/tdx-headroom",
            status=os.EX_USAGE,
        )
    if options.inputs:
        assessment = assess(_only_host(options), WhatIf(strategy=options.assume_strategy))
    else:
        assessment = assess_host(options)
    write(options.output, render_labels(assessment))
    return os.EX_OK


def _only_host(options: argparse.Namespace) -> HostFacts:
    """The one host that the command line names.

    Raises:
        AgentError: it cannot be read, is not the only one, or --path.rootfs names another.
    """
    if options.rootfs != "/":
        raise AgentError("an input and --path.rootfs are two hosts", hint="name one", status=os.EX_USAGE)
    found = [*islice(read_hosts(named_inputs(options)), 2)]
    if len(found) != 1:
        several = "several hosts are" if found else "no host is"
        raise AgentError(f"{several} in the input", hint="labels are those of one node", status=os.EX_USAGE)
    facts = found[0].facts
    if isinstance(facts, AgentError):
        raise facts
    return facts
