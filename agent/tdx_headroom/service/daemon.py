# SPDX-License-Identifier: Apache-2.0
"""The daemon: waits for something that may have changed the host, has it read, and serves the result."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from tdx_headroom import __version__, log
from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH
from tdx_headroom.inputs.earlier import earlier_in_root
from tdx_headroom.service.agent import Agent
from tdx_headroom.service.boot_before import tdx_of_boot_before
from tdx_headroom.service.earlier_boots import earlier_boots
from tdx_headroom.service.folder_watch import FolderWatch
from tdx_headroom.service.live_log import LiveLog
from tdx_headroom.service.notify import Notifier
from tdx_headroom.service.state import MAX_BOOTS, State
from tdx_headroom.service.state_file import FolderLock, StateFile
from tdx_headroom.sources.machine import machine_marks
from tdx_headroom.sources.platform import read_boot_id
from tdx_headroom.sources.uevents import drain, open_uevents
from tdx_headroom.verdict.what_if import UNCHANGED, WhatIf
from tdx_headroom.web.server import WebServer

Learnt = TypeVar("Learnt")

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from tdx_headroom.boots.source import BootSource
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.web.settings import WebSettings

MIN_GAP = 0.05
"""Seconds between two looks at the host, however fast things change."""

REST = 4.0
"""The same, in times the work of the last one: under a flood they take a fifth of a processor, no more."""

MAX_GAP = 5.0

SETTLE = 0.1
"""Seconds to let a burst of memory events come to its end: a GiB is eight blocks or more."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve.

    Args:
        web: how to serve over HTTP.
        refresh_interval: seconds between two looks at the host when nothing else asks for one.
        exporter_metrics: whether to export metrics about the agent's process.
        what_if: the operator's word on the kernel's strategy.
        state_directory: where to keep what was learnt from the log; None: nowhere.
        boots: tells of boot entries; None: nobody looks for them.
    """

    web: WebSettings
    refresh_interval: float = 60.0
    exporter_metrics: bool = True
    what_if: WhatIf = UNCHANGED
    state_directory: str | None = None
    boots: BootSource | None = None


def serve(root: HostFiles, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the host again.

    Raises:
        AgentError: an address cannot be bound, or something went wrong that must not.
    """
    asyncio.run(_serve(root, settings))


async def _serve(root: HostFiles, settings: Settings) -> None:
    logger = log.get()
    logger.info("starting", version=__version__, root=root.path)
    stop, wake = asyncio.Event(), asyncio.Event()
    # Whatever was started is ended the other way round, also when a later step fails.
    async with contextlib.AsyncExitStack() as at_end:
        notifier = _answer_signals(stop, wake)
        at_end.callback(notifier.close)
        state_file, state = _load_state(root, settings)
        if state_file is not None:
            at_end.callback(state_file.close)
        restored = (state.current.records, state.current.last_seq) if state.current else ((), None)
        live = LiveLog(root, restored)
        agent = Agent(
            root, settings.what_if, live=live, state=state, state_file=state_file, boots=settings.boots
        )
        server = WebServer(agent, _registry(settings), settings.web)
        at_end.push_async_callback(server.stop)
        urls = server.listen()
        at_end.enter_context(_following_uevents(wake))
        folder = os.path.dirname(root.locate(INVENTORY_PATH))  # noqa: PTH120  a root in memory has no Path
        watch = at_end.enter_context(FolderWatch(folder, asyncio.get_running_loop(), wake.set))
        at_end.callback(live.close)
        at_end.callback(agent.close)
        tasks: list[asyncio.Task[None]] = []
        if await _done_before(stop, live.start(asyncio.get_running_loop(), wake.set)):
            if live.mismatch is not None:
                agent.forget(live.mismatch)
            # Only now it is known what is left of what was kept.
            state = agent.state
            agent.refresh()
            for url in urls:
                logger.info("serving", url=url)
            notifier.ready(agent.status)
            if root.live and state_file is not None and state.tdx_before is None:
                _start(at_end, _learn("the boot before", tdx_of_boot_before, agent.had_tdx))
            if root.live and state_file is not None and state.is_first_in_boot:
                _start(at_end, _learn("earlier boots", earlier_boots, agent.had_boots))
            loop = _refresh_forever(agent, wake, settings.refresh_interval, notifier, watch)
            tasks.append(_start(at_end, loop))
            if notifier.watchdog_interval is not None:
                tasks.append(_start(at_end, _feed_watchdog(notifier, notifier.watchdog_interval)))
        failure = await _wait(stop, tasks)
        notifier.stopping()
    logger.info("stopped")
    if failure is not None:
        log.failure("the agent ends by an error", failure)
        raise AgentError(
            f"internal error: {failure!r}", hint="please report it with the log", status=os.EX_SOFTWARE
        )


