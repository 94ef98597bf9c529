# SPDX-License-Identifier: Apache-2.0
"""GRUB's ``test`` and ``[``. After commands/test.c of GRUB 2, whose ``-a`` and ``-o`` know no precedence."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Protocol

from tdx_headroom.boots.grub.number import leading_number, signed_number
from tdx_headroom.boots.grub.words import GrubError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_DEPTH = 50


class Looks(Protocol):
    """What a test asks about files."""

    def test_file(self, path: str, letter: str) -> bool:
        """Whether ``-d``, ``-e``, ``-f`` or ``-s`` (the letter) is true of a path."""

    def unsure(self, what: str) -> bool:
        """The answer to a question that cannot be answered here."""


def holds(arguments: Sequence[str], files: Looks) -> bool:
    """Whether an expression is true.

    Raises:
        GrubError: its parentheses are nested absurdly deep.
    """
    words = list(arguments)
    if words and words[-1] == "]":
        words.pop()
    return _Test(words, files).expression(0)


class _Test:
    """Reads one expression, word by word."""

    def __init__(self, words: list[str], files: Looks) -> None:
        self._words = words
        self._files = files
        self._at = 0

    def expression(self, depth: int) -> bool:
        """Up to the closing parenthesis, or the end."""
        if depth > _MAX_DEPTH:
            raise GrubError("a test is nested absurdly deep")
        either, both, invert = False, True, False
        while self._at < len(self._words):
            found = self._three() if self._at + 2 < len(self._words) else None
            if found is None and self._at + 1 < len(self._words):
                found = self._two()
            if found is None:
                word = self._words[self._at]
                self._at += 1
                if word == ")":
                    return either or both
                if word == "!":
                    invert = not invert
                    continue
                if word == "-a":
                    continue
                if word == "-o":
                    either, both = either or both, True
                    continue
                found = self.expression(depth + 1) if word == "(" else bool(word)
            both = both and found is not invert
            invert = False
        return either or both

    def _three(self) -> bool | None:
        left, sign, right = self._words[self._at : self._at + 3]
        if sign in _TEXTS:
            found = _TEXTS[sign](_bytes(left), _bytes(right))
        elif sign in _NUMBERS:
            found = _NUMBERS[sign](_signed(left), _signed(right))
        elif sign in ("-pgt", "-plt"):
            found = _by_version(left, right, greater=sign == "-pgt")
        elif sign[:3] in ("-nt", "-ot"):
            found = self._files.unsure("the age of files")
        else:
            return None
        self._at += 3
        return found

    def _two(self) -> bool | None:
        sign, operand = self._words[self._at : self._at + 2]
        if sign in ("-d", "-e", "-f", "-s"):
            found = self._files.test_file(operand, sign[1])
        elif sign in ("-n", "-z"):
            found = bool(operand) is (sign == "-n")
        else:
            return None
        self._at += 2
        return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _signed(text: str) -> int:
    """What is no number is 0."""
    return signed_number(text) or 0


def _by_version(left: str, right: str, *, greater: bool) -> bool:
    """Compare the numbers where two texts begin to differ."""
    at = 0
    while at < min(len(left), len(right)) and left[at] == right[at]:
        at += 1
    at -= 1
    while at > 0 and left[at].isdigit():
        at -= 1
    numbers = [leading_number(text[at + 1 :]) for text in (left, right)]
    one, other = (0 if number is None else number.value for number in numbers)
    return one > other if greater else one < other


_TEXTS: dict[str, Callable[[bytes, bytes], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": operator.eq,
    "-ne": operator.ne,
    "-lt": operator.lt,
    "-le": operator.le,
    "-gt": operator.gt,
    "-ge": operator.ge,
}
