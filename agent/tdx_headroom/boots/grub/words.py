# SPDX-License-Identifier: Apache-2.0
r"""GRUB's script: its words, their quoting, and what variables make of them.

After yylex.l and ``grub_script_arglist_to_argv()`` (script/execute.c) of GRUB 2. A ``$`` before a digit is a
parameter of a function: ``memmap=4K$0x1000`` loses its ``$0`` unless it is quoted by ``\`` or single quotes.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_WORD = 64 << 10
"""Characters of a word after expansion; GRUB would run out of memory later, this agent stops here."""
MAX_WORDS = 1 << 14

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = rf"(?:{_NAME}|[0-9]+|[?#*@])"
_VARIABLE = rf"\$(?:{_REFERENCE}|\{{{_REFERENCE}\}})"
_DOUBLE = r'"(?:[^"\\]|\\.)*+"'
_TOKEN = re.compile(
    rf"""(?P<blank>[ \t]++|\#[^\n]*+)
    |(?P<sign>\|\||&&|;;|[\n|&;<>{{}}])
    |(?P<word>(?:[^{{}}|&$;<>\s'"\\]++|[\r\f\v]|{_DOUBLE}|'[^']*+'|\\.|{_VARIABLE}|\${_DOUBLE})++)""",
    re.DOTALL | re.VERBOSE,
)
_PIECE = re.compile(
    rf"""'(?P<single>[^']*+)'
    |\$?"(?P<double>(?:[^"\\]|\\.)*+)"
    |(?P<variable>{_VARIABLE})
    |(?P<text>(?:[^'"$\\]|\\.)++)""",
    re.DOTALL | re.VERBOSE,
)
_INSIDE = re.compile(rf"(?P<variable>{_VARIABLE})|(?P<escape>\\.)|(?P<text>[^$\\]++)", re.DOTALL)
_ESCAPE = re.compile(r"(?P<hex>\\x[0-9a-fA-F]{2})|\\(?P<kept>.)", re.DOTALL)
_PLAIN = re.compile(r"""[^'"$\\]++""")
_BLANKS = re.compile(r"[ \t\r\n]+")


class GrubError(Exception):
    """Why GRUB's configuration cannot be followed.

    Args:
        reason: what is wrong, without the file's name.
        where: that file, relative to the host's root; None: the one that is run.
    """

    def __init__(self, reason: str, where: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = where


class Kind(Enum):
    """What a part of a word is."""

    TEXT = auto()
    """Bare text, its backslashes still in it."""
    QUOTED = auto()
    VARIABLE = auto()
    """A bare variable: its value falls into several words at blanks, and vanishes when it is empty."""
    QUOTED_VARIABLE = auto()


class Part(NamedTuple):
    """A part of a word: text, or the name of a variable."""

    kind: Kind
    text: str


Word = tuple[Part, ...]


class Token(NamedTuple):
    """A word, or a sign such as ``;``, ``{`` and the end of a line.

    Args:
        sign: which one; empty for a word, and ``end`` for the end of the text.
        raw: as it stands there.
        word: its parts, when it is a word.
        start: where it begins in the text.
    """

    sign: str
    raw: str
    word: Word
    start: int


def readable(text: str) -> str:
    """The lines of a file that GRUB's script parser is given: carriage returns and comment lines are dropped.

    It never sees a line that begins with ``#``, wherever that stands (``read_config_file_getline()``).
    """
    lines = text.replace("\r", "").split("\n")
    return "\n".join("" if line.startswith("#") else line.partition("\0")[0] for line in lines)


def tokens_of(text: str) -> Iterator[Token]:
    """The tokens of a script, with one for its end.

    Raises:
        GrubError: quotes that are not closed, or a ``$`` that begins no variable.
    """
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise GrubError(f"line {text.count(chr(10), 0, at) + 1} is no GRUB script")
        if match["word"] is not None:
            yield Token("", match["word"], _parts(match["word"], text, at), at)
        elif match["sign"] is not None:
            yield Token(match["sign"], match["sign"], (), at)
        at = match.end()
    yield Token("end", "", (), at)


def _parts(raw: str, text: str, start: int) -> Word:
    """The parts of a word."""
    if _PLAIN.fullmatch(raw) is not None:
        return (Part(Kind.TEXT, raw),)
    parts: list[Part] = []
    for piece in _PIECE.finditer(raw):
        if piece["single"] is not None:
            parts.append(Part(Kind.QUOTED, piece["single"]))
        elif piece["variable"] is not None:
            parts.append(Part(Kind.VARIABLE, piece["variable"].strip("${}")))
        elif piece["text"] is not None:
            # A line that a backslash continues.
            parts.append(Part(Kind.TEXT, piece["text"].replace("\\\n", "")))
        else:
            parts.extend(_double_quoted(piece["double"], text, start))
    return tuple(parts)


def _double_quoted(inside: str, text: str, start: int) -> Iterator[Part]:
    """The parts of what stands in double quotes: a backslash quotes only ``$``, itself, and a quote."""
    # Empty quotes make a word, too.
    yield Part(Kind.QUOTED, "")
    at = 0
    while at < len(inside):
        match = _INSIDE.match(inside, at)
        if match is None:
            raise GrubError(f"line {text.count(chr(10), 0, start) + 1} has a $ that begins no variable")
        if match["variable"] is not None:
            yield Part(Kind.QUOTED_VARIABLE, match["variable"].strip("${}"))
        elif match["escape"] is not None:
            character = match["escape"][1]
            known = {"\n": "", "$": "$", "\\": "\\", '"': '"'}
            yield Part(Kind.QUOTED, known.get(character, match["escape"]))
        else:
            yield Part(Kind.QUOTED, match["text"])
        at = match.end()


class Variables(Protocol):
    """Where expansion looks variables up."""

    @property
    def parameters(self) -> Sequence[str]:
        """Those of the function or menu entry that runs, from ``$1``."""

    def value(self, name: str) -> str | None:
        """The value of a variable; None: not set."""


class Expanded(NamedTuple):
    """Words after expansion.

    Args:
        words: the arguments.
        pattern: one of them that GRUB would take for a pattern of file names; None: there is none.
    """

    words: list[str]
    pattern: str | None


def expanded(words: Iterable[Word], variables: Variables, *, hex_escapes: bool) -> Expanded:
    r"""What GRUB makes of the words of a command.

    Args:
        words: as they were read.
        variables: their values.
        hex_escapes: whether ``\xNN`` is kept as it is, which only Red Hat's GRUB does.

    Raises:
        GrubError: they become absurdly long.
    """
    result = _Result(hex_escapes)
    for word in words:
        result.next()
        for part in word:
            if part.kind is Kind.TEXT:
                result.bare(part.text)
            elif part.kind is Kind.QUOTED:
                result.add(part.text)
            else:
                _add_variable(result, part, variables)
    result.next()
    return Expanded(result.words, result.pattern)


def _add_variable(result: _Result, part: Part, variables: Variables) -> None:
    """Append the value of a variable (``grub_script_env_get()``)."""
    bare = part.kind is Kind.VARIABLE
    for index, value in enumerate(_values(part.text, variables, bare=bare)):
        if index:
            result.next()
        result.add(value, glob=bare)


def _values(name: str, variables: Variables, *, bare: bool) -> list[str]:
    """The words that a variable stands for; one that is in quotes is one, but for ``$@``."""
    if name in ("*", "@"):
        values = list(variables.parameters)
        if name == "*" and not bare:
            values = [" ".join(values)] if values else []
    elif name == "#":
        values = [str(len(variables.parameters))]
    elif name[0].isdigit():
        number = int(name[:9])
        values = list(variables.parameters[number - 1 : number]) if number else []
    else:
        values = [value] if (value := variables.value(name)) else []
    return [piece for value in values for piece in _BLANKS.split(value) if piece] if bare else values


class _Result:
    """The arguments so far; the last one is None as long as nothing was put into it."""

    def __init__(self, hex_escapes: bool) -> None:  # noqa: FBT001
        self.words: list[str] = []
        self.pattern: str | None = None
        self._hex = hex_escapes
        self._last: str | None = None
        self._globs = False

    def next(self) -> None:
        """Begin the next argument; one that got nothing is none."""
        if self._last is None:
            return
        if self._globs and self._last.startswith(("/", "(", "*")):
            self.pattern = self._last
        self.words.append(self._last)
        self._last, self._globs = None, False
        if len(self.words) > MAX_WORDS:
            raise GrubError("a command has absurdly many arguments")

    def add(self, text: str, *, glob: bool = False) -> None:
        """Append text as it is."""
        self._last = text if self._last is None else self._last + text
        self._globs |= glob and ("*" in text or "?" in text)
        if len(self._last) > MAX_WORD:
            raise GrubError("a word is absurdly long")

    def bare(self, text: str) -> None:
        """Append text without its backslashes (``wildcard_unescape()``); nothing when it is empty."""
        if not text:
            return
        plain = _ESCAPE.sub(self._unescaped, text)
        self.add(plain)
        self._globs |= any(c in _ESCAPE.sub("", text) for c in "*?")

    def _unescaped(self, match: re.Match[str]) -> str:
        if match["hex"] is not None:
            return match["hex"] if self._hex else match["hex"][1:]
        return match["kept"]
