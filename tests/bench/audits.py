# SPDX-License-Identifier: Apache-2.0
"""An audit of very many captures, hostile ones among them: its memory, and how soon it ends at Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

from tests.bench.captures import HOSTS, capture
from tests.bench.programs import PYTHON
from tests.bench.table import Row
from tests.faults.test_hostile_archives import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD = 100
EVERY = 0.2
"""Seconds between two looks at what the processes take."""


def audits(few: int, many: int) -> Iterator[Row]:
    """The most memory of all processes together, for few and for many captures; then an audit cut short.

    Args:
        few, many: captures; the hostile ones come on top of the latter.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = [capture(folder, host) for host in HOSTS]
        most = {}
        for count in (few, many):
            inputs = folder / str(count)
            inputs.mkdir()
            for number in range(count):
                os.link(one[number % len(one)], inputs / f"{number:06}.tar.gz")
            if count == many:
                _hostile(inputs, many)
            most[count] = _most_memory(inputs)
        against = f"{few} captures"
        what = f"fleet, {many} captures and {BAD} hostile, memory"
        yield Row(what, most[many] / 2**20, most[few] / 2**20, against, "MiB", 1.05)
        yield Row("fleet, the same, Ctrl-C to the end", _end(inputs), None, "", "s", 1, of_ratio=False)


def _hostile(folder: Path, count: int) -> None:
    """Archives that are refused, spread over the others by name."""
    kinds = [data for data, _ in HOSTILE.values()]
    for number in range(BAD):
        path = folder / f"{number * count // BAD:06}-hostile-{number}.tar"
        path.write_bytes(kinds[number % len(kinds)])


def _start(folder: Path, out: int | IO[bytes]) -> subprocess.Popen[bytes]:
    command = [PYTHON, "-m", "tdx_headroom", "fleet", str(folder), "--format", "csv", "--jobs", "2"]
    return subprocess.Popen(
        command,
        stdout=out,
        stderr=subprocess.DEVNULL,
        # A shell lets what it runs in the background ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  one thread
    )


def _most_memory(folder: Path) -> int:
    """Bytes, seen from outside while the audit runs."""
    most = 0
    with tempfile.TemporaryFile() as out:
        process = _start(folder, out)
        while process.poll() is None:
            most = max(most, _memory(psutil.Process(process.pid)))
            time.sleep(EVERY)
        if process.returncode not in (os.EX_OK, os.EX_DATAERR):
            raise AssertionError(f"the audit ended with {process.returncode}")
    return most


def _memory(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _end(folder: Path) -> float:
    """Seconds from Ctrl-C, in the middle of an audit, until no process is left."""
    process = _start(folder, subprocess.PIPE)
    assert process.stdout
    for _ in range(10):
        process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.wait()
    psutil.wait_procs(children)
    return time.perf_counter() - began
