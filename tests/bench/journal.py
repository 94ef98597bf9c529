# SPDX-License-Identifier: Apache-2.0
"""An agent's first start on a host with a long journal: `make journal-bench`.

systemd-journal-remote writes a journal of many boots, most of it of user space, and journalctl reads it as if
it were this host's. An agent whose journal is empty stands beside the one that learns all boots from it: when
each is ready, what the processes that read it hold meanwhile, and what both do afterwards while nobody asks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.__main__ import machine
from tests.bench.programs import REQUEST, THIS_HOST, Client, agent, running, status, wakeups
from tests.bench.table import Row, render
from tests.tools.journal_files import WRITER, put_first, write_journal
from tests.tools.ports import free_port
from tests.unit.history.journals import Boot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.programs import Program

BOOTS = 60
KERNEL_SHARE = 6
"""Of so many entries one is the kernel's."""

ENTRY_SIZE = 510
"""About so many bytes of the file an entry takes."""

SECONDS = 60.0
MEBIBYTES = 64.0
PLAIN = REQUEST.replace(b"gzip", b"identity").replace(b"application/openmetrics-text", b"x/x")
EMPTY = "empty journal"


def main() -> int:
    """Measure it, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=500, help="of the journal's files")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each agent")
    parser.add_argument("--idle", type=float, default=60, help="seconds in which nobody asks")
    options = parser.parse_args()
    if os.geteuid() != 0 or not WRITER.exists() or shutil.which("journalctl") is None:
        print("journal-bench needs root, and: apt-get install systemd-journal-remote", file=sys.stderr)
        return os.EX_UNAVAILABLE
    with tempfile.TemporaryDirectory(prefix="tdx-headroom-journal-") as scratch:
        folder = Path(scratch)
        print("writing the journal ...", file=sys.stderr, flush=True)
        full = _Host(folder / "full")
        empty = _Host(folder / "empty")
        write_journal(full.journal / "system.journal", entries(options.megabytes << 20))
        size = sum(path.stat().st_size for path in full.journal.iterdir())
        rows = list(measure(full, empty, options.rounds, options.idle))
    print(f"{machine()}; {size / 1e6:.0f} MB of journal, {BOOTS} boots")
    print()
    print(render(rows))
    return 0


class _Host:
    """A journal, and states of agents that read it.

    Args:
        folder: for all of it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._starts = 0
        self.journal, self._programs = put_first(folder)

    @contextlib.contextmanager
    def first_start(self) -> Iterator[Program]:
        """An agent that has never run on this host, answering."""
        self._starts += 1
        state = self._folder / f"state-{self._starts}"
        state.mkdir()
        port = free_port()
        more = (*THIS_HOST, "--state-directory", str(state), "--user", "root")
        path = os.environ["PATH"]
        command = ["/usr/bin/env", f"PATH={self._programs}:{path}", *agent(port, *more)]
        with running(command, port, root=True) as program:
            yield program


class _Learnt(NamedTuple):
    """What it took to learn all boots.

    Args:
        seconds: from the start of the agent.
        cpu_seconds: of all that read, as far as it was seen.
        child: MiB resident at most in the process that makes records of them.
        readers: MiB that the journalctls had of their own at most, together: not what they show of the files.
    """

    seconds: float
    cpu_seconds: float
    child: float
    readers: float


def measure(full: _Host, empty: _Host, rounds: int, idle: float) -> Iterator[Row]:
    """All rows."""
    ready: dict[_Host, list[float]] = {full: [], empty: []}
    learnt = []
    for number in range(rounds):
        print(f"start {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
        for host in (full, empty):
            with host.first_start() as program:
                ready[host].append(program.ready_seconds * 1e3)
                if host is full:
                    learnt.append(_learn(program))
    with full.first_start() as one, empty.first_start() as other:
        _learn(one)
        held, peer_held = (status(program.pid, "VmRSS") / 1024 for program in (one, other))
        peak, peer_peak = (status(program.pid, "VmHWM") / 1024 for program in (one, other))
        print(f"idle for {idle:g} s ...", file=sys.stderr, flush=True)
        time.sleep(2)
        before = [wakeups(program.pid) for program in (one, other)]
        time.sleep(idle)
        woken, peer_woken = (
            wakeups(program.pid) - count for program, count in zip((one, other), before, strict=True)
        )

    own, peer = (statistics.median(ready[host]) for host in (full, empty))
    yield Row("first start to first answer", own, peer, EMPTY, "ms")
    own = statistics.median(found.seconds for found in learnt)
    yield Row("first start to whole history", own, None, "", "s", SECONDS, of_ratio=False)
    own = statistics.median(found.cpu_seconds for found in learnt)
    yield Row("CPU of reading the journal", own, None, "", "s")
    own = max(found.child for found in learnt)
    yield Row("most memory, process that reads", own, None, "", "MiB", MEBIBYTES, of_ratio=False)
    own = max(found.readers for found in learnt)
    yield Row("most memory, journalctl's own", own, None, "", "MiB")
    yield Row("memory of the agent afterwards", held, peer_held, EMPTY, "MiB")
    yield Row("most memory of the agent", peak, peer_peak, EMPTY, "MiB")
    yield Row(f"idle wake-ups in {idle:g} s", woken, peer_woken, EMPTY, "")


def _learn(program: Program) -> _Learnt:
    """Wait until the agent has all boots, and look at the processes that it has started meanwhile."""
    client = Client(program.port)
    began = time.perf_counter() - program.ready_seconds
    cpu = child = readers = asked = 0.0
    while True:
        now = time.perf_counter()
        if now - asked > 0.5:
            asked = now
            if _recorded(client) > BOOTS:
                return _Learnt(time.perf_counter() - began, cpu, child, readers)
        if now - began > 2 * SECONDS:
            raise RuntimeError("the boots of the journal are not learnt")
        own = 0.0
        for process in psutil.Process(program.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError, KeyError):
                if process.name() == "journalctl":
                    own += status(process.pid, "RssAnon") / 1024
                else:
                    child = max(child, status(process.pid, "VmHWM") / 1024)
                    # The journalctls that have ended count in it; the one that names the boots ends last.
                    cpu = max(cpu, sum(process.cpu_times()[:4]))
        readers = max(readers, own)
        time.sleep(0.05)


def _recorded(client: Client) -> float:
    body = client.scrape(PLAIN).partition(b"\r\n\r\n")[2].decode()
    families = text_string_to_metric_families(body)
    return next((s.value for f in families for s in f.samples if s.name == "tdx_recorded_boots"), 0.0)


def entries(size: int) -> Iterator[dict[str, str]]:
    """Entries of all boots, of which the files take about so many bytes."""
    chance = random.Random(1)
    texts = [chance.randbytes(30).hex() for _ in range(4096)]
    each = size // ENTRY_SIZE // BOOTS
    for number in range(BOOTS):
        boot = Boot(number + 1, holes=9 + number % 4)
        yield from boot.entries()
        for i in range(each):
            time_since = 10**6 + 20_000 * i
            if i % KERNEL_SHARE == 0:
                yield boot.entry(f"eth{i % 4}: {chance.choice(texts)} {i}", time_since)
            else:
                text = " ".join(chance.choices(texts, k=3))
                entry = boot.entry(f"{i} {text}", time_since, "3")
                unit = f"daemon{i % 50}"
                more = {"_COMM": unit, "_SYSTEMD_UNIT": f"{unit}.service", "_PID": str(1000 + i % 20_000)}
                yield entry | more | {"_TRANSPORT": "syslog"}


if __name__ == "__main__":
    sys.exit(main())
