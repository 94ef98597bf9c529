# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to JSON values and back, by their type hints.

Covers what the facts are made of: dataclasses, NamedTuples, enums, tuples, optional values and JSON's own
types; a NamedTuple that can ``parse()`` its text is that text. Keys that a dataclass does not know are
ignored, so that a newer agent's facts can be read; fields that it leaves out of comparison are not written.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Reader = Callable[[Any], Any]
    """Gives the value that a JSON value stands for, or raises :class:`_Misfit`."""


class DecodeError(ValueError):
    """A JSON value that does not fit; the message names the path and what was expected."""


class _Misfit(Exception):  # noqa: N818  never leaves this module
    """What is wrong with a value, and where it is: steps from the inside out."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.steps: list[str] = []

    def inside(self, step: str) -> _Misfit:
        """The same, told of what the value is a part of."""
        self.steps.append(step)
        return self


def encode(value: object) -> Any:  # noqa: ANN401  a JSON value
    """The JSON value (dict, list, str, int, float, bool or None) for ``value``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple) and hasattr(value, "parse"):
        return str(value)
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def decode(kind: Any, value: object, where: str) -> Any:  # noqa: ANN401  whatever ``kind`` says
    """The value of type ``kind`` that the JSON value stands for.

    Args:
        kind: a type as above.
        value: what ``json.loads()`` gave.
        where: path of the value, for the message.

    Raises:
        DecodeError: it does not fit.
    """
    try:
        return _reader(kind)(value)
    except _Misfit as misfit:
        path = "".join([where, *reversed(misfit.steps)])
        raise DecodeError(f"{path}: {misfit.problem}") from None


@cache
def _reader(kind: Any) -> Reader:  # noqa: ANN401  whatever ``kind`` says
    """The reader for a type: the type is looked at once, however many values are read."""
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (c for c in args if c is not types.NoneType)
        return _optional(_reader(inner)) if types.NoneType in args else _reader(inner)
    if origin is tuple:
        return _many(_reader(args[0])) if args[-1] is Ellipsis else _fixed(args, tuple)
    if dataclasses.is_dataclass(kind):
        return _object(typing.cast("type", kind))
    if hasattr(kind, "parse"):
        return lambda value: kind.parse(_expect(str, value))
    if issubclass(kind, tuple):
        return _fixed(tuple(typing.get_type_hints(kind).values()), lambda items: kind(*items))
    if issubclass(kind, Enum):
        return _member(kind)
    return _number if kind is float else _plain(kind)


def _optional(inner: Reader) -> Reader:
    return lambda value: None if value is None else inner(value)


def _many(inner: Reader) -> Reader:
    def read(value: object) -> object:
        items = _expect(list, value)
        found: list[Any] = []
        try:
            for item in items:
                found.append(inner(item))  # noqa: PERF401  its length tells which item does not fit
        except _Misfit as misfit:
            raise misfit.inside(f"[{len(found)}]") from None
        return tuple(found)

    return read


def _fixed(kinds: Sequence[Any], make: Callable[[list[Any]], object]) -> Reader:
    readers = [_reader(kind) for kind in kinds]

    def read(value: object) -> object:
        items = _expect(list, value)
        if len(items) != len(readers):
            raise _Misfit(f"{len(items)} entries instead of {len(readers)}")
        found: list[Any] = []
        try:
            for reader, item in zip(readers, items, strict=True):
                found.append(reader(item))
        except _Misfit as misfit:
            raise misfit.inside(f"[{len(found)}]") from None
        return make(found)

    return read


def _object(kind: type) -> Reader:
    hints = typing.get_type_hints(kind)
    fields = [f for f in dataclasses.fields(kind) if f.compare]
    readers = {f.name: _reader(hints[f.name]) for f in fields}
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]

    def read(value: object) -> object:
        given = {}
        for key, item in _expect(dict, value).items():
            if key not in readers:
                continue
            try:
                given[key] = readers[key](item)
            except _Misfit as misfit:
                raise misfit.inside(f".{key}") from None
        if missing := [name for name in required if name not in given]:
            raise _Misfit(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        return kind(**given)

    return read


def _member(kind: type[Enum]) -> Reader:
    def read(value: object) -> object:
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise _Misfit(f"{value!r} is none of {known}") from None

    return read


def _number(value: object) -> object:
    """A float; JSON has one kind of number, and 2 is a fine float."""
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise _Misfit("the number is too large") from None
    return _expect(float, value)


def _plain(kind: type) -> Reader:
    return lambda value: value if type(value) is kind else _expect(kind, value)


def _expect(kind: type, value: Any) -> Any:  # noqa: ANN401  it is a ``kind`` when it is returned
    # bool is an int in Python; in JSON true is no number.
    if type(value) is not kind:
        raise _Misfit(f"expected {_NAMES[kind]}, got {_NAMES[type(value)]}")
    return value


_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
