# SPDX-License-Identifier: Apache-2.0
"""The groups of an audit, and what updates of firmware have cost, as text, JSON lines and CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tdx_headroom.errors import one_line, printable
from tdx_headroom.output.fleet_report import WORDS, csv_row
from tdx_headroom.verdict.fleet import Fit
from tdx_headroom.verdict.fleet_groups import GroupBy, need_in

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from tdx_headroom.verdict.firmware_steps import Need
    from tdx_headroom.verdict.fleet_groups import FirmwareUpdate, Group, Groups, Members, TargetCounts

GROUP_SCHEMA = "tdx-headroom/fleet-group/1"
UPDATE_SCHEMA = "tdx-headroom/fleet-firmware/1"
_TITLES = {GroupBy.BIOS: "BIOS", GroupBy.CPU: "CPU", GroupBy.KERNEL: "kernel"}
_FITS = {fit: fit.value.replace("-", "_") for fit in Fit}
_COLUMNS = (
    *("hosts", "target", *_FITS.values(), "why", "areas_known"),
    *("needed_least", "needed_median", "needed_most", "left_least", "left_median", "left_most"),
    *("cpu_model", "bios_before", "bios_after", "areas_least", "areas_median", "areas_most", "sure"),
    "first_hosts",
)


def groups_text(groups: Groups) -> str:
    """A paragraph a group, and one an update of firmware."""
    paragraphs = [*map(_group_text, _ordered(groups)), *map(_update_text, groups.updates.values())]
    titles = [", ".join(_titled(groups, group)) for group in _ordered(groups)]
    lines = [f"{title}: {text}" for title, text in zip(titles, paragraphs, strict=False)]
    return "\n\n".join([*lines, *paragraphs[len(titles) :]]) + "\n" if paragraphs else ""


def groups_json(groups: Groups) -> Iterator[dict[str, Any]]:
    """An object a group and target, and one an update of firmware."""
    for group in _ordered(groups):
        for row in _group_rows(groups, group):
            yield {"schema": GROUP_SCHEMA, **row}
    for update in groups.updates.values():
        yield {"schema": UPDATE_SCHEMA, **_update_row(update)}


def groups_csv(groups: Groups) -> Iterator[str]:
    """A header, and the same rows; what a row does not have is empty."""
    columns = ("row", *groups.by, *_COLUMNS)
    yield csv_row(columns)
    rows = [("group", row) for group in _ordered(groups) for row in _group_rows(groups, group)]
    rows += [("firmware-update", _update_row(update)) for update in groups.updates.values()]
    for kind, row in rows:
        cells = {**row, "row": kind, "first_hosts": "; ".join(row["first_hosts"])}
        yield csv_row(cells.get(name) for name in columns)


def _ordered(groups: Groups) -> list[Group]:
    """By what they have in common; unknown last."""
    found = groups.groups.values()
    return sorted(found, key=lambda group: [(value is None, value or "") for value in group.values])


def _group_rows(groups: Groups, group: Group) -> Iterator[dict[str, Any]]:
    for target, counts in group.targets.items():
        yield {
            **dict(zip(map(str, groups.by), group.values, strict=True)),
            "hosts": group.members.hosts,
            "target": target,
            **{name: counts.fits[fit] for fit, name in _FITS.items()},
            "why": counts.why,
            "areas_known": group.needed.total(),
            **_figures("needed", group.needed),
            **_figures("left", group.left),
            "first_hosts": group.members.first,
        }


def _update_row(update: FirmwareUpdate) -> dict[str, Any]:
    return {
        "cpu_model": update.cpu_model,
        "bios_before": update.before,
        "bios_after": update.after,
        "hosts": update.members.hosts,
        **_figures("areas", update.areas),
        "sure": update.sure,
        "first_hosts": update.members.first,
    }


def _figures(name: str, counts: Counter[int]) -> dict[str, int | None]:
    need = need_in(counts)
    values = (None, None, None) if need is None else (need.least, need.median, need.most)
    return dict(zip((f"{name}_least", f"{name}_median", f"{name}_most"), values, strict=True))


def _titled(groups: Groups, group: Group) -> Iterator[str]:
    for by, value in zip(groups.by, group.values, strict=True):
        yield f"{_TITLES[by]} {'unknown' if value is None else one_line(value, 80)}"


def _group_text(group: Group) -> str:
    rows = [f"{hosts_in_words(group.members)} ({names_in_words(group.members)})", f"  areas: {_areas(group)}"]
    width = max(map(len, group.targets), default=0)
    rows += [f"  {one_line(t, 90).ljust(width)}  {_fits(c)}" for t, c in group.targets.items()]
    return "\n".join(rows)


def _areas(group: Group) -> str:
    needed, left = need_in(group.needed), need_in(group.left)
    if needed is None or left is None:
        return "unknown"
    unknown = group.members.hosts - needed.boots
    of = f" of the {needed.boots} hosts where they are known" if unknown else ""
    return f"{_in_words(needed)} needed; {_in_words(left)} left{of}"


def _in_words(need: Need) -> str:
    return f"least {need.least}, median {need.median}, most {need.most}"


def _fits(counts: TargetCounts) -> str:
    told = ", ".join(f"{counts.fits[fit]} {WORDS[fit]}" for fit in Fit if counts.fits[fit])
    return told if counts.why is None else f"{told}: {printable(counts.why)}"


def _update_text(update: FirmwareUpdate) -> str:
    need = need_in(update.areas)
    cost = "unknown" if need is None else f"least {need.least:+}, median {need.median:+}, most {need.most:+}"
    versions = f"BIOS {one_line(update.before, 60)} to {one_line(update.after, 60)}"
    model = one_line(update.cpu_model or "CPU unknown", 80)
    sure = f"every boot since needs more than any before on {update.sure} of them"
    hosts = f"{hosts_in_words(update.members)} ({names_in_words(update.members)})"
    return f"{versions}, {model}: {hosts}\n  areas: {cost}; {sure}"


def hosts_in_words(members: Members) -> str:
    """How many."""
    return "1 host" if members.hosts == 1 else f"{members.hosts} hosts"


def names_in_words(members: Members) -> str:
    """The first of them."""
    names = ", ".join(one_line(name, 60) for name in members.first)
    return f"{names}, …" if members.hosts > len(members.first) else names
