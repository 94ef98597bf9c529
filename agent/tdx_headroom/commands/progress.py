# SPDX-License-Identifier: Apache-2.0
"""A progress bar for people: on a terminal only, on standard error, one line that comes and goes."""

from __future__ import annotations

import time
from typing import TextIO

from tdx_headroom.errors import one_line

WIDTH = 30
SECONDS = 0.1


class Progress:
    """Counts steps.

    Args:
        stream: to draw on; nothing is drawn unless it is a terminal.
        total: how many steps there will be; None when nobody knows.
    """

    def __init__(self, stream: TextIO, total: int | None) -> None:
        self._stream = stream
        self._total = total
        self._on = stream.isatty()
        self._done = 0
        self._items = 0
        self._drawn_at = 0.0
        self._visible = False

    def item(self) -> None:
        """One host more has been dealt with."""
        self._items += 1
        self._draw("")

    def step(self, done: int, name: str) -> None:
        """So many inputs have been dealt with, and this one is next."""
        self._done = done
        self._draw(name)

    def clear(self) -> None:
        """Make room for a line of output."""
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._visible = False
            self._drawn_at = 0.0

    def _draw(self, name: str) -> None:
        now = time.monotonic()
        if not self._on or (self._drawn_at and now - self._drawn_at < SECONDS):
            return
        self._drawn_at = now
        self._visible = True
        if self._total and self._total > 1:
            filled = WIDTH * self._done // self._total
            bar = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {self._done}/{self._total} {one_line(name, 40)}"
        else:
            bar = f"{self._items} hosts"
        self._stream.write(f"\r\x1b[K{bar}")
        self._stream.flush()
