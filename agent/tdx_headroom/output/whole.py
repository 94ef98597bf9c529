# SPDX-License-Identifier: Apache-2.0
"""What of a sentence stays in one line: an address range, an error number, an amount with its unit."""

from __future__ import annotations

import re

WHOLE = (
    r"\[0x[0-9a-f]+, 0x[0-9a-f]+\)"  # an address range
    r"|\berrno -?[0-9]+"
    r"|\b[0-9][0-9.]* [KMGTPE]iB\b"
)
"""As a regular expression, without groups; for ASCII."""

MAX_ON_PAGE = 28
"""Characters that surely fit a line of a phone's: what is longer may break there."""

_ON_PAGE = re.compile(
    rf"({WHOLE}"
    r"|[!-~]*[0-9A-Za-z]-[!-~]*[0-9A-Za-z])",  # words with a hyphen: names, releases, arguments
    re.ASCII,
)


def pieces(text: str) -> list[tuple[str, bool]]:
    """A text in pieces for the page, and whether a line may not end inside of each."""
    return [
        (piece, odd % 2 == 1 and len(piece) <= MAX_ON_PAGE) for odd, piece in enumerate(_ON_PAGE.split(text))
    ]
