# SPDX-License-Identifier: Apache-2.0
"""The kinds of panels that the dashboards have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.grafana.colours import BAD, GOOD, NEUTRAL, PLAIN, QUIET, WARN, WORDS, Json, headroom, words, yes_no

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
"""The data source that the user has chosen; no dashboard names one of its own."""


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    expr: str
    legend: str = ""
    table: bool = False
    instant: bool = True


@dataclass(frozen=True)
class Panel:
    """A panel; ``width`` and ``height`` in Grafana's grid of 24 columns."""

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    height: int
    colours: Json = field(default_factory=lambda: NEUTRAL)
    options: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    transformations: tuple[Json, ...] = ()
    overrides: tuple[Json, ...] = ()

    def to_json(self, number: int, x: int, y: int) -> Json:
        defaults: Json = {"thresholds": self.colours, "color": {"mode": "thresholds"}, **self.defaults}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": list(self.overrides)},
            "options": self.options,
            "transformations": list(self.transformations),
            "targets": [_target(query, index) for index, query in enumerate(self.queries)],
        }


def _target(query: Query, index: int) -> Json:
    return {
        "refId": _letter(index),
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": "table" if query.table else "time_series",
        "instant": query.instant,
        "range": not query.instant,
    }


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _override(name: str, **properties: object) -> Json:
    """Settings of the fields of a name; a dot in a setting's name is written as two underscores."""
    settings = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": settings}


def _stat(
    title: str,
    description: str,
    query: Query,
    *,
    width: int,
    fields: str,
    colours: Json,
    defaults: Json,
    fill: bool,
) -> Panel:
    return Panel(
        "stat",
        title,
        description,
        (query,),
        width,
        height=3,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": fields, "values": False},
            "colorMode": "background_solid" if fill else "value",
            "graphMode": "none",
            "textMode": "value",
            "justifyMode": "center",
            "text": {"valueSize": 28},
        },
        colours=colours,
        defaults=defaults,
    )


def stat(
    title: str,
    description: str,
    expr: str,
    *,
    colours: Json | None = None,
    width: int = 3,
    answers: list[Json] | None = None,
) -> Panel:
    """One number on a field of its colour, or with ``answers`` (value mappings) its word."""
    defaults: Json = {"noValue": "unknown", **({} if answers is None else {"mappings": answers})}
    fill = answers is None
    colours = colours or (QUIET if fill else NEUTRAL)
    return _stat(
        title, description, Query(expr), width=width, fields="", fill=fill, colours=colours, defaults=defaults
    )


def word(
    title: str,
    description: str,
    expr: str,
    label: str,
    *,
    width: int,
    none: str = "unknown",
    fill: bool = True,
) -> Panel:
    """What a label says, in its colour; without a series ``none``."""
    return _stat(
        title,
        description,
        Query(expr, table=True),
        width=width,
        fields=f"/^{label}$/",
        fill=fill,
        colours=QUIET if fill else NEUTRAL,
        defaults={"mappings": words(label), "noValue": none},
    )


