# SPDX-License-Identifier: Apache-2.0
"""How systemd-boot reads, sorts and finds entries (src/boot/boot.c and src/boot/efi-string.c)."""

from __future__ import annotations

import re
import string
from functools import cmp_to_key
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.boots.bls import Fields

MAX_PATTERN = 1024
"""Longer patterns match nothing here; a file's name has 255 characters at most."""

_DIGITS = frozenset(string.digits)
_LETTERS = frozenset(string.ascii_letters)
_COUNTER = re.compile(r"\+(?P<left>[0-9]+)(?:-(?P<done>[0-9]+))?(?P<suffix>\.(?:conf|efi))", re.IGNORECASE)
_FOLDED = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_INT_MAX = 2**31 - 1


def fold(text: str) -> str:
    """In lower case, as ``strtolower16()`` does it: ASCII only."""
    return text.translate(_FOLDED)


class Tries(NamedTuple):
    """Boot counting of a file's name: without it ``left`` is None.

    Args:
        left: how often it may still be tried.
        done: how often it was.
        bare: the name without the counter.
    """

    left: int | None
    done: int
    bare: str


def parse_tries(name: str) -> Tries:
    """The counter ``+LEFT-DONE`` after the last plus sign of a name (``boot_entry_parse_tries()``)."""
    plus = name.rfind("+")
    match = _COUNTER.fullmatch(name, plus) if plus >= 0 else None
    if match is None:
        return Tries(None, 0, name)
    left, done = int(match["left"][:20]), int((match["done"] or "0")[:20])
    if left > _INT_MAX or done > _INT_MAX:
        return Tries(None, 0, name)
    return Tries(left, done, name[:plus] + match["suffix"])


class SortKey(NamedTuple):
    """What systemd-boot sorts an entry by.

    Args:
        id: of the entry, without a profile's suffix.
        sort_key: its ``sort-key``; None: entries without one come after the others.
        machine_id: which must be the same for versions to be compared.
        version: compared downwards.
        profile: number of a unified image's profile.
        tries_left: of boot counting; None without.
        tries_done: the same.
    """

    id: str
    sort_key: str | None = None
    machine_id: str | None = None
    version: str | None = None
    profile: int = 0
    tries_left: int | None = None
    tries_done: int = 0


def compare_entries(a: SortKey, b: SortKey) -> int:
    """Below 0 where a comes first (``boot_entry_compare()``)."""
    differs = _compare(a.tries_left == 0, b.tries_left == 0) or _compare(
        a.sort_key is None, b.sort_key is None
    )
    if differs:
        return differs
    if a.sort_key is not None and b.sort_key is not None:
        differs = (
            _compare(a.sort_key, b.sort_key)
            # No machine id sorts before any.
            or _compare(
                (a.machine_id is not None, a.machine_id or ""), (b.machine_id is not None, b.machine_id or "")
            )
            or -compare_versions(a.version or "", b.version or "")
        )
        if differs:
            return differs
    differs = -compare_versions(a.id, b.id) or _compare(a.profile, b.profile)
    if differs or a.tries_left is None or b.tries_left is None:
        return differs
    return -_compare(a.tries_left, b.tries_left) or _compare(a.tries_done, b.tries_done)


def order(keys: Sequence[SortKey]) -> list[int]:
    """Indices in systemd-boot's order; what compares equal stays as it was."""
    by = cmp_to_key(compare_entries)
    return sorted(range(len(keys)), key=lambda i: by(keys[i]))


def compare_versions(first: str, second: str) -> int:
    """Below 0 where the first is the older one (``strverscmp_improved()``)."""
    # The NUL at the end takes part in comparisons, as in C.
    a, b = first + "\0", second + "\0"
    i = j = 0
    while True:
        i, j = _skip_invalid(a, i), _skip_invalid(b, j)
        if "~" in {a[i], b[j]}:
            if differs := _compare(a[i] != "~", b[j] != "~"):
                return differs
            i, j = i + 1, j + 1
        if "\0" in {a[i], b[j]}:
            return _compare(a[i], b[j])
        for separator in "-^.":
            if separator in {a[i], b[j]}:
                if differs := _compare(a[i] != separator, b[j] != separator):
                    return differs
                i, j = i + 1, j + 1
        differs, i, j = _compare_segments(a, i, b, j)
        if differs:
            return differs


def _skip_invalid(text: str, at: int) -> int:
    while (
        text[at] != "\0" and text[at] not in _DIGITS and text[at] not in _LETTERS and text[at] not in "~-^."
    ):
        at += 1
    return at


