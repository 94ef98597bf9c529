# SPDX-License-Identifier: Apache-2.0
"""What a dashboard is made of: panels, variables, and where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
"""The data source that the user has chosen; no dashboard names one of its own."""

SCHEMA_VERSION = 39
"""Grafana 11's; it reads older ones too, and newer Grafanas read this one."""

GOOD, WARN, BAD = "green", "orange", "red"


def thresholds(*steps: tuple[float, str], base: str) -> Json:
    """Colours from a value on."""
    return {
        "mode": "absolute",
        "steps": [{"value": None, "color": base}, *({"value": at, "color": to} for at, to in steps)],
    }


HEADROOM = thresholds((0, WARN), (3, GOOD), base=BAD)
ANY_IS_BAD = thresholds((1, BAD), base=GOOD)
ANY_IS_A_WARNING = thresholds((1, WARN), base=GOOD)
NEUTRAL = thresholds(base="blue")


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
    height: int = 8
    unit: str = "short"
    colours: Json = field(default_factory=lambda: NEUTRAL)
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    limits: tuple[float, float] | None = None
    transformations: tuple[Json, ...] = ()
    overrides: tuple[Json, ...] = ()

    def to_json(self, number: int, x: int, y: int) -> Json:
        defaults: Json = {"unit": self.unit, "thresholds": self.colours, "color": {"mode": "thresholds"}}
        if self.kind == "timeseries":
            defaults["color"] = {"mode": "palette-classic"}
            defaults["custom"] = self.custom
        if self.limits is not None:
            defaults["min"], defaults["max"] = self.limits
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
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": "table" if query.table else "time_series",
        "instant": query.instant,
        "range": not query.instant,
    }


@dataclass(frozen=True)
class Row:
    """Panels side by side under a heading; they wrap after 24 columns."""

    title: str
    panels: tuple[Panel, ...]


def stat(
    title: str, description: str, expr: str, *, colours: Json = NEUTRAL, width: int = 3, legend: str = ""
) -> Panel:
    """One number, or with a legend the names of what is true."""
    return Panel(
        "stat",
        title,
        description,
        (Query(expr, legend),),
        width,
        height=4,
        colours=colours,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value" if legend else "background",
            "graphMode": "none",
            "textMode": "name" if legend else "value",
            "justifyMode": "center",
        },
    )


def graph(
    title: str, description: str, *queries: Query, width: int = 12, unit: str = "short", stacked: bool = False
) -> Panel:
    """Lines over time."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 60}
    return Panel(
        "timeseries",
        title,
        description,
        tuple(Query(q.expr, q.legend, instant=False) for q in queries),
        width,
        unit=unit,
        custom=custom,
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
    limits: tuple[float, float] | None,
    width: int = 12,
) -> Panel:
    """A bar for each series, now."""
    return Panel(
        "bargauge",
        title,
        description,
        (query,),
        width,
        colours=colours,
        limits=limits,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "valueMode": "color",
        },
    )


def table(
    title: str,
    description: str,
    query: Query,
    *,
    columns: tuple[str, ...],
    value: str,
    width: int = 12,
    colours: Json = NEUTRAL,
    link: str | None = None,
) -> Panel:
    """Series as rows: these labels, and the value under this name; ``link`` leads from a column elsewhere."""
    overrides: list[Json] = [
        {
            "matcher": {"id": "byName", "options": value},
            "properties": [{"id": "custom.cellOptions", "value": {"type": "color-text"}}],
        }
    ]
    if link is not None:
        overrides.append(
            {
                "matcher": {"id": "byName", "options": "instance"},
                "properties": [{"id": "links", "value": [{"title": "this host", "url": link}]}],
            }
        )
    return Panel(
        "table",
        title,
        description,
        (Query(query.expr, table=True),),
        width,
        colours=colours,
        options={"showHeader": True, "cellHeight": "sm"},
        transformations=(
            {"id": "filterFieldsByName", "options": {"include": {"names": [*columns, "Value"]}}},
            {
                "id": "organize",
                "options": {
                    "indexByName": {name: index for index, name in enumerate([*columns, "Value"])},
                    "renameByName": {"Value": value},
                    "excludeByName": {},
                },
            },
        ),
        overrides=tuple(overrides),
    )


def figures(
    title: str, description: str, *, columns: tuple[str, ...], width: int = 12, **exprs: str
) -> Panel:
    """Series of several queries as one table: a row for these labels, and a column for each query."""
    values = {f"Value #{chr(ord('A') + index)}": name for index, name in enumerate(exprs)}
    return Panel(
        "table",
        title,
        description,
        tuple(Query(expr, table=True) for expr in exprs.values()),
        width,
        options={"showHeader": True, "cellHeight": "sm"},
        transformations=(
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": [*columns, *values]}}},
            {
                "id": "organize",
                "options": {
                    "indexByName": {name: index for index, name in enumerate([*columns, *values])},
                    "renameByName": values,
                    "excludeByName": {},
                },
            },
        ),
    )


def data_source_variable() -> Json:
    """Which Prometheus."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }


def label_variable(name: str, label: str, query: str, *, several: bool) -> Json:
    """Values of a label, asked of Prometheus whenever the time range changes."""
    made: Json = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": several,
        "includeAll": several,
    }
    if several:
        made |= {"allValue": ".+", "current": {"text": "All", "value": "$__all"}}
    return made


def dashboard(
    uid: str, title: str, description: str, variables: list[Json], rows: tuple[Row, ...], links: list[Json]
) -> Json:
    """Everything in its place: rows from top to bottom, numbered panels from left to right."""
    panels: list[Json] = []
    y = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
                "panels": [],
            }
        )
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > 24:
                x, y, height = 0, y + height, 0
            panels.append(panel.to_json(len(panels) + 1, x, y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["tdx"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "links": links,
        "annotations": {"list": []},
        "templating": {"list": variables},
        "panels": panels,
    }
