# SPDX-License-Identifier: Apache-2.0
"""A dashboard: its variables, and panels in their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.grafana.panels import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.grafana.colours import Json
    from tests.grafana.panels import Panel

SCHEMA_VERSION = 39
"""Grafana 11's; it reads older ones too, and newer Grafanas read this one."""


@dataclass(frozen=True)
class Row:
    """Panels side by side under a heading; they wrap after 24 columns.

    Args:
        title: the heading; without one there is none.
        panels: from left to right.
        collapsed: shown when the heading is clicked; nothing is asked of Prometheus before.
    """

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False


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


def choice_variable(name: str, label: str, description: str, choices: Mapping[str, str]) -> Json:
    """One of several values, the first unless another is chosen.

    Args:
        name: in queries.
        label: for people.
        description: for people, in a sentence or two.
        choices: texts by value.
    """
    options = [{"text": text, "value": value, "selected": False} for value, text in choices.items()]
    options[0]["selected"] = True
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "custom",
        "query": ",".join(f"{text} : {value}" for value, text in choices.items()),
        "current": options[0],
        "options": options,
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }


def link(title: str, url: str, *, icon: str, new_tab: bool = False) -> Json:
    """A link at the top of a dashboard."""
    return {
        "title": title,
        "type": "link",
        "url": url,
        "icon": icon,
        "keepTime": not new_tab,
        "targetBlank": new_tab,
        "includeVars": False,
        "asDropdown": False,
        "tags": [],
        "tooltip": "",
    }


def dashboard(
    uid: str, title: str, description: str, variables: list[Json], rows: tuple[Row, ...], links: list[Json]
) -> Json:
    """Everything in its place: rows from top to bottom, numbered panels from left to right."""
    panels: list[Json] = []
    number = y = 0
    for row in rows:
        if row.title:
            number += 1
            panels.append(_heading(row, number, y))
            y += 1
        placed, height = _placed(row, number, y)
        number += len(placed)
        if row.collapsed:
            panels[-1]["panels"] = placed
        else:
            panels += placed
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


def _heading(row: Row, number: int, y: int) -> Json:
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": row.collapsed,
        "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
        "panels": [],
    }


def _placed(row: Row, number: int, y: int) -> tuple[list[Json], int]:
    """The panels of a row, and the height of all."""
    placed: list[Json] = []
    top, x, height = y, 0, 0
    for panel in row.panels:
        if x + panel.width > 24:
            x, y, height = 0, y + height, 0
        placed.append(panel.to_json(number + len(placed) + 1, x, y))
        x, height = x + panel.width, max(height, panel.height)
    return placed, y + height - top


def panels_of(board: Json) -> Iterator[Json]:
    """Every panel, those of collapsed rows too; not the headings."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel
