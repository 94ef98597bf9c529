# SPDX-License-Identifier: Apache-2.0
"""Work on many things by a few processes, each of which has one at a time; the results come in order.

``concurrent.futures.ProcessPoolExecutor`` and ``multiprocessing.Pool`` are no help here: where one of their
processes is killed, the former breaks the others' work off, and the latter waits for its result without end.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import redirect_stderr, suppress
from io import StringIO
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkProcess
    from types import TracebackType

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 3
"""So many things a process may be begun before the first of all is done: their results take memory."""
_GRACE = 0.3


class Done(NamedTuple, Generic[Result]):
    """What became of one thing.

    Args:
        result: of the work; None where there is none.
        said: what the work has written to standard error.
        ended: how the process ended that was at it, a clause; None where it has come to its end.
    """

    result: Result | None = None
    said: str = ""
    ended: str | None = None


class _Place(Generic[Task, Result]):
    """The place of one thing in the order."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.own = False
        self.done: Done[Result] | None = None


class _Worker(Generic[Task, Result]):
    """One process, and what it is at."""

    def __init__(self, process: ForkProcess, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.place: _Place[Task, Result] | None = None
        self.until = 0.0

    def end(self, number: int) -> None:
        """Send a signal to the process and to those that it has started."""
        try:
            os.killpg(self.process.pid or 0, number)
        except OSError:
            # It has no group yet, or nobody is left in it.
            self.process.kill()


class Workers(Generic[Task, Result]):
    """Processes that are copies of this one, started when there is something for them to do.

    Args:
        work: what each does with a thing that it is given; what it returns is pickled.
        jobs: how many processes.
        seconds: how long one thing may take.
        is_short: whether a thing is done sooner than given away.
    """

    def __init__(
        self, work: Callable[[Task], Result], jobs: int, seconds: float, is_short: Callable[[Task], bool]
    ) -> None:
        self._work = work
        self._is_short = is_short
        self._jobs = jobs
        self._seconds = seconds
        self._workers: list[_Worker[Task, Result]] = []

    def __enter__(self) -> Workers[Task, Result]:
        """Nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes, at once if they do not end by themselves."""
        for worker in self._workers:
            worker.end(signal.SIGTERM)
        until = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            worker.end(signal.SIGKILL)
            worker.process.join()
            worker.connection.close()

    def each(
        self, tasks: Iterable[Task], ready: Callable[[], bool] = lambda: True
    ) -> Iterator[tuple[Task, Done[Result]]]:
        """What becomes of every thing, in order. While one is looked at, another call may be made for others.

        Args:
            tasks: the things.
            ready: whether the next of them can be had without waiting for it; where not, it is asked for when
                all before it are done.
        """
        rest = iter(tasks)
        places: deque[_Place[Task, Result]] = deque()
        more = True
        while True:
            while more and self._has_room() and len(places) < _AHEAD * self._jobs and (not places or ready()):
                try:
                    place: _Place[Task, Result] = _Place(next(rest))
                except StopIteration:
                    more = False
                else:
                    places.append(place)
                    if self._is_short(place.task):
                        place.own = True
                    else:
                        self._give(place)
            if not places and not more:
                return
            if places and places[0].done is not None:
                first = places.popleft()
                yield first.task, first.done or Done()
            elif places and places[0].own:
                places[0].done = Done(self._work(places[0].task))
            else:
                self._wait()

    def _has_room(self) -> bool:
        return len(self._workers) < self._jobs or any(worker.place is None for worker in self._workers)

    def _give(self, place: _Place[Task, Result]) -> None:
        worker = next((worker for worker in self._workers if worker.place is None), None) or self._start()
        worker.place = place
        worker.until = time.monotonic() + self._seconds
        # One that has died meanwhile is found dead when its answer is read.
        with suppress(OSError):
            worker.connection.send(place.task)

    def _start(self) -> _Worker[Task, Result]:
        # These take a while, and who has one input needs none of them.
        from multiprocessing import get_context  # noqa: PLC0415

        from tdx_headroom.service.capabilities import end_with_parent  # noqa: PLC0415

        context = get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [ours, *(worker.connection for worker in self._workers)]
        process = context.Process(
            target=_serve,
            args=(self._work, theirs, inherited, os.getpid(), end_with_parent),
            daemon=True,
        )
        # Until it ignores it, Ctrl-C would be answered by the process too, with a traceback.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        theirs.close()
        worker: _Worker[Task, Result] = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _wait(self) -> None:
        """Take what comes next: answers, processes that have ended, and those that take too long."""
        from multiprocessing.connection import wait  # noqa: PLC0415  as above

        busy = {worker.connection: worker for worker in self._workers if worker.place is not None}
        now = time.monotonic()
        left = max(0.0, min(worker.until for worker in busy.values()) - now)
        answered = wait([*busy], left)
        for connection in answered:
            worker = busy[cast("Connection", connection)]
            try:
                done: Done[Result] = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker, None)
            else:
                if worker.place is not None:
                    worker.place.done = done
                worker.place = None
        if not answered:
            for worker in busy.values():
                if worker.until <= time.monotonic():
                    self._bury(worker, f"it took longer than {self._seconds:g} s")

    def _bury(self, worker: _Worker[Task, Result], why: str | None) -> None:
        """Do without a process from here on."""
        worker.end(signal.SIGKILL)
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        if worker.place is not None:
            worker.place.done = Done(ended=why or _how_ended(worker.process.exitcode))


def _how_ended(status: int | None) -> str:
    if status is None or status >= 0:
        return f"the process that was at it has ended with {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"the process that was at it was ended by {name}"


def _serve(
    work: Callable[[Task], Result],
    connection: Connection,
    inherited: Iterable[Connection],
    parent: int,
    end_with_parent: Callable[[int], None],
) -> None:
    """What a process does: work until there is nothing more, or nobody to work for."""
    # A group of its own: a terminal's Ctrl-C is the parent's business, which ends it with all it has started.
    os.setpgid(0, 0)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return
    for other in inherited:
        other.close()
    # What had been set up for the parent would be no answer of a process that is told to end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        while True:
            task = connection.recv()
            with redirect_stderr(StringIO()) as said:
                result = work(task)
            connection.send(Done(result, said.getvalue()))
    except (EOFError, OSError):
        return
    except BaseException:  # noqa: BLE001  whatever it is: the parent says what it was at, and no traceback does
        os._exit(os.EX_SOFTWARE)
