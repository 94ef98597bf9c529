# SPDX-License-Identifier: Apache-2.0
"""One shot for node_exporter's textfile collector: the metrics in a file that is always whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from tdx_headroom.errors import AgentError
from tdx_headroom.output import metric_families, metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tdx_headroom.output.metric_families import Collector
    from tdx_headroom.verdict.assessment import Assessment

SUFFIX = ".prom"


class _Once:
    """One view as a collector."""

    def __init__(
        self, assessment: Assessment, status: metrics.AgentStatus, wanted: frozenset[Collector]
    ) -> None:
        self._view = assessment, status, wanted

    def collect(self) -> Iterable[Metric]:
        return metrics.collect(*self._view)

    def describe(self) -> Iterable[Metric]:
        return metric_families.describe()


def render_textfile(
    assessment: Assessment, status: metrics.AgentStatus, wanted: frozenset[Collector]
) -> bytes:
    """The agent's own metrics as text; none of its process, for node_exporter has those of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(assessment, status, wanted))
    return generate_latest(registry)


def check_name(path: str) -> None:
    """Refuse a name that the collector would pass over.

    Raises:
        AgentError: it does not end in ``.prom``, or is hidden.
    """
    name = os.path.basename(path)  # noqa: PTH119  split as write_whole() does
    if not name.endswith(SUFFIX) or name.startswith("."):
        raise AgentError(
            f"{path} is no file that node_exporter reads",
            hint="give a name such as /var/lib/prometheus/node-exporter/tdx-headroom.prom",
            status=os.EX_USAGE,
        )
