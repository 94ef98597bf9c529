# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a dashboard as it is drawn; a line for each thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.dashboards.expected import LINKS, MAY_BE_EMPTY, ORDER
from tests.dashboards.seen import links
from tests.grafana.board import panels_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.browser.chromium import Browser
    from tests.dashboards.expected import Seen
    from tests.dashboards.seen import Drawn
    from tests.grafana.colours import Json


def complete(board: Json, panels: Mapping[str, Drawn], *, all_have_data: bool) -> Iterator[str]:
    """Every panel is there, without an error, shows what Prometheus has returned, and has room for it.

    Args:
        board: as it is shipped.
        panels: as they are drawn.
        all_have_data: no panel may be empty but those of MAY_BE_EMPTY.
    """
    for shipped in panels_of(board):
        title, empty = shipped["title"], shipped["fieldConfig"]["defaults"].get("noValue", "No data")
        panel = panels.get(title)
        if panel is None:
            yield f"{title}: is not drawn"
            continue
        texts = [text for text, _ in panel.texts]
        if panel.error:
            yield f"{title}: {panel.error}"
        elif panel.frames and (not texts or empty in texts):
            yield f"{title}: shows nothing of what Prometheus has returned"
        elif all_have_data and not panel.frames and title not in MAY_BE_EMPTY:
            yield f"{title}: Prometheus has nothing for it"
        elif not panel.frames and empty not in texts:
            yield f"{title}: shows {texts} where Prometheus has nothing"
        for text in panel.cut:
            yield f"{title}: {text} does not fit"


def coloured(panels: Mapping[str, Drawn], expected: Sequence[Seen]) -> Iterator[str]:
    """Each text is there, in its colour."""
    for title, text, colour in expected:
        found = {c for t, c in panels[title].texts if t == text} if title in panels else set()
        if colour not in found:
            yield f"{title}: {text} should be {colour}, and is {' or '.join(sorted(found)) or 'not there'}"


def ordered(panels: Mapping[str, Drawn]) -> Iterator[str]:
    """The worst comes first, where a table scrolls."""
    for title, (first, second) in ORDER.items():
        texts = [text for text, _ in panels[title].texts] if title in panels else [first]
        if first not in [text for text in texts if text in (first, second)][:1]:
            yield f"{title}: {first} should come before {second}"


def linked(tab: Browser) -> Iterator[str]:
    """The name of a host leads where it should."""
    for title, expected in LINKS.items():
        found = links(tab, title, "failed:10110")
        if found != expected:
            yield f"{title}: failed:10110 leads to {found}, not to {expected}"
