# SPDX-License-Identifier: Apache-2.0
"""What mail, web pages and terminals do to a log's lines: broken in two, encoded, marked up, remarked on."""

from __future__ import annotations

import json
import quopri
import re
from itertools import takewhile
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.json_text import is_json
from tdx_headroom.sources.kernel_log.known_lines import is_known, matters
from tdx_headroom.sources.kernel_log.line_forms import BARE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.sources.kernel_log.line_forms import Line

_SOFT = re.compile(r"^.{60,75}=$", re.MULTILINE)
_LONGEST = 76
"""No line of quoted-printable text is longer (RFC 2045)."""
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_ESCAPED_BREAK = re.compile(r"(?:\\r)?\\n")
_QUOTES = re.compile(r"""^\s*(?:["']?\w{1,64}["']?\s?[:=]\s?)?["']|["'],?\s*$""")
_ZERO_AT_END = re.compile(r"(?<!\0)\0(?=\r?\n|\Z)")
_ZEROS = re.compile(r"\0+")
HOLE = "\0"
"""A line that stands for lines that were lost."""
_STAMP = r"\[ *[0-9]+\.[0-9]{6}\]"
_BEGINNINGS = tuple(
    re.compile(rf"(?<! ) {{1,64}}(?={begins})")
    for begins in (
        r"[A-Z][a-z]{2} [ 0-9]?[0-9] [0-9:]{8} \S{1,64} kernel: ",
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}\S{1,8} \S{1,64} kernel: ",
        rf"(?:<[0-9]{{1,3}}>|kern *:[a-z]{{3,6}} *: ?){_STAMP}",
        r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]?[0-9] [0-9:]{8} [0-9]{4}\] ",
        rf"{_STAMP} ",
    )
)
"""How lines begin, the outermost first; of these, not of bare messages, it is sure that one begins there."""
_PARTS = 3
"""So many lines more may one be broken into: the longest that are read have some 150 characters."""
_WRAPS = 60
"""Nothing breaks a line that is shorter."""
_BEGINNING = 26
"""By no more characters than this a known message is told (:func:`matters`)."""
_IMAGE = "BOOT_IMAGE="
_ARGUMENTS = re.compile(r"[a-z]\S*(?:\s+[a-z]\S*)*")
_MARK = re.compile(r"(?:</?[A-Za-z][^<>]{0,40}>|[]`*_\"'|\\,;)}.])$")
_MOST_MARKS = 8
_REMARK = re.compile(r"(?:\s+<-|\s{3,}).*$")
_E820 = re.compile(
    rf"(?P<row>(?:BIOS-e820|user): \[mem [^]]*\] {{1,2}}(?:{boot_lines.E820_TYPES.pattern}))(?!\w).*"
)


def decoded(text: str) -> str:
    r"""A text with the line breaks that its author meant.

    Every line of quoted-printable mail is short: in a log somebody could not make lines vanish by ending them
    with ``=``. Likewise ``<br>`` breaks lines only where hardly anything else does, a carriage return alone,
    ``\n`` in letters, and a blank before what a line of a log begins with.
    """
    if _SOFT.search(text) and all(len(line) <= _LONGEST for line in text.splitlines()):
        text = quopri.decodestring(text.encode()).decode("utf-8", "replace")
    breaks = text.count("\n")
    if breaks > _PARTS:
        return text
    if text.count("\r") > max(breaks, 1):
        text = re.sub("\r+\n?", "\n", text)
    elif _BREAK.search(text):
        text = _BREAK.sub("\n", text)
    elif not is_json(text.split("\n")):
        text = _unescaped(text)
    return text


def with_holes(text: str) -> str:
    """A text with a line :data:`HOLE` where it has zeros: a crash left them, or logrotate, where lines stood.

    One at the end of a line is what some consoles end lines with.
    """
    if "\0" not in text:
        return text
    return _ZEROS.sub(f"\n{HOLE}\n", _ZERO_AT_END.sub("", text))


def _unescaped(text: str) -> str:
    """A text in hardly a line, with the line breaks that stand in it in letters, or have become blanks."""
    if text.startswith('"'):
        try:
            string = json.loads(text)
        except (ValueError, RecursionError):
            string = None
        if isinstance(string, str):
            return string
    if len(_ESCAPED_BREAK.findall(text)) > 1:
        text = _QUOTES.sub("", text)
        return _ESCAPED_BREAK.sub("\n", text).replace("\\t", "\t").replace('\\"', '"')
    for beginning in _BEGINNINGS:
        if len(beginning.findall(text)) >= _PARTS:
            return beginning.sub("\n", text)
    return text


def unmarked(message: str) -> str:
    """A message without what people and markup put behind it, where that makes it a known one."""
    if match := _E820.fullmatch(message):
        return match["row"]
    if not matters(message) or is_known(message):
        return message
    if is_known(shorter := _REMARK.sub("", message)):
        return shorter
    shorter = message
    for _ in range(_MOST_MARKS):
        # Blanks apart: in the pattern they would take time by the square of their number.
        if is_known(shorter := _MARK.sub("", shorter.rstrip()).rstrip()):
            return shorter
    return message


def is_whole(message: str) -> bool:
    """Whether a message is a known one with nothing missing."""
    if match := boot_lines.E820_ROW.fullmatch(message):
        return boot_lines.E820_TYPES.fullmatch(match[4]) is not None
    return is_known(message)


def rejoined(lines: Sequence[str], read: Sequence[Line]) -> Iterator[Line]:
    """The lines, those put together again that something has broken in two.

    Only lines without a prefix are put behind one, and only where the first makes no sense without them.
    """
    passed_over = 0
    for number, line in enumerate(read):
        if passed_over:
            passed_over -= 1
            yield line._replace(text=None)
            continue
        if line.text is None or line.trusted is False or not _may_begin(line.text, read, number):
            yield line
            continue
        message = unmarked(line.text)
        if _is_arguments(message):
            # They have no end of their own. Where lines have no prefix, what is below may be anything.
            may_go_on = line.form != BARE and len(lines[number]) >= _WRAPS
            behind = list(
                takewhile(_ARGUMENTS.fullmatch, _bare_lines_behind(read, number) if may_go_on else [])
            )
            message, passed_over = " ".join([message, *behind]), len(behind)
        elif not is_whole(message):
            message, passed_over = _joined(line.text, _bare_lines_behind(read, number)) or (message, 0)
        yield line._replace(text=message)


def _may_begin(message: str, read: Sequence[Line], number: int) -> bool:
    """Whether a line may be a known message, or the beginning of one: nearly none is, and this is cheap."""
    if matters(message) or message.startswith(_IMAGE):
        return True
    if len(message) >= _BEGINNING or number + 1 >= len(read):
        return False
    behind = read[number + 1].text or ""
    return matters(f"{message}{behind}") or matters(f"{message} {behind}")


def _joined(first: str, behind: Sequence[str]) -> tuple[str, int] | None:
    """A line and as many of those behind it as make it whole; broken between words, or anywhere."""
    for count in range(1, len(behind) + 1):
        parts = [first, *behind[:count]]
        for message in map(unmarked, (" ".join(parts), "".join(parts))):
            if is_whole(message):
                return message, count
    return None


def _is_arguments(message: str) -> bool:
    return boot_lines.COMMAND_LINE.fullmatch(message) is not None


def _bare_lines_behind(read: Sequence[Line], number: int) -> list[str]:
    found = []
    for line in read[number + 1 : number + 1 + _PARTS]:
        if line.form != BARE or line.wrapping or line.text is None or matters(line.text):
            break
        found.append(line.text)
    return found
