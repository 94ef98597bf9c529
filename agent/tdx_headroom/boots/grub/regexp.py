# SPDX-License-Identifier: Apache-2.0
"""GRUB's ``regexp`` command: those POSIX expressions that Python's ``re`` answers the same, and soon.

After commands/regexp.c of GRUB 2, which compiles extended expressions (``REG_EXTENDED``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_COST = 1 << 18
"""Places that one search may look at, at the worst."""
MAX_LENGTH = 1000
"""Characters of an expression."""

_CLASSES = {
    "[:digit:]": "0-9",
    "[:alpha:]": "A-Za-z",
    "[:alnum:]": "A-Za-z0-9",
    "[:lower:]": "a-z",
    "[:upper:]": "A-Z",
    "[:xdigit:]": "0-9A-Fa-f",
}
_OTHER = re.compile(
    r"""
    [)*+?}][*+{]                  # repeats what is repeated, or a group: this can take for ever
    | [*+?}]\?                    # to Python: as few as possible
    | (?:^|[(^|])[*+?{]           # repeats nothing
    | \{(?!\d+(?:,\d*)?\})        # no count
    | \\(?![][.()*+?{}^$|\\/,:-])  # stands for something else than the character itself
    | \[\^?\]                     # a bracket in brackets
    | \[[^]]*(?:\[|--|&&|\|\||~~|\\)
    """,
    re.VERBOSE,
)


class Regexp(NamedTuple):
    """An expression as Python has it.

    Args:
        pattern: of it.
        text: that it searches.
        cost: how many places the search looks at, at the worst; a character of the expression takes as long
            as 64.
    """

    pattern: re.Pattern[str]
    text: str
    cost: int

    def match(self) -> re.Match[str] | None:
        """The first match, and the longest there: Python itself gives the one that it finds first."""
        found = self.pattern.search(self.text)
        expression = self.pattern.pattern
        to_the_end = expression.endswith("$") and not expression.endswith(r"\$")
        if found is not None and self.pattern.groups and not to_the_end:
            for end in range(len(self.text), found.end(), -1):
                longer = self.pattern.fullmatch(self.text, found.start(), end)
                if longer is not None:
                    return longer
        return found


def regexp(expression: str, text: str, *, groups: bool) -> Regexp | None:
    """What GRUB makes of an expression; None where that is not known, or where the search may take long.

    Args:
        expression: as GRUB's script has it.
        text: that is searched.
        groups: whether it matters what each group matches: of alternatives POSIX takes the longest, and
            Python the first. Neither can it be told how long a match is that may end in its middle.
    """
    if "\n" in text or len(expression) > MAX_LENGTH:
        return None
    if groups and ("|" in expression or "$" in expression[:-1]):
        return None
    for name, members in _CLASSES.items():
        expression = expression.replace(name, members)
    if _OTHER.search(expression) is not None:
        return None
    # Each place is a beginning; each repeat may end at each place behind it, each choice doubles the ways.
    repeats = sum(map(expression.count, "*+{")) + groups
    choices = sum(map(expression.count, "?|"))
    cost = (len(text) + 1) ** min(1 + repeats, 64) << min(choices, 64)
    if cost > MAX_COST:
        return None
    try:
        return Regexp(re.compile(expression, re.DOTALL), text, cost + 64 * len(expression))
    except re.error:
        return None
