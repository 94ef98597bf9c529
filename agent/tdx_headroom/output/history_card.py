# SPDX-License-Identifier: Apache-2.0
"""The page's section on earlier boots: a bar each, marks where something changed, and the same as a table."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom.errors import one_line
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.output.history_report import OUTCOMES, changes_in_words, spread_in_words, when
from tdx_headroom.verdict.history import MARKS, between, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.verdict.history import BootChange

STEP = 14
BAR = 10
AREA = 7
"""Height of one reserved area."""
MARK_ROW = 16
LEFT = 96
"""Room for what the rows are called."""
BOTTOM = 4
MOST_AREAS = 40
"""A boot that needs more is drawn as high."""

_LEGEND = (("up", "TDX came up"), ("down", "TDX failed"), ("other", "not tried, or unknown"))
_LOOKS = {ModuleState.INITIALIZED: "up", ModuleState.FAILED: "down"}


class Bar(NamedTuple):
    """One boot.

    Args:
        x: of its left edge.
        height: None where what it needed is unknown.
        look: ``up``, ``down`` or ``other``.
        title: what to say about it.
    """

    x: int
    height: int | None
    look: str
    title: str


class MarkRow(NamedTuple):
    """Where one kind of change is marked.

    Args:
        name: of what changed.
        y: of the middle of the row.
        xs: middles of the boots that it changed before.
    """

    name: str
    y: int
    xs: tuple[int, ...]


class Chart(NamedTuple):
    """The picture, in its own units.

    Args:
        width, height: of all of it.
        base: y of the foot of the bars.
        limit: how many areas the module allows, as the newest boot that is known has it.
        limit_y: y of that.
        bars: the oldest first.
        marks: a row for each kind of change that there is.
        words: all of it in a sentence.
    """

    width: int
    height: int
    base: int
    limit: int
    limit_y: int
    bars: tuple[Bar, ...]
    marks: tuple[MarkRow, ...]
    words: str


def history_section(records: Sequence[BootRecord]) -> dict[str, Any] | None:
    """What the template shows; None where no earlier boot is known, or none of them to its areas.

    No address in it is finer than 1 GiB.

    Args:
        records: of the boots, the present one last.
    """
    changes = [None, *(between(one, other) for one, other in pairwise(records))]
    drawn = chart(records, changes)
    if drawn is None:
        return None
    looks = {bar.look for bar in drawn.bars}
    return {
        "chart": drawn,
        "looks": [(look, word) for look, word in _LEGEND if look in looks],
        "spread": spread_in_words(spread(records)),
        "rows": [_row(record, change) for record, change in zip(records, changes, strict=True)],
    }


def chart(records: Sequence[BootRecord], changes: Sequence[BootChange | None]) -> Chart | None:
    """The picture of boots; None where there are fewer than two, or what each needed is unknown.

    Args:
        records: of the boots, the oldest first.
        changes: from the boot before, for each.
    """
    known = [fullest for record in records if (fullest := record.fullest) is not None]
    if len(records) < 2 or not known:
        return None
    kinds = [name for name in MARKS if any(change and name in change.marks for change in changes)]
    highest = min(MOST_AREAS, max(known[-1].limit, *(fullest.needed for fullest in known)))
    top = MARK_ROW * len(kinds) + MARK_ROW // 2
    base = top + AREA * highest
    xs = [LEFT + STEP * number for number in range(len(records))]
    marks = [
        MarkRow(
            name,
            MARK_ROW * row + MARK_ROW // 2,
            tuple(x + BAR // 2 for x, c in zip(xs, changes, strict=True) if c and name in c.marks),
        )
        for row, name in enumerate(kinds)
    ]
    needed = sorted(fullest.needed for fullest in known)
    spanned = str(needed[0]) if needed[0] == needed[-1] else f"{needed[0]} to {needed[-1]}"
    return Chart(
        width=LEFT + STEP * len(records) + BAR,
        height=base + BOTTOM,
        base=base,
        limit=known[-1].limit,
        limit_y=base - AREA * min(known[-1].limit, highest),
        bars=tuple(_bar(x, record) for x, record in zip(xs, records, strict=True)),
        marks=tuple(marks),
        words=f"{len(records)} boots, the newest on the right: {spanned} of {known[-1].limit} areas needed.",
    )


def _bar(x: int, record: BootRecord) -> Bar:
    fullest = record.fullest
    height = None if fullest is None else AREA * min(fullest.needed, MOST_AREAS)
    title = f"{when(record.began)}: {_needed(record)} areas, TDX {OUTCOMES[record.outcome]}"
    return Bar(x, height, _LOOKS.get(record.outcome, "other"), title)


def _needed(record: BootRecord) -> str:
    fullest = record.fullest
    return "unknown" if fullest is None else f"{fullest.needed} of {fullest.limit}"


def _row(record: BootRecord, change: BootChange | None) -> dict[str, str]:
    return {
        "began": when(record.began),
        "kernel": one_line(record.kernel_release or "unknown", 80),
        "bios": one_line(record.bios_version or "unknown", 60),
        "needed": _needed(record),
        "outcome": OUTCOMES[record.outcome],
        "changed": "" if change is None else "; ".join(changes_in_words(change)),
    }