def _answer_signals(stop: asyncio.Event, wake: asyncio.Event) -> Notifier:
    """Let signals set these events; returns what tells systemd that a reload has begun."""
    loop = asyncio.get_running_loop()
    notifier = Notifier()

    def reload() -> None:
        notifier.reloading()
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return notifier


def _start(at_end: contextlib.AsyncExitStack, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """Work in the background until the end."""
    task = asyncio.create_task(work)
    at_end.callback(task.cancel)
    return task


async def _learn(what: str, ask: Callable[[], Awaitable[Learnt]], tell: Callable[[Learnt], None]) -> None:
    """Once, by an agent that was not there: no task that the agent ends with."""
    try:
        learnt = await ask()
    except Exception as error:  # noqa: BLE001  whatever it is, the agent serves on without it
        log.failure(f"{what} cannot be looked at", error)
    else:
        tell(learnt)


async def _done_before(stop: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Whether the work was done before the end; the end does not wait for it."""
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if working.done():
        await working
        return True
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return False


async def _wait(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> BaseException | None:
    """Wait for the end; why it is none of the user's, if it is not.

    Without the task that reads the host the agent would go on to serve what was true once, as if it were now.
    """
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    return next((task.exception() for task in done if task is not stopped), None)


def _registry(settings: Settings) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    if settings.exporter_metrics:
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
    return registry


def _earlier_unread(why: str) -> None:
    log.get().warning("earlier boots are not known", error=why)


def _load_state(root: HostFiles, settings: Settings) -> tuple[StateFile | None, State]:
    """What was kept before, seen from this boot."""
    if not root.live and settings.state_directory is None:
        earlier = earlier_in_root(root, _earlier_unread)
        return None, State(history=tuple(earlier[-MAX_BOOTS:]))
    boot_id = read_boot_id(root)
    if settings.state_directory is None or boot_id is None:
        return None, State()
    state_file = StateFile(settings.state_directory, FolderLock(settings.state_directory))
    state, problem = state_file.load()
    if problem is not None:
        log.get().error("the state kept before cannot be used", problem=problem)
    mine = state.on_machine(machine_marks(root)) if root.live else state
    if state.machine and mine.current is not state.current:
        log.get().warning("the state kept before is another machine's: it is not used")
    return state_file, mine.for_boot(boot_id)


@contextlib.contextmanager
def _following_uevents(wake: asyncio.Event) -> Iterator[None]:
    """Wake up when memory was added, removed or changed its state, once its burst of events is over."""
    opened = open_uevents()
    if opened is None:
        log.get().info("no kernel uevents here: changes of memory are noticed by the timer")
        yield
        return
    loop = asyncio.get_running_loop()
    pending: list[asyncio.TimerHandle] = []

    def settled() -> None:
        pending.clear()
        wake.set()

    def on_readable() -> None:
        if drain(opened) and not pending:
            pending.append(loop.call_later(SETTLE, settled))

    with opened:
        loop.add_reader(opened, on_readable)
        try:
            yield
        finally:
            loop.remove_reader(opened)


async def _feed_watchdog(notifier: Notifier, interval: float) -> None:
    """From the event loop itself: a loop that hangs feeds nobody."""
    while True:
        notifier.watchdog()
        await asyncio.sleep(interval)


async def _refresh_forever(
    agent: Agent, wake: asyncio.Event, interval: float, notifier: Notifier, watch: FolderWatch
) -> None:
    """Refresh when woken, and by the slow timer when not; between two of them, write the state that waits."""
    loop = asyncio.get_running_loop()
    next_look = loop.time() + interval
    rested = 0.0
    while True:
        write = agent.seconds_until_write
        left = max(0.0, next_look - loop.time())
        try:
            async with asyncio.timeout(left if write is None else min(left, write)):
                await wake.wait()
        except TimeoutError:
            if loop.time() < next_look:
                agent.write_state()
                continue
        # Only what comes too soon waits for it: with nothing to do the agent sleeps through.
        if (early := rested - loop.time()) > 0:
            await asyncio.sleep(early)
        wake.clear()
        began = time.thread_time()
        watch.renew()
        agent.refresh()
        notifier.reloaded(agent.status)
        notifier.status(agent.status)
        rested = loop.time() + min(MAX_GAP, max(MIN_GAP, REST * (time.thread_time() - began)))
        next_look = loop.time() + interval
