# SPDX-License-Identifier: Apache-2.0
"""Errors that a user sees: one line that says what failed, and a hint what to do."""

from __future__ import annotations

import os
import traceback

_OWN_STEPS = 3
_PACKAGE = __file__.removesuffix("errors.py")


def printable(text: str) -> str:
    r"""The text without line breaks and control characters: those stand as ``\xNN``.

    External text (file contents, names, kernel messages) goes through here before it is shown: a newline
    in it must not start a line of its own, nor may it command the terminal.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def one_line(text: str, limit: int = 300) -> str:
    """The same, shortened to so many characters: for a log, an error, a page."""
    clean = printable(text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def place_of(error: BaseException) -> str:
    """Where an error was raised, as file, line and function: there, and the last steps of this project."""
    steps = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ][::-1]
    own = [step for step in steps if step[0].startswith(_PACKAGE)]
    shown = dict.fromkeys([*steps[:1], *own[:_OWN_STEPS]])
    places = (f"{'/'.join(file.split('/')[-2:])}:{line} in {function}" for file, line, function in shown)
    return ", ".join(places) or "an unknown place"


class AgentError(Exception):
    """Something that ends a command: what failed, what to do, and the exit status (sysexits.h)."""

    def __init__(self, message: str, *, hint: str | None = None, status: int = os.EX_DATAERR) -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.hint = hint
        self.status = status

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class SourceError(Exception):
    """Why a source of the host could not be read or understood.

    Args:
        source: the source's name, as in the metrics (``iomem``, ``memblock``, ...).
        reason: what is wrong.
        line: line number in the source's text, from 1, where that makes sense.
        text: the offending text.
        hint: what to do about it.
        absent: there is no such source, or nothing in it, as opposed to something that cannot be used.
    """

    def __init__(
        self,
        source: str,
        reason: str,
        *,
        line: int | None = None,
        text: str | None = None,
        hint: str | None = None,
        absent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.source = source
        self.reason = reason
        self.line = line
        self.text = text
        self.hint = hint
        self.absent = absent

    def __str__(self) -> str:
        return f"{self.where}: {self.told()}"

    @property
    def where(self) -> str:
        """The source, and the line in it."""
        return self.source if self.line is None else f"{self.source} line {self.line}"

    def told(self, *, quoting: bool = True) -> str:
        """What is wrong and what to do, without the source's name; with or without the offending text."""
        what = f": '{one_line(self.text, 80)}'" if self.text is not None and quoting else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{one_line(self.reason)}{what}{hint}"
