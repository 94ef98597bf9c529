# SPDX-License-Identifier: Apache-2.0
"""Lines of external text."""

from __future__ import annotations

import re

# ECMA-48. What places the cursor at the front of a line, or behind it, moves nothing of it; in the middle it
# says that the rest stands elsewhere, and stays. Blanks may be steps to the right (CUF).
_PLACED = re.compile(r"(?:\s*\x1b\[[0-9;]*[A-Hfd])+")
_PLACE = re.compile(r"\x1b\[[0-9;]*[A-Hfd]\s*")
_STEPS = re.compile(r"\x1b\[([0-9]{0,3})C")
_MOST_STEPS = 8
"""Blanks that stand for a step: more say no more, and a small file must not become a large one."""
# CSI; OSC, such as a title or a link; DCS and its like; a set of characters; the rest.
_SEQUENCE = re.compile(
    r"""\x1b(?:\[[0-?]*[ -/]*[@I-ceg-~]
      | \][^\x07\x1b]*(?:\x07|\x1b\\)
      | [PX^_][^\x1b]*\x1b\\
      | [\ -/]+[0-~]
      | [0-OQ-WYZc-~])""",
    re.VERBOSE,
)


def _blanks(step: re.Match[str]) -> str:
    return " " * min(int(step[1] or "1"), _MOST_STEPS)


def without_sequences(line: str) -> str:
    """A line without what terminals take as colours, titles, character sets and the like."""
    if "\x1b" not in line:
        return line
    line = _SEQUENCE.sub("", _STEPS.sub(_blanks, line)).replace("\x0f", "")
    if placed := _PLACED.match(line):
        line = line[placed.end() :]
    while (at := line.rfind("\x1b")) >= 0 and _PLACE.fullmatch(line, at):
        line = line[:at]
    return line


def lines_of(text: str) -> list[str]:
    """The lines of a text that ends lines with LF or CRLF, without a last empty one.

    ``str.splitlines()`` would also break at form feeds, U+2028 and the like: a process name or a kernel
    message that holds one could then start a line of its own.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    return lines
