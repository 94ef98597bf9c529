# SPDX-License-Identifier: Apache-2.0
"""Documents of other programs that hold a log: web pages and XML, results in JSON, logfmt, base64."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError
from tdx_headroom.sources.kernel_log.known_lines import is_known
from tdx_headroom.sources.kernel_log.line_forms import read_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG = re.compile(r"<(?:!--|/?([A-Za-z][\w:.-]{0,40})(?=[\s/>])|[!?][A-Za-z])[^<>]{0,2000}>")
_MARKED_UP = re.compile(r"\s*<[A-Za-z!?]")
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "code",
        "em",
        "font",
        "i",
        "kbd",
        "mark",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
_CELLS = frozenset({"td", "th"})

# Ansible's ad-hoc commands name the host in front.
_BEFORE_JSON = re.compile(r"\s*(?:[^\s{}\[\]]{1,255} \| [A-Z]{2,20}!? => )?(?=[{\[])")
_JOURNAL = ("MESSAGE", "dmesg", "pri", "schema")
"""Keys of what is read elsewhere."""

_BASE64 = re.compile(r"\s*+(?:[A-Za-z0-9+/]{4,}+\s++)*+(?:[A-Za-z0-9+/]{2,}+={0,2}\s*+)?")
_SHORTEST = 80
_FIELD = re.compile(r"""(?:^|\s)(?:msg|message|log|line|text)=("(?:[^"\\]|\\.)*")""")
_FIRST_LINE = re.compile(r"\s*(.*)")
_DECODER = json.JSONDecoder()


def log_in(text: str, name: str) -> str:
    """The log that a document holds; a text that is no document, as it stands.

    What a document leaves out, or adds, nothing tells: no text is verified.

    Args:
        text: of the whole file.
        name: of the file.

    Raises:
        AgentError: it holds several logs that differ, and nothing tells which one is meant.
    """
    if _MARKED_UP.match(text) and text.rstrip().endswith(">") and "</" in text:
        return _unmarked(text)
    if begins := _BEFORE_JSON.match(text):
        return _in_json(text, begins.end(), name)
    if len(text) >= _SHORTEST and _BASE64.fullmatch(text):
        return _from_base64(text)
    return _from_fields(text) or text


def _unmarked(text: str) -> str:
    """A text without its markup, with a line break where that shows one."""
    return html.unescape(_TAG.sub(_shown, _CDATA.sub("", text)))


def _shown(tag: re.Match[str]) -> str:
    name = (tag[1] or "").lower()
    if name in _CELLS:
        return " "
    return "" if name in _INLINE else "\n"


def _in_json(text: str, at: int, name: str) -> str:
    """The one log in a value of JSON, or in several on end."""
    found: list[str] = []
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return text
        found += _texts(value)
        behind = _BEFORE_JSON.match(text, end)
        if behind is None:
            if text[end:].strip():
                return text
            break
        at = behind.end()
    return _the_one(found, name) or text


def _texts(value: object) -> Iterator[str]:
    """Strings of several lines, and lists of strings, anywhere in a value that is no entry of a log."""
    waiting: list[object] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if not any(key in one for key in _JOURNAL):
                waiting += one.values()
        elif isinstance(one, list):
            if one and all(isinstance(line, str) for line in one):
                yield "".join(f"{line}\n" for line in one)
            else:
                waiting += one
        elif isinstance(one, str) and "\n" in one.strip():
            yield one


def _the_one(texts: list[str], name: str) -> str | None:
    """The text with most of a kernel's messages, if it has all that the others have."""
    by_messages = sorted(((_messages(text), text) for text in texts), key=lambda one: -len(one[0]))
    if not by_messages or not by_messages[0][0]:
        return None
    most, text = by_messages[0]
    if others := sum(not messages <= most for messages, _ in by_messages):
        raise AgentError(f"{name} holds {others + 1} kernel logs that differ", hint="give one of them alone")
    return text


def _messages(text: str) -> frozenset[str]:
    read = map(read_line, text.splitlines())
    return frozenset(line.text for line in read if line.text is not None and is_known(line.text))


def _from_fields(text: str) -> str | None:
    """The messages of a log in logfmt; None where not every line has one."""
    first = _FIRST_LINE.match(text)
    if first is None or not _FIELD.search(first[1]):
        return None
    messages = []
    for line in filter(str.strip, text.splitlines()):
        field = _FIELD.search(line)
        if field is None:
            return None
        try:
            messages.append(str(json.loads(field[1], strict=False)))
        except ValueError:
            messages.append(field[1][1:-1])
    # A line break in one of them is the rest of a message, not a line of its own.
    return "".join("{}\n".format(message.rstrip("\n").replace("\n", "\\x0a")) for message in messages)


def _from_base64(text: str) -> str:
    """What base64 stands for, where that is a text."""
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return text
