# SPDX-License-Identifier: Apache-2.0
"""Processes that share work: order, and what becomes of one that does not come to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tdx_headroom.commands.workers import Done, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def results(
    work: Callable[[int], object], tasks: range, jobs: int = 2, seconds: float = 60.0
) -> list[Done[object]]:
    with Workers(work, jobs, seconds, lambda _: False) as workers:
        return [done for _, done in workers.each(tasks)]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_order(jobs: int) -> None:
    """Results come in the order of the things, however long each takes, and with what was said of it."""

    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        print(f"at {number}", file=sys.stderr)
        return number * number

    done = results(work, range(20), jobs)
    assert [one.result for one in done] == [number * number for number in range(20)]
    assert [one.said for one in done] == [f"at {number}\n" for number in range(20)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed(number: signal.Signals) -> None:
    """It costs the one thing that it was at, and says how it ended."""

    def work(task: int) -> int:
        if task in (3, 4):
            os.kill(os.getpid(), number)
        return task

    done = results(work, range(8))
    assert [one.result for one in done] == [0, 1, 2, None, None, 5, 6, 7]
    assert done[3].ended == f"the process that was at it was ended by {number.name}"


def test_a_process_that_hangs() -> None:
    """It is ended when its time is up, with what it has started, and the others go on."""

    def work(task: int) -> int:
        if task == 1:
            subprocess.run(["sh", "-c", "exec sleep 1000.25"], check=False)
        return task

    done = results(work, range(6), seconds=1.0)
    assert [one.result for one in done] == [0, None, 2, 3, 4, 5]
    assert done[1].ended == "it took longer than 1 s"
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "1000.25"]]


def test_a_process_that_leaves() -> None:
    """One that ends by itself, whatever it says, is told from one that has an answer."""

    def work(task: int) -> int:
        if task == 2:
            raise SystemExit(3)
        return task

    done = results(work, range(4))
    assert [one.result for one in done] == [0, 1, None, 3]
    assert done[2].ended == f"the process that was at it has ended with {os.EX_SOFTWARE}"


def test_no_more_is_begun_than_will_be_asked_for() -> None:
    """However many things there are, only a few are taken from the list before the first result is."""
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    workers: Workers[int, int] = Workers(lambda task: task, 2, 60.0, lambda _: False)
    with workers:
        each = workers.each(tasks())
        assert next(each)[0] == 0
        assert len(taken) < 10
        assert [task for task, _ in each] == list(range(1, 1000))


def test_no_process_without_need() -> None:
    """What is short is done here."""
    workers: Workers[int, int] = Workers(lambda _: os.getpid(), 2, 60.0, lambda _: True)
    with workers:
        assert {done.result for _, done in workers.each(range(5))} == {os.getpid()}


def test_nobody_stays() -> None:
    """Who stops in the middle leaves no process behind, whatever they are at."""
    # Other tests may have processes that stay, such as multiprocessing's forkserver.
    others = set(psutil.Process().children())
    workers: Workers[int, None] = Workers(lambda task: time.sleep(1000 * task), 3, 1000.0, lambda _: False)
    with workers:
        assert next(workers.each(range(3)))[0] == 0
        assert len(set(psutil.Process().children()) - others) == 3
    assert set(psutil.Process().children()) <= others
