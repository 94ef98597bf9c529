# SPDX-License-Identifier: Apache-2.0
"""What a check is."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Result(StrEnum):
    """How a check went; SKIP where it cannot be made here."""

    PASS = "PASS"  # noqa: S105  no password
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


class Check(NamedTuple):
    """One check: the group and name that identify it, its result, what was found, and what to do."""

    group: str
    name: str
    result: Result
    message: str
    hint: str | None = None