def graph(
    title: str,
    description: str,
    *queries: Query,
    width: int = 8,
    height: int = 7,
    unit: str = "short",
    stacked: bool = False,
) -> Panel:
    """Lines over time, or with ``stacked`` how many hosts have which verdict, in its colour."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 0, "showPoints": "never"}
    if stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 60}
    coloured = (
        _override(name, color={"mode": "fixed", "fixedColor": to}) for name, to in WORDS["verdict"].items()
    )
    return Panel(
        "timeseries",
        title,
        description,
        tuple(Query(q.expr, q.legend, instant=False) for q in queries),
        width,
        height,
        defaults={"unit": unit, "color": {"mode": "palette-classic"}, "custom": custom},
        overrides=tuple(coloured) if stacked else (),
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def bars(
    title: str,
    description: str,
    query: Query,
    *,
    colours: Json,
    limits: tuple[float, float] | None = None,
    width: int = 8,
    height: int = 7,
) -> Panel:
    """A bar for each series, now."""
    return Panel(
        "bargauge",
        title,
        description,
        (query,),
        width,
        height,
        colours=colours,
        defaults=dict(zip(("min", "max"), limits or (0,), strict=False)),
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "valueMode": "color",
            "text": {"titleSize": 13, "valueSize": 16},
        },
    )


_WIDTHS = {
    "errno": 80,
    "hosts": 80,
    "holes": 80,
    "job": 120,
    "least": 80,
    "least left": 90,
    "left": 80,
    "loader": 120,
    "median": 80,
    "most": 80,
    "now": 120,
    "PAMTs": 80,
    "processor": 310,
    "role": 90,
    "severity": 100,
    "verdict": 120,
}
"""Pixels of columns that need less or more than their share."""

_LOOKS: dict[str, Json] = {
    "left": {"thresholds": headroom(PLAIN)},
    "least left": {"thresholds": headroom(PLAIN)},
    "could be read": {"mappings": yes_no(yes=GOOD, no=BAD)},
    "differs": {"mappings": yes_no(yes=WARN, no=PLAIN)},
}
"""What figures look like, by column; what labels look like is in WORDS."""


def table(
    title: str,
    description: str,
    *exprs: str,
    columns: Mapping[str, str],
    width: int = 8,
    height: int = 7,
    links: Mapping[str, str] | None = None,
    none: str = "None.",
    merge_by: tuple[str, ...] = (),
) -> Panel:
    """Series as rows; those of several queries that have the same labels are one row.

    Args:
        title: of the panel.
        description: what it shows.
        exprs: the queries; an order among the rows is theirs.
        columns: labels, and ``Value`` or ``Value #A``, ``Value #B`` for what the queries return, by what
            they are called in the table; nothing else is shown.
        width: in the grid.
        height: in the grid.
        links: titles and where they lead, from the column of hosts.
        none: what is shown without a series.
        merge_by: labels that tell which series are one row besides, and are not shown.
    """
    names = list(columns.values())
    overrides = [_override(name, custom__width=_WIDTHS[name]) for name in columns if name in _WIDTHS]
    coloured: dict[str, Json] = {
        **{name: {"mappings": words(label)} for name, label in columns.items() if label in WORDS},
        **{name: _LOOKS[name] for name in columns if name in _LOOKS},
    }
    overrides += [
        _override(name, **look, custom__cellOptions={"type": "color-text"}) for name, look in coloured.items()
    ]
    if len(exprs) > 1:
        # A cell that one of the queries has nothing for: not the text of an empty table.
        overrides += [_override(name, noValue="-") for name in columns]
    if links:
        to = [{"title": what, "url": url} for what, url in links.items()]
        overrides.append(_override("host", links=to))
    merge: list[Json] = [{"id": "merge", "options": {}}] if len(exprs) > 1 else []
    return Panel(
        "table",
        title,
        description,
        tuple(Query(expr, table=True) for expr in exprs),
        width,
        height,
        defaults={"noValue": none, "custom": {"align": "left"}},
        options={"showHeader": True, "cellHeight": "sm"},
        transformations=(
            # First: what is merged must not differ in what is not shown, such as the name of the metric.
            {"id": "filterFieldsByName", "options": {"include": {"names": [*names, *merge_by]}}},
            *merge,
            {
                "id": "organize",
                "options": {
                    "indexByName": {name: index for index, name in enumerate(names)},
                    "renameByName": {name: title for title, name in columns.items() if title != name},
                    "excludeByName": dict.fromkeys(merge_by, True),
                },
            },
        ),
        overrides=tuple(overrides),
    )


HOST_COLUMNS = {"host": "instance", "job": "job"}
"""Columns of a table with a row for each host; what links from it need."""


MOST_ROWS = 200
"""Of a table in which a whole fleet could have rows."""


def worst_first(metric: str, selector: str, label: str, values: tuple[str, ...]) -> str:
    """A query of MOST_ROWS series in the order of a label's values; those with another value come last.

    Args:
        metric: its values are 1.
        selector: matchers of other labels.
        label: that is looked at.
        values: of the label, the worst first.
    """
    ranks = enumerate(reversed(values), start=1)
    parts = [f'{metric}{{{selector},{label}="{value}"}} * {rank}' for rank, value in ranks]
    return f"topk({MOST_ROWS}, {' or '.join([*parts, f'{metric}{{{selector}}} * 0'])})"
