# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom textfile``: the metrics, once, for node_exporter."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tdx_headroom.commands.collector_flags import add_collectors, collectors
from tdx_headroom.commands.output_file import write
from tdx_headroom.commands.this_host import add_options, assess_host
from tdx_headroom.inputs.named import STANDARD_STREAM
from tdx_headroom.output.metric_families import SOURCES, STRATEGIES
from tdx_headroom.output.metrics import AgentStatus
from tdx_headroom.output.textfile import check_name, render_textfile

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    add_options(parser, "F.prom")
    add_collectors(parser, STRATEGIES, SOURCES)


def run(options: argparse.Namespace) -> int:
    """Look at the host and write its metrics; the exit status."""
    if options.output != STANDARD_STREAM:
        check_name(options.output)
    began = time.perf_counter()
    assessment = assess_host(options)
    now = time.time()
    kernel_log = assessment.facts.log_health
    status = AgentStatus(
        assessed_at=now,
        duration=time.perf_counter() - began,
        read_at=tuple((source.source, now) for source in assessment.facts.sources if source.ok),
        records_lost=kernel_log.lost if kernel_log else 0,
        records_untrusted=kernel_log.untrusted if kernel_log else 0,
    )
    write(options.output, render_textfile(assessment, status, collectors(options)))
    return os.EX_OK
