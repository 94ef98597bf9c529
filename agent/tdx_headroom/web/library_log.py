# SPDX-License-Identifier: Apache-2.0
"""What the HTTP library logs: only that something went wrong inside it, and where.

Its messages quote requests and addresses, and a client can cause as many of them as it likes.
"""

from __future__ import annotations

import logging

from tdx_headroom import log
from tdx_headroom.errors import place_of

LOGGERS = ("tornado", "asyncio")


class PlaceOnly(logging.Handler):
    """Passes on where an error came from and of which kind it is; never a message, never a value."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's place."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            log.failure_at("internal error", place_of(error), type(error).__name__)
        else:
            log.failure_at("internal error", f"{record.module}:{record.lineno}", "unknown")


def install() -> None:
    """Let only this handler speak for the library's loggers."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.handlers = [PlaceOnly(logging.ERROR)]
