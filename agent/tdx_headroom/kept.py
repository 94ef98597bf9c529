# SPDX-License-Identifier: Apache-2.0
"""What may be kept of results, for whoever asks the same again.

Plans, searches and simulated maps are functions of few facts. Machines of one model with one firmware often
agree in these, and so do most boots of a host, and the host whenever the agent looks at it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

KEPT = 16
"""How many results of a kind."""

MAX_ROWS = 1000
"""Of what a result is made of: what comes from outside can be of any size, and must not fill memory."""

MAX_CHARACTERS = 1 << 15
"""In its names and arguments."""


def may_be_kept(rows: Iterable[Sized | None], texts: Iterable[str]) -> bool:
    """Whether a result is small enough, by what it is made of.

    Args:
        rows: lists of ranges and the like; the result has no more rows than they have together.
        texts: names and arguments in them.
    """
    return sum(len(one or ()) for one in rows) <= MAX_ROWS and sum(map(len, texts)) <= MAX_CHARACTERS
