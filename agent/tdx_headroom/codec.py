# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to JSON values and back, by their type hints.

Covers what the facts are made of: dataclasses, NamedTuples, enums, tuples, optional values and JSON's own
types. Keys that a dataclass does not know are ignored, so that a newer agent's facts can be read.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


class DecodeError(ValueError):
    """A JSON value that does not fit; the message names the path and what was expected."""


def encode(value: object) -> Any:  # noqa: ANN401  a JSON value
    """The JSON value (dict, list, str, int, float, bool or None) for ``value``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
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
    return _decode(kind, value, where)


def _decode(kind: Any, value: object, where: str) -> object:  # noqa: ANN401  one branch a kind
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        choices = typing.get_args(kind)
        if value is None and type(None) in choices:
            return None
        (inner,) = (c for c in choices if c is not type(None))
        return _decode(inner, value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        args = typing.get_args(kind)
        if args[-1] is Ellipsis:
            return tuple(_decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(items))
        return _decode_fixed(args, items, where)
    if dataclasses.is_dataclass(kind):
        table = _expect(dict, value, where)
        hints = _hints(typing.cast("type", kind))
        known = {f.name for f in dataclasses.fields(kind)}
        given = {k: _decode(hints[k], v, f"{where}.{k}") for k, v in table.items() if k in known}
        try:
            return typing.cast("type", kind)(**given)
        except TypeError as error:
            raise DecodeError(f"{where}: {str(error).split('__init__() ')[-1]}") from None
    if isinstance(kind, type) and issubclass(kind, tuple):
        hints = _hints(kind)
        items = _expect(list, value, where)
        return kind(*_decode_fixed(tuple(hints.values()), items, where))
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            known_values = ", ".join(str(member.value) for member in kind)
            raise DecodeError(f"{where}: {value!r} is none of {known_values}") from None
    return _expect(kind, value, where)


def _decode_fixed(args: tuple[Any, ...], items: list[Any], where: str) -> tuple[Any, ...]:
    if len(items) != len(args):
        raise DecodeError(f"{where}: {len(items)} entries instead of {len(args)}")
    return tuple(
        _decode(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, items, strict=True))
    )


def _expect(kind: type[T], value: object, where: str) -> T:
    # bool is an int in Python; in JSON true is no number.
    if kind is float and type(value) is int:
        try:
            return typing.cast("T", float(value))
        except OverflowError:
            raise DecodeError(f"{where}: the number is too large") from None
    if type(value) is not kind:
        raise DecodeError(f"{where}: expected {_NAMES.get(kind, kind.__name__)}, got {_name_of(value)}")
    return value


_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "true or false"}


def _name_of(value: object) -> str:
    if value is None:
        return "null"
    return f"{_NAMES.get(type(value), 'a number')}"


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
