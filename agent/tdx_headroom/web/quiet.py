# SPDX-License-Identifier: Apache-2.0
"""What the HTTP library logs: only that something went wrong inside it, and where.

Its messages quote requests and addresses, and a client can cause as many of them as it likes.
"""

from __future__ import annotations

import logging
import time
import traceback

from tdx_headroom import log

LOGGERS = ("tornado", "asyncio")
GAP = 60.0
"""Seconds between two lines about the same place."""


class Relay(logging.Handler):
    """Passes on where an error came from and of which kind it is; never a message, never a value."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._last: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's place, unless that was done a short time ago."""
        error = record.exc_info[1] if record.exc_info else None
        place = f"{record.module}:{record.lineno}"
        if error is not None and (frames := traceback.extract_tb(error.__traceback__, -20)):
            place = f"{frames[-1].filename}:{frames[-1].lineno}"
        now = time.monotonic()
        if now - self._last.get(place, -GAP) < GAP:
            return
        self._last[place] = now
        log.get().error("internal error", at=place, error=type(error).__name__ if error else "unknown")


def install() -> None:
    """Let only the relay speak for the library's loggers."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.handlers = [Relay()]
