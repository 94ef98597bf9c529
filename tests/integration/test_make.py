# SPDX-License-Identifier: Apache-2.0
"""What a newcomer types first: the targets of the Makefile that run the agent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.agent import SECONDS

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """make, with a virtual environment that needs no set-up: the agent of this Python."""
    for name in ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"):
        # `make test ARGS=...` hands its own on to every make below.
        monkeypatch.delenv(name, raising=False)
    command = tmp_path / "bin/tdx-headroom"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tdx_headroom "$@"\n')
    command.chmod(0o755)
    (tmp_path / ".ready").touch()
    return ["make", "--no-print-directory", "-C", str(CHECKOUT), f"VENV={tmp_path}"]


@pytest.mark.program("make")
def test_make_plan(make: list[str]) -> None:
    """It prints this machine's plan; ARGS= are the command's options."""
    done = subprocess.run([*make, "plan"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\nSources\n" in done.stdout
    given = f"ARGS=--root {CHECKOUT / 'tests/hosts/emerald-rapids'}"
    done = subprocess.run([*make, "plan", given], capture_output=True, text=True)
    assert done.stdout.startswith("emerald-rapids, kernel 6.8.0-1004-intel\n")


@pytest.mark.program("make")
@pytest.mark.parametrize("target", ["run", "demo"])
def test_make_serves_until_ctrl_c(make: list[str], tmp_path: Path, target: str) -> None:
    """The page of this machine, or of the captured host, and an end without a complaint."""
    log = tmp_path / "log"
    with log.open("wb") as out:
        running = subprocess.Popen(
            [*make, target, "ARGS=--web.listen-address 127.0.0.1:0"], stderr=out, start_new_session=True
        )
    try:
        end = time.monotonic() + SECONDS
        while (address := re.search(r"127\.0\.0\.1:[1-9]\d*", log.read_text())) is None:
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        with urllib.request.urlopen(f"http://{address[0]}/", timeout=SECONDS) as answer:
            page = answer.read().decode()
        assert "<html" in page
        assert ("emerald-rapids" in page) == (target == "demo")
        # Ctrl-C reaches every process of the terminal's foreground group.
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(SECONDS) in (0, 130, -signal.SIGINT)
        assert "Traceback" not in log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
