# SPDX-License-Identifier: Apache-2.0
"""Keeps one part of a verdict that fails from taking the others along."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tdx_headroom.errors import one_line, place_of
from tdx_headroom.verdict.findings import AGENT_ERROR, Finding, Severity
from tdx_headroom.verdict.model import PartFailure, Sentence

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class Guard:
    """Makes parts of a verdict, and notes those that fail by an unexpected error.

    Attributes:
        failures: so far.
    """

    def __init__(self) -> None:
        self.failures: list[PartFailure] = []

    def part(self, name: str, make: Callable[[], Result], otherwise: Result) -> Result:
        """What is made; on any error ``otherwise``, which must not be better than what is known."""
        try:
            return make()
        except Exception as error:  # noqa: BLE001  whatever it is, the rest must be served
            self.note(name, error)
            return otherwise

    def note(self, name: str, error: Exception) -> None:
        """Keep an error that has cost a part."""
        self.failures.append(PartFailure(name, one_line(repr(error)), place_of(error)))

    @property
    def findings(self) -> list[Finding]:
        """One for each failure; only its place leaves the host, since an error may quote anything."""
        return [
            Finding(
                AGENT_ERROR,
                Severity.NOTE,
                Sentence(_say(failure, f" ({failure.error})"), public=_say(failure, "")),
            )
            for failure in self.failures
        ]


def _say(failure: PartFailure, error: str) -> str:
    return (
        f"This answer lacks {failure.part}: an error in the agent at {failure.place}{error}. Please report"
        " it."
    )
