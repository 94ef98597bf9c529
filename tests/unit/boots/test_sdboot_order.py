# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fnmatch
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.boots.systemd_boot.order import (
    SortKey,
    Tries,
    compare_entries,
    compare_versions,
    matches,
    order,
    parse_pairs,
    parse_tries,
)

OLDER_TO_NEWER = [
    "122.1",
    "123~rc1-1",
    "123",
    "123-a",
    "123-a.1",
    "123-1",
    "123-1.1",
    "123^post1",
    "123.a-1",
    "123.1-1",
    "123a-1",
    "124-1",
]
"""The table in the comment of strverscmp_improved()."""


@pytest.mark.parametrize(("older", "newer"), list(itertools.combinations(OLDER_TO_NEWER, 2)))
def test_versions_sort_as_systemd_documents_it(older: str, newer: str) -> None:
    """Each version of systemd's own table is older than all that stand behind it."""
    assert compare_versions(older, newer) < 0 < compare_versions(newer, older)


@pytest.mark.parametrize(
    ("first", "second", "sign"),
    [
        ("", "", 0),
        ("", "~", 1),
        ("", "a", -1),
        ("123.0", "123.00", 0),
        ("00123", "123", 0),
        ("123_a", "123a", 0),
        ("123aa2", "123aa", 1),
        ("9.0.0", "10.0.0", -1),
        ("6.12.9", "6.12.10", -1),
        ("6.19.11+deb14-amd64", "7.0.7+deb14-amd64", -1),
        ("5.11.0-0.rc5.20210128", "5.11.0-1", -1),
        ("1.2~rc1", "1.2", -1),
        ("a-6.1.conf", "a-6.1+2-1.conf", -1),
        ("1--2", "1-2", -1),
        ("é1", "1", 0),
        ("1-", "1", 1),
    ],
)
def test_versions_of_odd_forms(first: str, second: str, sign: int) -> None:
    """Empty, padded and separated versions compare as strverscmp_improved() compares them."""
    assert compare_versions(first, second) == sign
    assert compare_versions(second, first) == -sign


@given(st.text("019ab.-~^_+é", max_size=12), st.text("019ab.-~^_+é", max_size=12))
def test_comparing_versions_ends_and_is_antisymmetric(first: str, second: str) -> None:
    """Any two versions compare, the other way round with the other sign."""
    assert compare_versions(first, second) == -compare_versions(second, first)
    assert compare_versions(first, first) == 0


@pytest.mark.parametrize(
    ("name", "tries"),
    [
        ("foo.conf", Tries(None, 0, "foo.conf")),
        ("foo+3.conf", Tries(3, 0, "foo.conf")),
        ("foo+0-3.conf", Tries(0, 3, "foo.conf")),
        ("foo+2-1.efi", Tries(2, 1, "foo.efi")),
        ("foo+1+2-1.CONF", Tries(2, 1, "foo+1.CONF")),
        ("debian-6.19.11+deb14-amd64.conf", Tries(None, 0, "debian-6.19.11+deb14-amd64.conf")),
        ("foo+2-1x.conf", Tries(None, 0, "foo+2-1x.conf")),
        ("foo+2-.conf", Tries(None, 0, "foo+2-.conf")),
        ("foo+.conf", Tries(None, 0, "foo+.conf")),
        ("foo+4294967296.conf", Tries(None, 0, "foo+4294967296.conf")),
        ("foo+٣.conf", Tries(None, 0, "foo+٣.conf")),
    ],
)
def test_boot_counters_are_read_from_names(name: str, tries: Tries) -> None:
    """Only a number behind the last plus sign, right before the suffix, counts boots."""
    assert parse_tries(name) == tries


def test_entries_sort_by_tries_then_key_then_machine_then_version_then_name() -> None:
    """Each criterion decides only where those before it do not."""
    keys = [
        SortKey("a.conf"),
        SortKey("b.conf"),
        SortKey("a.conf", "debian", None, "2"),
        SortKey("b.conf", "debian", None, "10"),
        SortKey("c.conf", "debian", "0123", "99"),
        SortKey("d.conf", "arch", "0123", "1"),
        SortKey("e.conf", "a", None, "100", tries_left=0),
        SortKey("f.conf", "debian", None, "10", tries_left=1),
    ]
    assert [keys[i].id for i in order(keys)] == [
        "d.conf",
        "f.conf",
        "b.conf",
        "a.conf",
        "c.conf",
        "b.conf",
        "a.conf",
        "e.conf",
    ]


def test_more_tries_left_come_first_among_the_same() -> None:
    """The same entry twice: more tries left first, then the one that was tried less."""
    assert compare_entries(SortKey("a", tries_left=3), SortKey("a", tries_left=2)) < 0
    assert (
        compare_entries(SortKey("a", tries_left=2, tries_done=0), SortKey("a", tries_left=2, tries_done=1))
        < 0
    )
    assert compare_entries(SortKey("a", tries_left=2), SortKey("a")) == 0


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a.conf", "a.conf", True),
        ("a.conf", "a.confx", False),
        ("*", "", True),
        ("a*", "a", True),
        ("*6.12*.conf", "debian-6.12.41.conf", True),
        ("a?c", "abc", True),
        ("a?", "a", False),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[]a]x", "]x", True),
        ("[a-]x", "-x", True),
        ("[a-c-f]x", "-x", True),
        ("[a-c-f]x", "ex", False),
        ("[!a]x", "bx", False),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        ("a\\", "a\\", False),
        ("[abc", "a", False),
        (r"[\]]x", "]x", True),
        ("**a**b**", "xaxbx", True),
        ("a*b*c", "abbcb", False),
        ("", "a", False),
        ("", "", True),
    ],
)
def test_globs_match_as_in_systemd_boot(pattern: str, name: str, fits: bool) -> None:  # noqa: FBT001
    """Stars, question marks, sets and backslashes mean what efi_fnmatch() makes of them."""
    assert matches(pattern, name) is fits


@given(st.text("ab*?.", max_size=8), st.text("ab.", max_size=8))
def test_globs_without_sets_match_as_everywhere(pattern: str, name: str) -> None:
    """Where only stars and question marks are used, fnmatch of Python says the same."""
    assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


@given(st.text("ab[]-\\*?", max_size=10), st.text("ab]-\\", max_size=6))
def test_broken_globs_end(pattern: str, name: str) -> None:
    """No pattern raises an error."""
    assert matches(pattern, name) in {True, False}


def test_a_very_long_glob_matches_nothing() -> None:
    """A variable of a megabyte costs no time."""
    assert not matches("*a" * 600, "a" * 255)


def test_pairs_are_read_as_the_loader_reads_them() -> None:
    """Lines end with CR or LF; blanks around, comments, lone keys and one pair of quotes go."""
    text = '\ttitle  "My Linux"  \n# options x\noptions a  "b c"\roptions\td\nlonely\nefi "\n\0linux /x\n'
    assert parse_pairs(text) == {"title": ["My Linux"], "options": ['a  "b c"', "d"], "efi": [""]}
    assert parse_pairs("ID=debian\nNAME='x y'\n", "=") == {"ID": ["debian"], "NAME": ["x y"]}
