# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from tdx_headroom.errors import AgentError, SourceError, one_line, place_of
from tdx_headroom.sources.reading import attempt
from tdx_headroom.textlines import lines_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb", r"a\x0ab"),
        ("a\r\nb\t", r"a\x0d\x0ab\x09"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("nul\x00", r"nul\x00"),
        ("\u2028\x85", r"\x2028\x85"),
        ("\ud800", r"\xd800"),
        ("café", "café"),
        ("\u202ereversed", r"\x202ereversed"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    """Whatever a file holds, what is shown of it is one line of printable characters."""
    assert one_line(text) == shown


def test_one_line_is_short() -> None:
    """A long text is cut, and shows that it was."""
    assert one_line("x" * 300) == "x" * 300
    assert one_line("x" * 301) == "x" * 299 + "…"
    assert len(one_line("\x00" * 5000, 80)) == 80


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SourceError("iomem", "bad"), "iomem: bad"),
        (SourceError("iomem", "bad", line=7), "iomem line 7: bad"),
        (SourceError("iomem", "bad", line=7, text="a b"), "iomem line 7: bad: 'a b'"),
        (SourceError("iomem", "bad", hint="do this"), "iomem: bad; do this"),
        (SourceError("iomem", "bad", text="", hint="do this"), "iomem: bad: ''; do this"),
        (SourceError("iomem", "two\nlines"), r"iomem: two\x0alines"),
    ],
)
def test_source_error(error: SourceError, shown: str) -> None:
    """An error is one line: source, line number, reason, text, hint."""
    assert str(error) == shown


def test_long_text_in_an_error() -> None:
    """Of a long line an error shows the beginning."""
    assert len(str(SourceError("iomem", "bad", text="x" * 10_000))) < 120


def test_agent_error() -> None:
    """An error that ends a command is one line and carries its exit status."""
    error = AgentError("no\nfile", hint="give one", status=66)
    assert str(error) == r"no\x0afile; give one"
    assert error.status == 66
    assert str(AgentError("no file")) == "no file"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\n\nb", ["a", "", "b"]),
        ("a\rb\n", ["a\rb"]),
        ("a\x0c\x85\u2028b", ["a\x0c\x85\u2028b"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    """Only LF and CRLF end a line; a last empty line is none."""
    assert lines_of(text) == lines


def test_attempt() -> None:
    """A reading has either the value or the error, and other errors are not hidden."""

    def refuse() -> int:
        raise SourceError("x", "bad")

    def crash() -> int:
        raise ZeroDivisionError

    assert attempt("x", "file", lambda: 7).value == 7
    refused = attempt("x", "file", refuse)
    assert refused.value is None
    assert refused.error is not None
    assert (refused.source, refused.origin, refused.error.reason) == ("x", "file", "bad")
    with pytest.raises(ZeroDivisionError):
        attempt("x", "file", crash)


def test_the_place_of_an_error() -> None:
    """Where it was raised, then the last steps of this project, innermost first; a library between is not."""

    def refuse(_pairs: object) -> None:
        raise KeyError

    with pytest.raises(KeyError) as caught:
        attempt("x", "file", lambda: json.loads("{}", object_pairs_hook=refuse))
    raised, *own = place_of(caught.value).split(", ")
    assert raised.startswith("unit/test_error_lines.py:")
    assert raised.endswith(" in refuse")
    assert [step.partition(":")[0] for step in own] == ["sources/reading.py"]
    assert place_of(KeyError()) == "an unknown place"
