# SPDX-License-Identifier: Apache-2.0
"""How the lines of one text log begin, and which of a text's lines begin so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log.known_lines import is_known
from tdx_headroom.sources.kernel_log.line_forms import BARE, JOURNAL, Line

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDENT = 12
"""Narrower than any prefix that programs indent the rest of a message by; pasted lines are ragged by less."""
_BARE_FIRST = 4
"""So many known messages without a prefix before the first with one, and the log is one without prefixes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the lines of one log begin: with which prefixes, in which column at the left, behind what."""

    form: str
    column: int
    wrapping: str = ""

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Shape:
        """The shape of the first message that is known as a whole, for nobody can write above it.

        People quote a line or two above a log, so a few without a prefix do not make a log without one.
        """
        told = [line for line in lines if line.text is not None and line.trusted is not False]
        candidates = [line for line in told if not line.wrapping]
        bare = 0
        form = None
        for line in candidates:
            if line.text is not None and is_known(line.text):
                if line.form != BARE:
                    form = line.form
                    break
                bare += 1
                if bare >= _BARE_FIRST:
                    break
        if form is None and not bare:
            form = next((line.form for line in candidates if line.form != BARE), None)
        if form is None and not bare and (wrapped := cls._wrapped(told)):
            return wrapped
        form = form or BARE
        columns = (line.column for line in candidates if line.form == form)
        return cls(form, min(columns, default=0))

    @classmethod
    def _wrapped(cls, lines: Sequence[Line]) -> Shape | None:
        """The shape of a log whose every line stands behind something: a list's mark, a machine's name.

        What people write before a line is no such thing, unless it comes again.
        """
        first = next((line for line in lines if line.wrapping and is_known(line.text or "")), None)
        if first is None:
            return None
        alike = [line for line in lines if (line.wrapping, line.form) == (first.wrapping, first.form)]
        if len(alike) == 1 and " " in first.wrapping and re.search(r"\w", first.wrapping):
            return None
        return cls(first.form, min(line.column for line in alike), first.wrapping)

    @property
    def is_journal(self) -> bool:
        """Whether journalctl has printed it."""
        return self.form in JOURNAL

    def fits(self, line: Line) -> bool:
        """Whether a line has the log's own prefix, at its place.

        One that stands farther to the right is the rest of the message above, whatever it says. Without
        prefixes there is no telling.
        """
        if (line.form, line.wrapping) != (self.form, self.wrapping):
            return False
        return self.form == BARE or line.column < self.column + _INDENT
