# SPDX-License-Identifier: Apache-2.0
"""Decides when the state is written: soon, but not as often as it changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tdx_headroom import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.service.state import State
    from tdx_headroom.service.state_file import StateFile

GAP = 5.0
"""Seconds between two writes, however fast the log grows: a crash can cost that much."""

URGENT_GAP = 1.0
"""The same where the verdict has changed, or the file is not the one that was written."""


class StateWriter:
    """Writes the newest state, several changes at once where they come fast.

    Args:
        file: where to; None: nowhere.
        clock: seconds that never go back.
    """

    def __init__(self, file: StateFile | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._tried_at: float | None = None
        self._pending: State | None = None
        self._due = 0.0
        self.success: bool | None = None
        """Whether the last attempt to write went well; None before the first."""

    def keep(self, state: State, *, urgent: bool = False) -> None:
        """Write this state, now or as soon as the last write is long enough ago."""
        if self._file is None or self._file.up_to_date(state):
            self._pending = None
            return
        urgent = urgent or self._file.is_gone
        due = 0.0 if self._tried_at is None else self._tried_at + (URGENT_GAP if urgent else GAP)
        self._due = due if self._pending is None else min(self._due, due)
        self._pending = state
        if self._due <= self._clock():
            self.write()

    @property
    def seconds_left(self) -> float | None:
        """Until :meth:`write` should be called; None when nothing waits."""
        return None if self._pending is None else max(0.0, self._due - self._clock())

    def write(self) -> None:
        """Write now what waits; an error is told once, and the next state is tried again."""
        if self._file is None or self._pending is None:
            return
        state, self._pending = self._pending, None
        try:
            self._file.save(state)
        except OSError as error:
            if self.success is not False:
                log.get().error("the state cannot be kept", error=str(error))
            self.success = False
        else:
            self.success = True
        self._tried_at = self._clock()

    def set_aside(self) -> str:
        """Rename the file, since it cannot be used; what became of it."""
        return "is not used" if self._file is None else self._file.set_aside()
