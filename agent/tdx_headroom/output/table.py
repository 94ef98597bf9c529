# SPDX-License-Identifier: Apache-2.0
"""Tables for a terminal that fit its width: columns that can be spared are left out, and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.output.terminal import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict import State

_GAP = "  "
_BELOW = " " * 10
_LEAST_ROOM = 24
"""What a column of sentences needs to stand beside the others, in characters."""


class Column(NamedTuple):
    """One column.

    Args:
        title: its heading.
        right: whether its cells stand at its right end.
        painted: whether it takes the colour of its row.
        spared: when it may be left out for want of width: the highest number goes first; 0: never.
        wraps: whether its cells are texts of several words, wrapped where the width asks for it; one at most.
    """

    title: str
    right: bool = False
    painted: bool = False
    spared: int = 0
    wraps: bool = False


class Row(NamedTuple):
    """One row: a cell for each column, and the state that gives its colour."""

    cells: Sequence[str]
    state: State | None = None


def table(style: Style, columns: Sequence[Column], rows: Sequence[Row], indent: str = "") -> Iterator[str]:
    """The lines of a table.

    Texts that have no room beside the other columns stand below their rows, or above where they come first.

    Args:
        style: of the terminal.
        columns: from left to right.
        rows: from top to bottom.
        indent: what every line begins with.
    """
    return _Table(style, columns, rows, indent).lines()


class _Table:
    def __init__(self, style: Style, columns: Sequence[Column], rows: Sequence[Row], indent: str) -> None:
        self._style = style
        self._columns = columns
        self._rows = rows
        self._indent = indent
        self._widths = [
            max(len(cell) for cell in (column.title, *(row.cells[i] for row in rows)))
            for i, column in enumerate(columns)
        ]
        self._text = next((i for i, column in enumerate(columns) if column.wraps), None)
        self._shown = [i for i in range(len(columns)) if i != self._text]
        self._left_out: list[str] = []
        self._below = False
        if style.columns is not None:
            self._fit(style.columns)
        if self._text is not None and not self._below:
            self._shown = sorted([*self._shown, self._text])

    def lines(self) -> Iterator[str]:
        """From the head to the names of what is left out."""
        for row in (Row([column.title for column in self._columns]), *self._rows):
            yield from self._row(row)
        if self._left_out:
            text = f"Not shown in {self._style.columns} columns: {', '.join(self._left_out)}."
            yield from wrapped(text, self._style.width, self._indent, self._indent)

    def _fit(self, width: int) -> None:
        """Leave out what does not fit, and give the texts what room is left beside the others, if any."""
        while (room := width - self._taken()) < 0 and (spare := self._spare()) is not None:
            self._shown.remove(spare)
            self._left_out.insert(0, self._columns[spare].title)
        if self._text is None:
            return
        room -= len(_GAP)
        texts = [row.cells[self._text] for row in self._rows]
        longest = max((len(word) for text in texts for word in wrapped(text, 1)), default=0)
        least = longest if self._text == 0 else max(longest, _LEAST_ROOM)
        wanted = self._widths[self._text]
        self._below = room < min(wanted, least)
        self._widths[self._text] = min(wanted, room)

    def _taken(self) -> int:
        return len(self._indent) + sum(self._widths[i] + len(_GAP) for i in self._shown) - len(_GAP)

    def _spare(self) -> int | None:
        spared = [i for i in self._shown if self._columns[i].spared]
        return max(spared, key=lambda i: self._columns[i].spared, default=None)

    def _row(self, row: Row) -> Iterator[str]:
        if self._text is None:
            yield self._line(row.cells, row.state)
            return
        text = row.cells[self._text]
        if self._below:
            line = self._line(row.cells, row.state)
            if self._text == 0:
                yield from wrapped(text, self._style.width, self._indent, self._indent)
                yield line
            else:
                yield line
                yield from wrapped(text, self._style.width, self._indent + _BELOW, self._indent + _BELOW)
            return
        first, *rest = wrapped(text, max(self._widths[self._text], 1), "", "") or [""]
        yield self._line(self._with_text(row.cells, first), row.state)
        for more in rest:
            yield self._line(self._with_text([""] * len(row.cells), more))

    def _with_text(self, cells: Sequence[str], text: str) -> list[str]:
        return [text if i == self._text else cell for i, cell in enumerate(cells)]

    def _line(self, cells: Sequence[str], state: State | None = None) -> str:
        parts = []
        for i in self._shown:
            column, width = self._columns[i], self._widths[i]
            padded = cells[i].rjust(width) if column.right else cells[i].ljust(width)
            parts.append(self._style.paint(padded, state) if column.painted else padded)
        return (self._indent + _GAP.join(parts)).rstrip()
