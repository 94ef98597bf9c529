# SPDX-License-Identifier: Apache-2.0
"""GRUB's script: its commands, after parser.y of GRUB 2.

GRUB itself drops a line that it does not understand and goes on with the next one; here the whole file is
given up, for what it would do then nobody has meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.boots.grub.words import GrubError, Kind, Token, Word, readable, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 60
"""Blocks inside blocks; a menu of a real host has four."""

_RESERVED = frozenset(
    "case do done elif else esac fi for if in select then until while function".split()  # noqa: SIM905
)


class Block(NamedTuple):
    """Commands in braces, and how they stand there."""

    body: Script
    raw: str


class Command(NamedTuple):
    """One command: its words, and the block that ends it."""

    words: tuple[Word, ...]
    block: Block | None


class If(NamedTuple):
    """``if``; each ``elif`` is one in the ``otherwise`` of the one before."""

    condition: Script
    then: Script
    otherwise: Script


class For(NamedTuple):
    """``for NAME in WORDS``."""

    name: str
    words: tuple[Word, ...]
    body: Script


class Loop(NamedTuple):
    """``while``, or ``until``."""

    condition: Script
    body: Script
    until: bool


class Function(NamedTuple):
    """``function NAME``: known as soon as its line was read."""

    name: str
    body: Script


Statement = Command | If | For | Loop | Function
Script = tuple[Statement, ...]


def parse(text: str) -> Script:
    """The commands of a configuration file.

    Raises:
        GrubError: it is no GRUB script, or its blocks are nested absurdly deep.
    """
    text = readable(text)
    return _Parser(text).script()


class _Parser:
    """Reads one text, token by token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokens_of(text))
        self._at = 0
        self._depth = 0

    def script(self) -> Script:
        """All of the text; a function may stand only here, in no block."""
        found: list[Statement] = []
        self._newlines()
        while self._now.sign != "end":
            found.append(self._function() if self._is("function") else self._command())
            if self._now.sign != "end":
                self._delimiter()
                self._newlines()
        return tuple(found)

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _is(self, word: str) -> bool:
        return not self._now.sign and self._now.raw == word

    def _expect(self, word: str) -> None:
        if self._now.raw != word:
            raise self._error()
        self._next()

    def _error(self) -> GrubError:
        line = self._text.count("\n", 0, self._now.start) + 1
        return GrubError(f"line {line} is no GRUB script")

    def _newlines(self) -> None:
        while self._now.sign == "\n":
            self._next()

    def _delimiter(self) -> None:
        if self._now.sign not in (";", "\n"):
            raise self._error()
        self._next()

    def _commands(self, *ends: str, delimited: bool = True) -> Script:
        """One command or more, up to one of the words that end them; that word is left."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise GrubError(f"its blocks are nested deeper than {MAX_DEPTH}")
        self._newlines()
        found = [self._command()]
        while self._now.sign in (";", "\n"):
            self._delimiter()
            self._newlines()
            if self._now.raw in ends:
                break
            found.append(self._command())
        else:
            if delimited or self._now.raw not in ends:
                raise self._error()
        self._depth -= 1
        return tuple(found)

    def _command(self) -> Statement:
        compound: dict[str, Callable[[], Statement]] = {
            "if": self._if,
            "for": self._for,
            "while": lambda: self._loop(until=False),
            "until": lambda: self._loop(until=True),
        }
        sign, word, *_ = self._now
        if sign or word in ("[[", "]]"):
            raise self._error()
        if word in compound:
            self._next()
            return compound[word]()
        if word in _RESERVED:
            raise self._error()
        words = self._words()
        block = self._block() if self._now.sign == "{" else None
        return Command(words, block)

    def _words(self) -> tuple[Word, ...]:
        words: list[Word] = []
        while not self._now.sign and self._now.raw not in ("[[", "]]"):
            words.append(self._next().word)
        return tuple(words)

    def _block(self) -> Block:
        start = self._next().start + 1
        body = self._commands("}", delimited=False)
        raw = self._text[start : self._now.start]
        self._expect("}")
        return Block(body, raw)

    def _name(self) -> str:
        word = self._next().word
        if len(word) != 1 or word[0].kind is not Kind.TEXT or not word[0].text.isidentifier():
            raise self._error()
        return word[0].text

    def _function(self) -> Function:
        self._next()
        name = self._name()
        self._newlines()
        self._expect("{")
        body = self._commands("}")
        self._expect("}")
        return Function(name, body)

    def _if(self) -> If:
        condition = self._commands("then")
        self._expect("then")
        then = self._commands("else", "elif", "fi")
        otherwise: Script = ()
        if self._is("elif"):
            self._next()
            return If(condition, then, (self._if(),))
        if self._is("else"):
            self._next()
            otherwise = self._commands("fi")
        self._expect("fi")
        return If(condition, then, otherwise)

    def _for(self) -> For:
        name = self._name()
        self._expect("in")
        words = self._words()
        self._delimiter()
        self._newlines()
        self._expect("do")
        body = self._commands("done")
        self._expect("done")
        return For(name, words, body)

    def _loop(self, *, until: bool) -> Loop:
        condition = self._commands("do")
        self._expect("do")
        body = self._commands("done")
        self._expect("done")
        return Loop(condition, body, until)
