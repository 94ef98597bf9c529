# SPDX-License-Identifier: Apache-2.0
"""Lines of external text."""

from __future__ import annotations


def lines_of(text: str) -> list[str]:
    """The lines of a text that ends lines with LF or CRLF, without a last empty one.

    ``str.splitlines()`` would also break at form feeds, U+2028 and the like: a process name or a kernel
    message that holds one could then start a line of its own.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    return lines
