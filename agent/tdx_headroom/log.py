# SPDX-License-Identifier: Apache-2.0
"""The agent's own log: structlog to stderr, logfmt or JSON."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import structlog

from tdx_headroom.errors import printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}
FORMATS = ("logfmt", "json")


def configure(level: str, form: str) -> None:
    """Set the agent's log up.

    Args:
        level: one of :data:`LEVELS`.
        form: one of :data:`FORMATS`.
    """
    keys = ["ts", "level", "msg"]
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "logfmt":
        renderer = structlog.processors.LogfmtRenderer(key_order=keys, drop_missing=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _event_to_msg,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )


def get() -> FilteringBoundLogger:
    """The agent's logger."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


class _Stderr:
    """Writes lines to stderr; where nobody reads them any more, they are lost, and nothing else is."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        """Write one line."""
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()

    debug = info = warning = error = critical = exception = log = msg


def _event_to_msg(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Names as the Prometheus exporters log them; no value may start a line or command a terminal."""
    event["msg"] = event.pop("event")
    return {k: printable(v.replace("\n", "\\n")) if isinstance(v, str) else v for k, v in event.items()}
