# SPDX-License-Identifier: Apache-2.0
"""Errors that nobody has thought of, planted into the running agent: it goes on, and its log says where."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.agent import SECONDS, Running, agent

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = Path(__file__).parents[1] / "hosts" / "good-2-node"

PROGRAM = """
import pkgutil, sys
from pathlib import Path
from tdx_headroom.cli import main

def plant(folder, place):
    owner, _, name = place.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    real, flag = getattr(owner, name), Path(folder, place)
    def planted(*args, **more):
        if flag.exists():
            with flag.with_suffix(".raised").open("a") as raised:
                raised.write("x")
            raise KeyError("planted")
        return real(*args, **more)
    setattr(owner, name, planted)

folder, places, *sys.argv[1:] = sys.argv[1:]
for place in places.split():
    plant(folder, place)
sys.exit(main())
"""
"""The agent, in which a function raises a KeyError for as long as a file of its name is there."""


def hang_up(running: Running) -> None:
    running.process.send_signal(signal.SIGHUP)


def scrape_anew(running: Running) -> None:
    """What is rendered once an assessment."""
    hang_up(running)
    running.get("/metrics")


PLANTS: dict[str, tuple[Callable[[Running], object], str, str]] = {
    "tdx_headroom.plan.shared.what_counts": (hang_up, "assessment failed", "plan/shared.py"),
    "tdx_headroom.output.page.tdmr_section": (lambda a: a.get("/"), "a page cannot", "output/page.py"),
    "tdx_headroom.output.metrics.collect": (scrape_anew, "a page cannot", "service/agent.py"),
    "tdx_headroom.service.notify.Notifier.reloading": (hang_up, "internal error", "service/daemon.py"),
}
"""What is planted, what brings it about, and the message and the file of the project that the log names."""


def value_of(line: str, key: str) -> str:
    """A value in a line of either format."""
    if line.startswith("{"):
        return str(json.loads(line).get(key, ""))
    found = re.search(rf'\b{key}=("(?:[^"\\]|\\.)*"|\S+)', line)
    return found[1].strip('"') if found else ""


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_the_place_is_logged_once(form: str, tmp_path: Path) -> None:
    """In plan, page, metrics and a signal's handler: one line with file and line, however often."""
    program = ("-c", PROGRAM, str(tmp_path), " ".join(PLANTS))
    arguments = ("--path.rootfs", str(HOST), "--log.format", form)
    with agent(*arguments, program=program) as running:
        for number, (place, (provoke, message, file)) in enumerate(PLANTS.items(), 1):
            flag = tmp_path / place
            raised = flag.with_suffix(".raised")
            raised.touch()
            flag.touch()
            end = time.monotonic() + SECONDS
            while raised.stat().st_size < 2:
                assert time.monotonic() < end, place
                provoke(running)
                time.sleep(0.01)
            flag.unlink()
            # All of them are told by the time that something later is answered.
            hang_up(running)
            assert running.get("/")[0] == running.get("/metrics")[0] == 200
            lines = [line for line in running.log if value_of(line, "level") == "error"]
            assert len(lines) == number, "".join(running.log)
            assert value_of(lines[-1], "msg").startswith(message)
            innermost, *own = value_of(lines[-1], "place").split(", ")
            assert innermost.endswith(" in planted")
            assert re.match(rf"{file}:[0-9]+ in ", own[0]), lines[-1]
            assert "KeyError" in value_of(lines[-1], "error")
        assert running.value("tdx_memory_regions") is not None
