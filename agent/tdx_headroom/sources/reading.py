# SPDX-License-Identifier: Apache-2.0
"""What reading a source gives: a value, or the reason why there is none, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """One attempt at one source: ``value`` or ``error`` is set, or both when an earlier value still counts.

    Args:
        source: the source's name, as in the metrics.
        origin: the path or log that was read.
        value: what it says.
        error: why it could not be used.
    """

    source: str
    origin: str
    value: T | None = None
    error: SourceError | None = None


def attempt(source: str, origin: str, read: Callable[[], T]) -> Reading[T]:
    """Call ``read``; a :class:`SourceError` becomes the reading's error."""
    try:
        return Reading(source, origin, value=read())
    except SourceError as error:
        return Reading(source, origin, error=error)
