# SPDX-License-Identifier: Apache-2.0
"""The agent's own log: structlog to stderr, logfmt or JSON."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog

from tdx_headroom.errors import one_line, place_of, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}
FORMATS = ("logfmt", "json")

FAILURE_GAP = 60.0
"""Seconds between two lines about errors from the same place."""


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


def failure(what: str, error: BaseException) -> None:
    """Log an unexpected error, and where it was raised; see :class:`Failures`."""
    _failures.log(what, place_of(error), repr(error))


def failure_at(what: str, place: str, error: str, **more: object) -> None:
    """The same for an error of which only this is known, or of which no more may be logged."""
    _failures.log(what, place, error, **more)


class Failures:
    """Logs each place that errors come from once in :data:`FAILURE_GAP`, with how many were left out before.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def log(self, what: str, place: str, error: str, **more: object) -> None:
        """Log an error, or count it.

        Args:
            what: does not work for it.
            place: where it was raised, as :func:`place_of` says it.
            error: its kind, and its text where nothing private can be in it.
            more: values for the line.
        """
        now = self._clock()
        if place in self._logged_at and now - self._logged_at[place] < FAILURE_GAP:
            self._left_out[place] = self._left_out.get(place, 0) + 1
            return
        self._logged_at[place] = now
        if left_out := self._left_out.pop(place, 0):
            more["left_out"] = left_out
        get().error(what, error=one_line(error), place=place, **more)


_failures = Failures()


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
