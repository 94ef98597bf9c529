# SPDX-License-Identifier: Apache-2.0
"""The boots of a host, for people: a row and a bar each, with what changed; and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tdx_headroom.address import GIB, align_down, show, show_size
from tdx_headroom.errors import one_line
from tdx_headroom.facts.codec import encode
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.output.table import Column, Row, table
from tdx_headroom.verdict import State
from tdx_headroom.verdict.history import between, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.history import BootChange, Spread

SCHEMA = "tdx-headroom/history/1"
_BAR = 20
_COLUMNS = (
    Column("began (UTC)"),
    Column("kernel", spared=1),
    Column("BIOS", spared=2),
    Column("needed"),
    Column("", spared=3),
    Column("TDX", painted=True),
    Column("what changed", wraps=True),
)
_MOST_PLACES = 3
OUTCOMES = {
    ModuleState.INITIALIZED: "up",
    ModuleState.FAILED: "failed",
    ModuleState.NOT_ATTEMPTED: "not tried",
    ModuleState.UNSUPPORTED: "no TDX",
    ModuleState.UNKNOWN: "unknown",
}
_STATES = {ModuleState.INITIALIZED: State.WILL_INITIALIZE, ModuleState.FAILED: State.WILL_FAIL}


def history_text(host: str | None, records: Sequence[BootRecord], style: Style) -> str:
    """A table, the newest boot last, and how far the need spreads.

    Args:
        host: its name.
        records: of its boots, the oldest first.
        style: what the terminal can show.
    """
    count = "1 boot" if len(records) == 1 else f"{len(records)} boots"
    changes = [None, *(between(one, other) for one, other in pairwise(records))]
    lines = [
        *style.wrapped(f"{one_line(host or 'unnamed host', 80)}: {count}"),
        "",
        *table(style, _COLUMNS, [_row(*pair, style) for pair in zip(records, changes, strict=True)]),
        "",
        *style.wrapped(spread_in_words(spread(records))),
    ]
    return "\n".join(lines) + "\n"


def _row(record: BootRecord, change: BootChange | None, style: Style) -> Row:
    fullest = record.fullest
    cells = (
        when(record.began),
        one_line(record.kernel_release or "unknown", 40),
        one_line(record.bios_version or "unknown", 20),
        "unknown" if fullest is None else f"{fullest.needed} of {fullest.limit}",
        _bar(record, style),
        OUTCOMES[record.outcome],
        "" if change is None else "; ".join(changes_in_words(change)),
    )
    return Row(cells, _STATES.get(record.outcome))


def when(began: float | None) -> str:
    """A time for people, in UTC; a clock that has no such year is told as it stands."""
    if began is None:
        return "unknown"
    try:
        return f"{datetime.fromtimestamp(began, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):
        return f"@{began:.0f}"


def _bar(record: BootRecord, style: Style) -> str:
    fullest = record.fullest
    if fullest is None:
        return " " * _BAR
    taken = min(fullest.needed, fullest.limit)
    over = style.over * min(max(-fullest.left, 0), _BAR - fullest.limit)
    return (style.hole * taken + style.free * max(fullest.left, 0) + over)[:_BAR].ljust(_BAR)


def changes_in_words(change: BootChange) -> Iterator[str]:
    """What is different from the boot before, a clause each."""
    for what, differs in (("kernel", change.kernel), ("BIOS", change.bios), ("command line", change.line)):
        if differs:
            yield f"another {what}"
    if change.memory:
        yield f"{show_size(abs(change.memory))} {'more' if change.memory > 0 else 'less'} memory"
    yield from holes_in_words(change)
    if change.areas:
        areas = "area" if abs(change.areas) == 1 else "areas"
        yield f"{abs(change.areas)} {areas} {'more' if change.areas > 0 else 'fewer'}"


def holes_in_words(change: BootChange) -> Iterator[str]:
    """Which holes came, went or changed, by the GiB that they begin in."""
    places: dict[int, list[int]] = {}
    for before, after in change.holes or ():
        place = places.setdefault(align_down((after or before or (0, 0))[0], GIB), [0, 0, 0])
        place[0 if before is None else 1 if after is None else 2] += 1
    for start in sorted(places)[:_MOST_PLACES]:
        came, went, other = places[start]
        told = [f"+{came}"] * bool(came) + [f"-{went}"] * bool(went) + [f"{other} changed"] * bool(other)
        holes = "hole" if came + went + other == 1 else "holes"
        yield f"{', '.join(told)} {holes} in {show(start, start + GIB)}"
    if len(places) > _MOST_PLACES:
        yield f"holes in {len(places) - _MOST_PLACES} GiB more"


def spread_in_words(found: Spread | None) -> str:
    """How far the need spreads in boots like the last one."""
    if found is None:
        return "How many areas the last boot needed is unknown."
    if found.boots == 1:
        return "No other boot has had the last one's firmware, kernel, command line and memory."
    needed = f"{found.most}" if found.least == found.most else f"{found.least} to {found.most}"
    text = f"{found.boots} boots have had the last one's firmware, kernel, command line and memory; TDMR"
    text += f" {show(found.base, found.base + found.size)} needed {needed} of {found.limit} areas"
    return f"{text}: one more such step does not fit." if found.next_does_not_fit else f"{text}."


def history_json(host: str | None, records: Sequence[BootRecord]) -> dict[str, Any]:
    """The same for programs; every record whole."""
    found = spread(records)
    changes = [None, *(between(one, other) for one, other in pairwise(records))]
    return {
        "schema": SCHEMA,
        "host": host,
        "boots": [
            {
                **encode(record),
                "memory": record.memory,
                "changed": None if change is None else _change_json(change),
            }
            for record, change in zip(records, changes, strict=True)
        ],
        "spread": None if found is None else {**found._asdict(), "next_fits": not found.next_does_not_fit},
    }


def _change_json(change: BootChange) -> dict[str, Any]:
    return {
        **change._asdict(),
        "holes": None
        if change.holes is None
        else [{"before": hole.before, "after": hole.after} for hole in change.holes],
    }
