# SPDX-License-Identifier: Apache-2.0
"""Numbers and arguments of the kernel's command line in every notation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tdx_headroom.address import ADDRESS_SPACE, Range
from tdx_headroom.facts.command_line import map_edits, parse_amount, punch, split_arguments

UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
NOTATIONS = ("{0}", "0{0:o}", "0x{0:x}", "0X{0:X}", "00{0:o}", "0x000{0:x}")
numbers = st.one_of(st.integers(0, ADDRESS_SPACE * 16), st.integers(0, 1 << 20))
CHARACTERS = '0123456789abcxXKkMGTPE@#$!%-+,="exactmap \t'


@given(
    number=numbers, notation=st.sampled_from(NOTATIONS), unit=st.sampled_from(sorted(UNITS)), data=st.data()
)
def test_a_number_in_any_notation(number: int, notation: str, unit: str, data: st.DataObject) -> None:
    """The value wraps at 64 bits, whatever the notation; what stands behind it stays."""
    # Behind hexadecimal digits an E is one of them.
    unit = unit if not (unit == "E" and "x" in notation.lower()) else "P"
    written = notation.format(number) + data.draw(st.sampled_from([unit, unit.lower()]))
    rest = data.draw(st.sampled_from(["", "$", "@1", ",", "-1+2", "%"]))
    assert parse_amount(written + rest) == ((number << UNITS[unit]) % ADDRESS_SPACE, rest)


@given(text=st.text(CHARACTERS, max_size=60))
def test_any_text_is_read(text: str) -> None:
    """Nothing that can stand there ends in an error, or in an address outside of 64 bits."""
    arguments = split_arguments(text)
    for edit in map_edits([text, f"memmap={text}", f"mem={text}", *arguments]):
        assert 0 <= edit.start < ADDRESS_SPACE
        assert edit.range.end < ADDRESS_SPACE


@given(start=st.integers(0, 1 << 40), size=st.integers(1, 1 << 30))
def test_the_own_remedy_is_understood(start: int, size: int) -> None:
    """What the agent proposes makes the very hole that it is meant to, and has nothing to quote in it."""
    argument = punch(start, size)
    (edit,) = map_edits([argument])
    assert edit.punches
    assert edit.range == Range(start, start + size)
    assert not set(argument) & set("$\\'\"`!#& ;")
