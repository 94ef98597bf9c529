# SPDX-License-Identifier: Apache-2.0
"""Text logs with their newest line first, as `journalctl -r` and tac(1) print them, in the order of time."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from tdx_headroom.sources.kernel_log import boot_lines
from tdx_headroom.sources.kernel_log.line_forms import Line
from tdx_headroom.sources.kernel_log.steps import Steps, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOT_MARK = re.compile(r"-- (?:Reboot --|Boot ([0-9a-f]{32})(?: --)?)")
"""What journalctl prints above the lines of another boot than those before."""
_REBOOT = "-- Reboot --"
_FEW = 2
"""Fewer falls than this in a text may be what is left of as many boots."""
_DAY = 86400
_ROW = re.compile(
    r"(BIOS-e820|user|node|(?:virt/)?tdx: CMR)\b[^\[]{0,12}(?:\[[0-9]+\]: )?\[(?:mem )?0x([0-9a-f]{1,16})"
)
_ONCE_A_BOOT = ("Linux version ", "Command line: ", "virt/tdx: BIOS enabled", "tdx: BIOS enabled")


def oldest_first(
    lines: Sequence[str], read: Sequence[Line], *, cut: bool
) -> tuple[Sequence[str], Sequence[Line], bool]:
    """A text's lines, and the same taken apart, in the order of time, and whether they came in the reverse.

    Args:
        lines: of the text.
        read: each of them taken apart.
        cut: whether the last may have lost its end: turned round it would be the first, and is left out.
    """
    if not _is_newest_first([line for line in read if line.text is not None and line.trusted is not False]):
        return lines, read, False
    # A mark of another boot stands above its lines in both orders.
    boots: list[list[tuple[str, Line]]] = [[(_REBOOT, Line(None))]]
    for line, parts in zip(lines, read, strict=True):
        if BOOT_MARK.fullmatch(line.strip()):
            boots.append([])
        boots[-1].append((line, parts))
    if cut:
        boots[-1][-1] = ("", Line(None))
    turned = [pair for mark, *rest in reversed(boots) for pair in (mark, *reversed(rest))]
    if len(boots) == 1:
        turned = turned[1:]
    return [line for line, _ in turned], [parts for _, parts in turned], True


def _is_newest_first(told: Sequence[Line]) -> bool:
    clocks = [line.clock for line in told if line.clock is not None]
    if clocks:
        found = steps(clocks)
        # In the usual order the clock falls where a boot begins, and each boot has such a line of its own.
        return found.falls >= _FEW and found.fall_throughout and _boots(told) <= found.rises + 1
    by_day, by_address = _steps_of_days(told), _steps_of_rows(told)
    both = Steps(by_day.falls + by_address.falls, by_day.rises + by_address.rises)
    return both.falls >= _FEW and both.fall_throughout


def _boots(told: Sequence[Line]) -> int:
    """How many boots the lines are of, by those that come once in each."""
    texts = [line.text or "" for line in told]
    return max(sum(text.startswith(once) for text in texts) for once in _ONCE_A_BOOT)


def _steps_of_days(told: Sequence[Line]) -> Steps:
    """Steps of the time of day; across midnight it goes on."""
    stamps = [line.of_day for line in told if line.of_day is not None]
    differences = (
        after - before if max(after, before) > _DAY else (after - before + _DAY / 2) % _DAY - _DAY / 2
        for before, after in pairwise(stamps)
    )
    found = [difference for difference in differences if difference]
    falls = sum(difference < 0 for difference in found)
    return Steps(falls, len(found) - falls)


def _steps_of_rows(told: Sequence[Line]) -> Steps:
    """Steps from each row of a list to the next: the kernel prints them in the order of their addresses."""
    falls = rises = 0
    of_list, address = "", 0
    for line in told:
        text = line.text or ""
        row = _ROW.match(text) if boot_lines.begins_like_one(text) or "CMR" in text else None
        if row is not None:
            if row[1] == of_list:
                falls += int(row[2], 16) < address
                rises += int(row[2], 16) > address
            address = int(row[2], 16)
        of_list = row[1] if row else ""
    return Steps(falls, rises)