def _compare_segments(a: str, i: int, b: str, j: int) -> tuple[int, int, int]:
    """Of digits where one of both begins with a digit, else of letters; and where they end."""
    numeric = a[i] in _DIGITS or b[j] in _DIGITS
    kind = _DIGITS if numeric else _LETTERS
    end_i, end_j = _span(a, i, kind), _span(b, j, kind)
    left, right = a[i:end_i], b[j:end_j]
    if not numeric:
        shorter = min(len(left), len(right))
        return _compare(left[:shorter], right[:shorter]) or _compare(len(left), len(right)), end_i, end_j
    if differs := _compare(bool(left), bool(right)):
        return differs, end_i, end_j
    left, right = left.lstrip("0"), right.lstrip("0")
    return _compare(len(left), len(right)) or _compare(left, right), end_i, end_j


def _span(text: str, at: int, kind: frozenset[str]) -> int:
    while text[at] in kind:
        at += 1
    return at


def _compare(a: object, b: object) -> int:
    return int(a > b) - int(a < b)  # type: ignore[operator]


def matches(pattern: str, name: str) -> bool:
    """Whether a glob matches a whole name (``efi_fnmatch()``): ``*``, ``?``, sets, a backslash before any.

    Like there, no star is tried again once what follows it has matched, so that no pattern takes long.
    """
    if len(pattern) > MAX_PATTERN:
        return False
    p, h = pattern + "\0", name + "\0"
    at, rest = 0, 0
    first = True
    while True:
        matched, tail = _match_to_star(p, at, h, rest)
        if first:
            if not matched or tail is None:
                return matched
            first = False
        if tail is not None:
            at, rest = tail
        elif matched or h[rest] == "\0":
            return matched
        else:
            rest += 1


def _match_to_star(p: str, i: int, h: str, j: int) -> tuple[bool, tuple[int, int] | None]:
    """Whether all up to the next star matches, and with a star what is left (``efi_fnmatch_prefix()``)."""
    while True:
        match p[i]:
            case "\0":
                return h[j] == "\0", None
            case "*":
                while p[i] == "*":
                    i += 1
                return True, (i, j)
            case "?":
                same = h[j] != "\0"
            case "[":
                same, i = (False, i) if h[j] == "\0" else _match_set(p, i, h[j])
            case "\\":
                i += 1
                same = p[i] != "\0" and p[i] == h[j]
            case char:
                same = char == h[j]
        if not same:
            return False, None
        i, j = i + 1, j + 1


def _match_set(p: str, start: int, char: str) -> tuple[bool, int]:
    """Whether a set that begins at ``start`` holds a character, and where it ends."""
    found, may_span = False, True
    i = start + 1
    while p[i] != "\0":
        first = i == start + 1
        if p[i] == "]" and not first:
            return found, i
        if p[i] == "-" and may_span and not first and p[i + 1] not in {"]", "\\"}:
            # Spans cannot be chained: [a-c-f] is the same as [-abcf].
            found = found or p[i - 1] <= char <= p[i + 1] != "\0"
            may_span = False
            i += 1
        elif p[i] == "-" and may_span and not first and p[i + 1] == "\\":
            found = found or p[i - 1] <= char <= p[i + 2] != "\0"
            may_span = False
            i += 2
        else:
            i += p[i] == "\\"
            found = found or p[i] == char != "\0"
            may_span = True
        if p[i] == "\0":
            break
        i += 1
    return False, i


def parse_pairs(text: str, separators: str = " \t") -> Fields:
    """Keys and values as ``line_get_key_value()`` reads them; the last value of a key counts for most keys.

    Args:
        text: of an entry, of ``loader.conf``, or of an os-release (with ``=`` between key and value).
        separators: one or more of which part key and value.
    """
    fields: Fields = {}
    for line in _lines(text):
        at = next((i for i, char in enumerate(line) if char in separators), None)
        if line.startswith("#") or at is None:
            continue
        value = line[at:].lstrip(separators)
        if value and value[0] in "\"'" and value[-1] == value[0]:
            value = value[1:-1]
        fields.setdefault(line[:at], []).append(value)
    return fields


def last(fields: Fields, key: str) -> str | None:
    """The last value of a key; None without one."""
    values = fields.get(key)
    return values[-1] if values else None


def _lines(text: str) -> Iterator[str]:
    for line in re.split("[\n\r]", text.split("\0", 1)[0]):
        if stripped := line.strip(" \t"):
            yield stripped
