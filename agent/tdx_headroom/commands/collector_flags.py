# SPDX-License-Identifier: Apache-2.0
"""The ``--collector.*`` flags, named as node_exporter's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.output.metric_families import DEFAULT, HTTP, PYTHON, SOURCES, STRATEGIES, Collector

if TYPE_CHECKING:
    import argparse

_WHAT = {
    STRATEGIES: "what is said for the strategies of other kernels than the running one",
    SOURCES: "when each source was read, and which of them differ",
    HTTP: "requests by status, and connections by why they were closed",
    PYTHON: "the interpreter, and its garbage collector",
}


def add_collectors(parser: argparse.ArgumentParser, *offered: Collector) -> None:
    """Add a flag for each of these."""
    for collector in offered:
        parser.add_argument(
            f"--collector.{collector}",
            dest="collectors",
            action="append_const",
            const=collector,
            help=f"export by default, too: {_WHAT[collector]}",
        )


def collectors(options: argparse.Namespace) -> frozenset[Collector]:
    """What is exported where nothing else is asked for."""
    return frozenset({DEFAULT, *(options.collectors or ())})
