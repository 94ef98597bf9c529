# SPDX-License-Identifier: Apache-2.0
"""What a terminal can show: colours, blocks, and lines that end between words and fit its width."""

from __future__ import annotations

import re
from textwrap import wrap

from tdx_headroom.errors import printable
from tdx_headroom.output.whole import WHOLE
from tdx_headroom.verdict import State

WIDTH = 110
"""The longest line of a sentence, however wide the terminal."""
_NARROWEST = 20
_GLUE = "\xa0"
"""Stands for a blank at which no line ends. No text has one of its own: it is not printable."""
_WHOLE = re.compile(rf"{WHOLE}|`[^`]{{1,40}}`", re.ASCII)
"""With a command that is short enough to stand in a line."""
_COLOURS = {
    State.WILL_INITIALIZE: "32",
    State.INITIALIZED: "32",
    State.AT_RISK: "33",
    State.CANNOT_TELL: "33",
    State.WILL_FAIL: "31",
    State.FAILED: "31",
}


class Style:
    """How much a terminal can show.

    Args:
        colour: whether to write colours.
        unicode: whether blocks can be written, or only ASCII.
        columns: of the terminal; None: unknown, and tables take what they need.
    """

    def __init__(self, *, colour: bool = False, unicode: bool = True, columns: int | None = None) -> None:
        self._colour = colour
        self.hole, self.pamt, self.free, self.over = ("█", "▒", "·", "!") if unicode else ("#", "%", ".", "!")
        self.columns = None if columns is None else max(columns, _NARROWEST)
        self.width = WIDTH if self.columns is None else min(self.columns, WIDTH)

    def paint(self, text: str, state: State | None) -> str:
        """The text in the colour of a verdict."""
        code = _COLOURS.get(state) if state is not None else None
        return f"\x1b[1;{code}m{text}\x1b[0m" if self._colour and code else text

    def wrapped(self, text: str, first: str = "", rest: str | None = None) -> list[str]:
        """A text in lines that fit the width: :func:`wrapped`."""
        return wrapped(text, self.width, first, rest)

    def wrapped_verdict(
        self, text: str, word: str, state: State | None, first: str = "", rest: str | None = None
    ) -> list[str]:
        """The same, with the word for a verdict in it painted where it stands first."""
        head, found, tail = printable(text).partition(word)
        lines = _lines(f"{head}{found.replace(' ', _GLUE)}{tail}", self.width, first, rest)
        at = next((i for i, line in enumerate(lines) if word in line), None)
        if at is not None:
            lines[at] = lines[at].replace(word, self.paint(word, state), 1)
        return lines


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """A text in lines that fit a width.

    Arguments, paths, address ranges and amounts stay in one piece, also one that is too long for a line.

    Args:
        text: what to say; control characters in it are shown as such.
        width: of a line, in characters.
        first: what stands before it.
        rest: what the other lines begin with; None: blanks, as long as ``first``, or two.
    """
    return _lines(printable(text), width, first, rest)


def _lines(clean: str, width: int, first: str, rest: str | None) -> list[str]:
    whole = _WHOLE.sub(lambda found: found[0].replace(" ", _GLUE), clean)
    lines = wrap(
        whole,
        width=width,
        initial_indent=first,
        subsequent_indent=" " * max(len(first), 2) if rest is None else rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]
