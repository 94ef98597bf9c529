# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import pytest

from tdx_headroom.facts.codec import DecodeError, decode, encode


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Pair(NamedTuple):
    first: int
    second: str | None


@dataclass(frozen=True, slots=True)
class Inner:
    number: float
    flag: bool = False


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    colour: Colour | None = None
    pair: Pair | None = None
    inner: tuple[Inner, ...] = ()
    fixed: tuple[int, int] | None = None


FULL = Outer("x", Colour.BLUE, Pair(1, None), (Inner(1.5, flag=True), Inner(2.0)), (3, 4))
JSON = {
    "name": "x",
    "colour": "blue",
    "pair": [1, None],
    "inner": [{"number": 1.5, "flag": True}, {"number": 2.0, "flag": False}],
    "fixed": [3, 4],
}


@pytest.mark.parametrize("value", [FULL, Outer("y"), Outer("z", fixed=(1 << 64, 0))])
def test_round_trip(value: Outer) -> None:
    """What is encoded, through JSON text, is decoded to the same value."""
    assert decode(Outer, json.loads(json.dumps(encode(value))), "top") == value


def test_encoding() -> None:
    """Objects for dataclasses, lists for tuples, values for enums."""
    assert encode(FULL) == JSON


def test_unknown_keys_are_ignored() -> None:
    """A newer agent's keys do not hinder an older one."""
    assert decode(Outer, {**JSON, "new": {"deep": [1]}}, "top") == FULL


def test_integer_for_a_float() -> None:
    """JSON has one kind of number: 2 is a fine float."""
    found = decode(Inner, {"number": 2}, "top")
    assert found == Inner(2.0)
    assert isinstance(found.number, float)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Outer, None, "top: expected an object, got null"),
        (Outer, [], "top: expected an object, got a list"),
        (Outer, {}, "top: name is missing"),
        (Outer, {"name": 7}, "top.name: expected a string, got an integer"),
        (Outer, {"name": None}, "top.name: expected a string, got null"),
        (Outer, {**JSON, "colour": "green"}, "top.colour: 'green' is none of red, blue"),
        (Outer, {**JSON, "colour": []}, "top.colour: [] is none of red, blue"),
        (Outer, {**JSON, "pair": [1]}, "top.pair: 1 entries instead of 2"),
        (Outer, {**JSON, "pair": {"first": 1}}, "top.pair: expected a list, got an object"),
        (Outer, {**JSON, "pair": ["1", None]}, "top.pair[0]: expected an integer, got a string"),
        (Outer, {**JSON, "pair": [1.0, None]}, "top.pair[0]: expected an integer, got a number"),
        (Outer, {**JSON, "pair": [True, None]}, "top.pair[0]: expected an integer, got true or false"),
        (Outer, {**JSON, "inner": None}, "top.inner: expected a list, got null"),
        (
            Outer,
            {**JSON, "inner": [{"number": 1}, {"number": "x"}]},
            "top.inner[1].number: expected a number, got a string",
        ),
        (
            Outer,
            {**JSON, "inner": [{"number": 1, "flag": 1}]},
            "top.inner[0].flag: expected true or false, got an integer",
        ),
        (Outer, {**JSON, "fixed": [1, 2, 3]}, "top.fixed: 3 entries instead of 2"),
        (tuple[int, ...], "12", "top: expected a list, got a string"),
        (str | None, 1, "top: expected a string, got an integer"),
    ],
)
def test_refusal(kind: object, value: object, message: str) -> None:
    """A value that does not fit is refused with its path and what was expected."""
    with pytest.raises(DecodeError) as caught:
        decode(kind, value, "top")
    assert str(caught.value) == message


def test_integer_too_large_for_a_float() -> None:
    """A number that no float can hold is refused like any other misfit."""
    with pytest.raises(DecodeError):
        decode(Inner, {"number": 10**400}, "top")
