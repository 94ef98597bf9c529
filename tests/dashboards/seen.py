# SPDX-License-Identifier: Apache-2.0
"""A dashboard as it is drawn: what each panel shows, in which colours, and where its links lead."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from tests.grafana.colours import NO_TDX
from tests.integration.servers import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.chromium import Browser

SCREEN = (1920, 1080)
MARGIN = 16
"""Pixels around the panels; page.html."""

# The colour of a text is that of what it stands on, if that is not the panel itself, or else its own. Grafana
# gives tinted backgrounds to bars only, and their figures have a colour themselves.
_LOOK = """
(() => {
  const rgb = (colour) => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.color = colour;
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const colours = Object.entries({...window.colours, grey: GREY});
  const names = Object.fromEntries(colours.map(([name, colour]) => [rgb(colour), name]));
  // What Grafana writes with where a figure has no colour.
  for (const plain of ['rgb(32, 34, 38)', 'rgb(247, 248, 250)']) names[plain] = 'text';
  const clear = (colour) => colour === 'rgba(0, 0, 0, 0)' || colour === 'rgba(255, 255, 255, 0)';
  const colour = (element, panel) => {
    for (let at = element; at !== panel; at = at.parentElement) {
      const found = getComputedStyle(at).backgroundColor;
      const name = names[found];
      if (!clear(found) && name !== 'canvas') return name ?? found;
    }
    const own = getComputedStyle(element).color;
    return names[own] ?? own;
  };
  return [...document.querySelectorAll('[data-panel]')].map((panel) => {
    const body = panel.querySelector('[data-testid="data-testid panel content"]');
    const leaves = [...body.querySelectorAll('*')].filter((e) => !e.children.length && e.textContent.trim());
    return {
      title: panel.dataset.panel, frames: Number(panel.dataset.frames),
      error: body.querySelector('.error')?.textContent ?? '',
      texts: leaves.map((e) => [e.textContent.trim(), colour(e, panel)]),
      cut: leaves.filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
        && getComputedStyle(e).overflowX === 'hidden').map((e) => e.textContent.trim()),
    };
  });
})()
"""

_LINKS = """
(async () => {
  const panel = document.querySelector(`[data-panel=${JSON.stringify(TITLE)}]`);
  const cell = [...panel.querySelectorAll('a, button')].find((e) => e.textContent.trim() === TEXT);
  if (!cell) return [];
  if (cell.tagName === 'A') return [cell.getAttribute('href')];
  cell.click();
  for (let i = 0; i < 100 && !document.querySelector('[role=menu] a'); i++)
    await new Promise(requestAnimationFrame);
  return [...document.querySelectorAll('[role=menu] a')].map((a) => a.getAttribute('href'));
})()
"""


class Drawn(NamedTuple):
    """A panel.

    Args:
        title: of the panel.
        frames: of data that the panel got from Prometheus.
        error: of a query or of Grafana; empty where all is well.
        texts: each text and the name of its colour, or what the browser calls it.
        cut: texts that are wider than their place.
    """

    title: str
    frames: int
    error: str
    texts: list[tuple[str, str]]
    cut: list[str]


def open_dashboard(tab: Browser, url: str, asked: dict[str, str]) -> None:
    """Draw a dashboard, and wait until it is.

    Args:
        tab: in which.
        url: of the folder that has the page.
        asked: what page.tsx takes.
    """
    tab.look(SCREEN)
    tab.open(f"{url}/page.html?{urlencode(asked)}")
    drawn = wait_for("drawn dashboard", lambda: tab.run("window.drawn ?? null"))
    assert drawn is True, drawn


def look(tab: Browser) -> dict[str, Drawn]:
    """What is drawn now, by title."""
    found = tab.run(_LOOK.replace("GREY", json.dumps(NO_TDX)))
    panels = (Drawn(**one | {"texts": [(text, colour) for text, colour in one["texts"]]}) for one in found)
    return {panel.title: panel for panel in panels}


def links(tab: Browser, panel: str, text: str) -> list[str]:
    """Where a text of a panel leads; where there are several links, they are those of its menu."""
    script = _LINKS.replace("TITLE", json.dumps(panel)).replace("TEXT", json.dumps(text))
    found: list[str] = tab.run(script, wait=True)
    return found


def picture(tab: Browser, path: Path) -> None:
    """The whole dashboard as a file."""
    bottom = tab.run("document.querySelector('main').getBoundingClientRect().bottom")
    tab.look((SCREEN[0], round(bottom) + MARGIN))
    shot = tab.cdp("Page.captureScreenshot", format="webp", quality=85)
    path.write_bytes(base64.b64decode(shot["data"]))
