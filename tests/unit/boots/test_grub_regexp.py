# SPDX-License-Identifier: Apache-2.0
"""The ``regexp`` command: what is answered as GRUB does, and what is left open."""

from __future__ import annotations

import time

import pytest

from tdx_headroom.boots.grub.regexp import MAX_COST, regexp


@pytest.mark.parametrize(
    ("expression", "text", "parts"),
    [
        ("^(.*),gpt([0-9]+)$", "hd0,gpt2", ("hd0", "2")),
        ("^(hd[[:digit:]]+)", "hd12,msdos1", ("hd12",)),
        ("(x)?y", "y", (None,)),
        (r"^\((.*)\)/", "(hd0)/boot", ("hd0",)),
        ("a{2,3}", "baaa", ()),
        ("[^/]*$", "/boot/vmlinuz-6.1", ()),
        ("^[[:xdigit:]-]+$", "07a4-99", ()),
        (r"6\.1", "6x1", None),
        ("a.b", "a\rb", ()),
        ("[a-c]+(b.)?", "(abd)", ("bd",)),
    ],
)
def test_answered(expression: str, text: str, parts: tuple[str | None, ...] | None) -> None:
    """Groups as GRUB's variables get them; None: no match."""
    found = regexp(expression, text, groups=True)
    assert found is not None
    match = found.match()
    assert (None if match is None else match.groups()) == parts


OTHERS = (
    *(
        "(ab)*",
        "(a){2}",
        "a**",
        "a*?",
        "a*+",
        "*a",
        "(*a)",
        "a|+",
        r"\d",
        r"\1",
        r"\<a",
        "(?i)a",
        "[]a]",
        "[^]a]",
    ),
    *("[[.a.]]", "[[:print:]]", "[a&&b]", r"[\n]", "a{x", "a{,2}", "(", "[", "a" * 1001),
)


@pytest.mark.parametrize("expression", OTHERS)
def test_left_open(expression: str) -> None:
    """What POSIX, GNU and Python read in different ways."""
    assert regexp(expression, "aaa", groups=False) is None


def test_alternatives_are_matched_but_set_nothing() -> None:
    """POSIX takes the longest of them, Python the first."""
    found = regexp("^(a|ab)", "abc", groups=False)
    assert found is not None
    assert found.match()
    assert regexp("^(a|ab)", "abc", groups=True) is None


def test_text_of_several_lines() -> None:
    """To POSIX they are one, to Python a $ stands before the last end of line."""
    assert regexp("a$", "a\n", groups=False) is None


@pytest.mark.parametrize("expression", ["a*a*b", "a?a?a?a?b", "(a|b|c)(a|d)b", ".*.*c", "a*" * 8 + "b"])
def test_it_takes_no_longer_than_it_costs(expression: str) -> None:
    """As long a text as it may have is searched in a fraction of a second."""
    length = next(n for n in (6000, 500, 60, 6, 3, 1) if regexp(expression, "a" * n, groups=False))
    found = regexp(expression, "a" * length, groups=False)
    assert found is not None
    before = time.process_time()
    assert found.match() is None
    assert time.process_time() - before < 5
    assert found.cost <= MAX_COST + 64 * len(expression)
