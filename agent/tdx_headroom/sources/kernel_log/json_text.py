# SPDX-License-Identifier: Apache-2.0
"""Objects in a text that is JSON by most of its lines: it may be cut, quoted, or have lines of a terminal."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SAMPLE = 1000
"""So many lines, from all over a text, tell its form."""
_PIECE = re.compile(r"""(?:(?:>\s?)+|data: |\x1e)?[\[,\s]*(?:[\]}],?\s*)?(?:\{\s*(?:"|$)|"\w{1,64}"\s*:)""")
_END = re.compile(r"[>\s]*(?:[\]}][\]},\s]*|-?[0-9]+,?)")
# journalctl -o json-seq and json-sse; what mail programs put before lines.
_BEFORE = re.compile(r"(?:>\s?)+|\x1e|data: (?=\{)")
_OPENING = re.compile(r"(\s*)(?:[\[}],?\s*)?\{\s*")
_WRAPPER = re.compile(r'\s*\{?\s*"dmesg"\s*:\s*\[\s*')
_BETWEEN = re.compile(r"[\s,]*")
# What journalctl says to people, and what terminals and Markdown put around it: it stands for no entry.
_ASIDE = re.compile(
    r"-- .*|(?:Hint|Warning): .*|Journal file .*|\s*(?:Users in|Pass -q) .*|`{3}.*|~{3}.*|[\[\]},\s]*"
    r"|[^\s{}]{0,64}[$#%] .*|(?:\[[^]{}]*\]|[^\s{}]{1,64}@[^\s{}]{1,64})[^$#%{}]{0,200}[$#%].*"
    r"|Script (?:started|done).*"
)
_LONGEST = 400
_MESSAGE = re.compile(r'"(?:MESSAGE|msg)"\s*:\s*"((?:[^"\\]|\\.)*)')
_DECODER = json.JSONDecoder()


class Foreign(NamedTuple):
    """What is no JSON.

    Args:
        text: of it; of a broken entry, its message where that can be told.
        lost: whether it may stand for an entry.
    """

    text: str
    lost: bool


def is_json(lines: Sequence[str]) -> bool:
    """Whether a log is one in JSON: by its lines all over, for the first may be anything."""
    found = others = 0
    for line in lines[:: len(lines) // _SAMPLE + 1]:
        if _PIECE.match(line):
            found += 1
        elif line and not line.isspace() and not _END.fullmatch(line):
            others += 1
    return found > 0 and found >= others


def values(lines: Sequence[str]) -> Iterator[Any]:
    """Values, and what is no JSON as :class:`Foreign`, in their order.

    A value stands in a line, or begins with a line ``{`` and goes on to the ``}`` in the same column
    (``journalctl -o json-pretty``, ``dmesg --json``).
    """
    begun = _Begun()
    for raw in lines:
        line = _BEFORE.sub("", raw, count=1) if raw[:1] in (">", "\x1e", "d") else raw
        wrapper = _WRAPPER.match(line)
        closes = begun.closes(line)
        if begun.lines and not (closes or wrapper or begun.is_left_at(line)):
            begun.lines.append(line)
            continue
        if begun.lines and not wrapper:
            yield from _value("\n".join([*begun.lines, "}"] if closes else begun.lines))
        begun.lines = []
        if wrapper:
            yield from _listed(line, wrapper.end())
        elif opening := _OPENING.fullmatch(line):
            begun = _Begun(opening[1], ["{"])
        elif line.strip() and not closes:
            yield from _value(line.strip())
    if begun.lines:
        yield from _value("\n".join(begun.lines))


@dataclass(slots=True)
class _Begun:
    """The lines of an object that has begun, and the blanks before its brace."""

    column: str = ""
    lines: list[str] = field(default_factory=list)

    def closes(self, line: str) -> bool:
        """Whether it ends with this line: a brace below its own."""
        return bool(self.lines) and line.startswith(f"{self.column}}}")

    def is_left_at(self, line: str) -> bool:
        """Whether another one begins here, where it has no end."""
        indent = len(line) - len(line.lstrip())
        return indent <= len(self.column) and line[indent : indent + 1] == "{"


def _listed(line: str, at: int) -> Iterator[Any]:
    """The objects of a list that stands in one line, as far as they are whole."""
    while (at := _end(line, at)) < len(line):
        try:
            value, at = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            if line[at:].strip("]} \t"):
                yield _foreign(line[at:])
            return
        yield value


def _end(line: str, at: int) -> int:
    between = _BETWEEN.match(line, at)
    return between.end() if between else at


def _value(text: str) -> Iterator[Any]:
    """The value that a text is, or those that it lists."""
    for candidate in (text, text.strip("[], \t")):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list):
            yield from value
        else:
            yield value
        return
    yield _foreign(text)


def _foreign(text: str) -> Foreign:
    message = _MESSAGE.search(text)
    lost = message is not None or _ASIDE.fullmatch(text[:_LONGEST]) is None
    return Foreign(message[1].replace('\\"', '"') if message else text, lost)
