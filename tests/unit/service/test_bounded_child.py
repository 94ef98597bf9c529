# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tdx_headroom.service import bounded_child, earlier_boots
from tdx_headroom.service.bounded_child import Ended, TooMuchOutput, run_child

SECONDS = 60.0


def run(script: str, seconds: float = SECONDS, most: int = 1 << 20) -> tuple[Ended, bytes]:
    output: list[bytes] = []
    command = ["/bin/sh", "-c", f"PATH=/usr/bin:/bin; {script}"]
    ended = asyncio.run(run_child(command, output.append, seconds=seconds, most=most))
    return ended, b"".join(output)


def is_gone(pid: int) -> bool:
    """Also where nobody has waited for it: a child of a child is init's to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + SECONDS
    while not is_gone(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_output_errors_and_status() -> None:
    """They are what the program has given."""
    assert run("echo a; echo b >&2; exit 3") == (Ended(3, "b\n"), b"a\n")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exec yes", TooMuchOutput),
        ("exec cat /dev/zero", TooMuchOutput),
        ("sleep 600 & echo $! >>{pids}; exec sleep 600", TimeoutError),
        # One that it has started holds its output and its errors open.
        ("sleep 600 & echo $! >>{pids}", TimeoutError),
    ],
)
def test_what_does_not_end(script: str, error: type[Exception], tmp_path: Path) -> None:
    """It is ended together with what it has started, and what it printed was never held in memory."""
    pids = tmp_path / "pids"
    tracemalloc.start()
    try:
        with pytest.raises(error):
            run(f"echo $$ >{pids}; " + script.format(pids=pids), seconds=60 if error is TooMuchOutput else 1)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    for pid in pids.read_text().split():
        wait_until_gone(int(pid))


def test_errors_without_end() -> None:
    """They are read, so that it does not stand still, and only the beginning is kept."""
    tracemalloc.start()
    try:
        ended, output = run("yes | head -c 8000000 >&2; echo done")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert (ended.status, output) == (0, b"done\n")
    assert ended.said == "y\n" * (bounded_child.MAX_SAID // 2)


def test_another_process_with_its_number_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has been waited for, whoever has its number is not the child."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda *_: None)
    monkeypatch.setattr(os, "killpg", lambda pid, _: killed.append(pid))
    assert run("exit 0")[0].status == 0
    assert killed == []


def test_what_takes_its_output_may_refuse_it(tmp_path: Path) -> None:
    """Then it is ended as well."""

    def refuse(_: bytes) -> None:
        raise ValueError("enough")

    pid = tmp_path / "pid"
    command = ["/bin/sh", "-c", f"echo $$ >{pid}; exec yes"]
    with pytest.raises(ValueError, match="enough"):
        asyncio.run(run_child(command, refuse, seconds=SECONDS, most=1 << 30))
    wait_until_gone(int(pid.read_text()))


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exec yes", "they are more than 1 MiB"),
        ("echo no; echo why >&2; exit 1", "why"),
        ("kill -9 $$", "the process that reads them ended with status -9"),
        (None, "no process to read them: No such file or directory"),
    ],
)
def test_earlier_boots_that_cannot_be_read(
    script: str | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None are known, and one line says why, whatever becomes of the process."""
    command = ["/nowhere"] if script is None else ["/bin/sh", "-c", script]
    monkeypatch.setattr(earlier_boots, "child_command", lambda *_: command)
    monkeypatch.setattr(earlier_boots, "MAX_OUTPUT", 1 << 20)
    with capture_logs() as logs:
        assert asyncio.run(earlier_boots.earlier_boots()) == []
    assert [(line["event"], line["error"]) for line in logs] == [("earlier boots are not known", problem)]
