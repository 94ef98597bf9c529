# SPDX-License-Identifier: Apache-2.0
"""Faults that no file can have, and an agent that is killed again and again."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service.agent import Agent
from tdx_headroom.service.state_file import StateFile
from tests.integration.agent import agent
from tests.integration.recorded import record
from tests.tools.ports import free_port

HOST = Path(__file__).parents[1] / "hosts" / "good-2-node"


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EPERM])
def test_a_read_that_fails(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An errno that no test can provoke: the source fails by name, the others serve, and it comes back."""
    real = os.pread
    broken = Root(HOST).locate("proc/iomem")

    def pread(fd: int, size: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{fd}").resolve() == Path(broken).resolve():
            raise OSError(number, os.strerror(number))
        return real(fd, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", pread)
        facts = read_facts(Root(HOST))
    failed = [source for source in facts.sources if not source.ok]
    assert [source.source for source in failed] == ["iomem"]
    assert os.strerror(number) in (failed[0].error or "")
    assert facts.memory_regions is not None
    assert all(source.ok for source in read_facts(Root(HOST)).sources)
    record(
        f"{errno.errorcode[number]} in the middle of a read (`/proc/iomem`)",
        "names it, plans with what is left",
    )


def test_short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that gives a few bytes at a time is read whole all the same."""
    whole = read_facts(Root(HOST))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: real(fd, min(size, 997), offset))
    assert read_facts(Root(HOST)) == whole
    record("reads that give a few bytes at a time", "reads each file to its end", "not needed")


def test_the_clock_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes back a year changes a timestamp and no duration."""
    watched = Agent(Root(HOST))
    watched.refresh()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 365 * 86400)
    watched.refresh()
    values = {s.name: s.value for family in watched.collect() for s in family.samples}
    assert 0 <= values["tdx_headroom_assessment_duration_seconds"] < 60
    assert values["tdx_headroom_assessment_timestamp_seconds"] == now - 365 * 86400
    record("clock set back by a year", "shows the new time; durations are not measured with it", "not needed")


def test_an_assessment_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong inside, the last good view stays, marked stale, until it goes well again."""
    watched = Agent(Root(HOST))
    watched.refresh()
    good = watched.assessment

    def fails(*_: object) -> None:
        raise MemoryError("no")

    with monkeypatch.context() as patch:
        patch.setattr("tdx_headroom.service.agent.read_facts", fails)
        watched.refresh()
    assert watched.assessment is good
    stale = watched.stale
    watched.refresh()
    assert (stale, watched.stale) == (True, False)
    record("assessment that fails, whatever the reason", "serves the last good one, marked stale")


@pytest.mark.root("can read the kernel's log")
def test_killed_in_any_phase(tmp_path: Path) -> None:
    """kill -9 while it starts, reads, writes or serves: no corrupt state, no leftovers, no lost knowledge."""
    arguments = ["--state-directory", str(tmp_path), "--user", "root", "--refresh-interval", "20ms"]
    seed = random.Random(6)
    for _ in range(12):
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [sys.executable, "-m", "tdx_headroom", "serve", "--web.listen-address", address, *arguments],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seed.uniform(0.2, 1.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(tmp_path.glob("*.corrupt"))
    with agent("--state-directory", str(tmp_path)) as running:
        assert running.value("tdx_headroom_state_write_success") == 1
        assert running.value("tdx_memory_regions") is not None
    state, problem = StateFile(str(tmp_path)).load()
    assert problem is None
    assert state.current is not None
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    record("kill -9 at a random moment, twelve times", "finds its state whole, leaves no file behind")


FORGETFUL = """
import sys
from tdx_headroom.service import live_log
from tdx_headroom.cli import main

class RingBuffer:
    def __init__(self, book, root):
        self.book = book
    def read(self):
        return self.book.add(6, 500, 5000, "later"), False
    def close(self):
        pass

live_log.Follower = RingBuffer
sys.exit(main())
"""
"""The agent on a kernel's log that has forgotten its beginning, which no test can bring about here."""


def test_told_to_end_while_it_reads_the_journal(tmp_path: Path) -> None:
    """SIGTERM in the first reading ends it, however long the journal takes; half a log is not kept."""
    begun, state = tmp_path / "begun", tmp_path / "state"
    state.mkdir()
    journalctl = tmp_path / "journalctl"
    journalctl.write_text(f"#!/bin/sh\n: > {begun}\nPATH=/usr/bin:/bin\nsleep 60 & sleep 60\n")
    journalctl.chmod(0o755)
    arguments = [
        "serve",
        "--web.listen-address",
        f"127.0.61.1:{free_port()}",
        "--state-directory",
        str(state),
    ]
    keep_root = ["--user", "root"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [sys.executable, "-c", FORGETFUL, *arguments, *keep_root],
        env={**os.environ, "PATH": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while not begun.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        assert process.wait(60) == 0
        # 0.1 s here, 1 s at most; 10 on a machine that is busy with other things. The journal would take 20.
        assert time.monotonic() - told < 10
    finally:
        process.kill()
        process.wait()
    assert list(state.iterdir()) == []
    record(
        "SIGTERM while the journal is read at the start", "ends within 2 s, keeps nothing half", "not needed"
    )
