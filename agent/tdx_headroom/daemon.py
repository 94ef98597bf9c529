# SPDX-License-Identifier: Apache-2.0
"""The daemon: reads the host when something may have changed, and serves the result."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from tdx_headroom import __version__, log
from tdx_headroom.assessment import assess
from tdx_headroom.host import read_facts
from tdx_headroom.output import metrics
from tdx_headroom.verdict import State
from tdx_headroom.web.server import WebServer
from tdx_headroom.whatif import UNCHANGED, WhatIf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tdx_headroom.assessment import Assessment
    from tdx_headroom.root import Root
    from tdx_headroom.web.settings import WebSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve.

    Args:
        web: how to serve over HTTP.
        refresh_interval: seconds between two looks at the host when nothing else asks for one.
        exporter_metrics: whether to export metrics about the agent's process.
        what_if: the operator's word on the kernel's strategy.
    """

    web: WebSettings
    refresh_interval: float = 60.0
    exporter_metrics: bool = True
    what_if: WhatIf = UNCHANGED


class Agent:
    """Holds the current view of the host; a refresh swaps it, a scrape renders it."""

    def __init__(self, root: Root, what_if: WhatIf = UNCHANGED) -> None:
        self._root = root
        self._what_if = what_if
        self._log = log.get()
        self.assessment: Assessment | None = None
        self._health: metrics.Health | None = None
        self._failing: frozenset[str] | None = None

    @property
    def stale(self) -> bool:
        """Whether a later attempt to assess has failed."""
        return self._health is not None and self._health.stale

    def refresh(self) -> None:
        """Read the host and assess it anew; on failure the last good assessment stays, marked stale."""
        began = time.perf_counter()
        try:
            assessment = assess(read_facts(self._root), self._what_if)
        except Exception as error:  # noqa: BLE001  whatever it is, what was known must keep being served
            self._mark_stale(error)
            return
        previous = self._health
        now = time.time()
        read_at = dict(previous.read_at) if previous else {}
        read_at |= {source.source: now for source in assessment.facts.sources if source.ok}
        log_health = assessment.facts.log_health
        self._health = metrics.Health(
            assessed_at=now,
            duration=time.perf_counter() - began,
            read_at=tuple(read_at.items()),
            records_lost=max(previous.records_lost if previous else 0, log_health.lost if log_health else 0),
            records_untrusted=max(
                previous.records_untrusted if previous else 0, log_health.untrusted if log_health else 0
            ),
        )
        changed = self.assessment is None or self.assessment.verdict != assessment.verdict
        self.assessment = assessment
        self._report(assessment, changed=changed)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client: the current view as metrics."""
        return metrics.collect(self.assessment, self._health)

    def describe(self) -> Iterable[Metric]:
        """For prometheus_client: all families that there can be."""
        return metrics.describe()

    def _mark_stale(self, error: Exception) -> None:
        self._log.error("assessment failed, the last one stays", error=repr(error))
        if self._health is not None:
            self._health = metrics.stale(self._health)

    def _report(self, assessment: Assessment, *, changed: bool) -> None:
        """Log what could and could not be read, and the verdict, when either has changed."""
        facts = assessment.facts
        failing = frozenset(source.error or "" for source in facts.sources if not source.ok)
        if failing != self._failing:
            self._failing = failing
            for source in facts.sources:
                if source.ok:
                    self._log.info("source read", source=source.source, origin=source.origin)
                else:
                    self._log.warning("source failed", source=source.source, error=source.error)
        if changed:
            verdict = assessment.verdict
            bad = verdict.state in (State.FAILED, State.WILL_FAIL)
            say = self._log.warning if bad else self._log.info
            say("verdict", state=str(verdict.state), strategy=str(verdict.strategy), summary=verdict.summary)


def serve(root: Root, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the host anew.

    Raises:
        AgentError: an address cannot be bound.
    """
    asyncio.run(_serve(root, settings))


async def _serve(root: Root, settings: Settings) -> None:
    logger = log.get()
    logger.info("starting", version=__version__, root=root.path)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    agent = Agent(root, settings.what_if)
    wake = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, wake.set)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(agent)
    if settings.exporter_metrics:
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
    server = WebServer(agent, registry, settings.web)
    urls = server.listen()
    agent.refresh()
    for url in urls:
        logger.info("serving", url=url)
    refreshing = asyncio.create_task(_refresh_forever(agent, wake, settings.refresh_interval))
    await stop.wait()
    refreshing.cancel()
    await server.stop()
    logger.info("stopped")


async def _refresh_forever(agent: Agent, wake: asyncio.Event, interval: float) -> None:
    """The slow timer, and what wakes it early."""
    while True:
        try:
            async with asyncio.timeout(interval):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
        agent.refresh()
