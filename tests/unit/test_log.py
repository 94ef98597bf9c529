# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from tdx_headroom import log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody reads stderr any more (`serve 2>&1 | head`), lines are lost and nothing else is."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log.configure("info", "logfmt")
        log.get().warning("lost")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


def test_no_value_starts_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """One event is one line, in both formats, whatever is in it."""
    for form in log.FORMATS:
        structlog.reset_defaults()
        log.configure("info", form)
        log.get().info("source failed", error="a\nlevel=info msg=forged\x1b[2J\u2028")
        log.get().debug("not shown")
        (line,) = capsys.readouterr().err.splitlines()
        assert "source failed" in line
        assert line.isprintable()
        if form == "json":
            assert json.loads(line)["level"] == "info"


def test_a_place_is_logged_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that comes again and again is one line a minute, which says how many were left out."""
    log.configure("info", "json")
    now = [1000.0]
    failures = log.Failures(lambda: now[0])

    def logged(place: str) -> list[dict[str, object]]:
        failures.log("it failed", place, "KeyError('x')", part="a part")
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    (first,) = logged("here:1 in f")
    assert (first["place"], first["error"], first["part"]) == ("here:1 in f", "KeyError('x')", "a part")
    assert "left_out" not in first
    now[0] += log.FAILURE_GAP - 1
    assert logged("here:1 in f") == logged("here:1 in f") == []
    assert logged("there:2 in g")
    now[0] += 1
    assert logged("here:1 in f")[0]["left_out"] == 2
    now[0] += log.FAILURE_GAP
    assert "left_out" not in logged("here:1 in f")[0]
