# SPDX-License-Identifier: Apache-2.0
"""The shipped dashboards drawn by Grafana's own components: ``python -m tests.dashboards``.

Agents serve captured hosts, a real Prometheus scrapes them with the shipped rules, and page.tsx draws the
dashboards of what it returns in Chromium, with Grafana's transformations, value mappings, thresholds and
panels, all from npm. Looked for are errors, empty panels, texts that do not fit, wrong colours, wrong links.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.chromium import browser
from tests.dashboards import checks
from tests.dashboards.expected import FLEET, HOSTS, STRATEGY_FLEET
from tests.dashboards.seen import look, open_dashboard, picture
from tests.dashboards.site import GRAFANA, Site, install, site
from tests.grafana.files import DASHBOARDS
from tests.kernel.tools import exit_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.browser.chromium import Browser
    from tests.dashboards.expected import Seen

PICTURES = Path(__file__).parents[2] / "docs" / "dashboards"
HOST, FLEET_FILE = "tdx-headroom-host.json", "tdx-headroom-fleet.json"
THEMES = ("light", "dark")


class Viewer:
    """Draws dashboards of a site in a browser.

    Args:
        tab: of the browser.
        shown: what the dashboards show.
    """

    def __init__(self, tab: Browser, shown: Site) -> None:
        self.tab = tab
        self._site = shown

    def open(self, board: str, theme: str, *, expand: bool = True, **variables: str) -> None:
        """Draw one.

        Args:
            board: its file.
            theme: light or dark.
            expand: collapsed rows too.
            variables: of the dashboard, with their values.
        """
        asked = {f"var-{name}": value for name, value in variables.items()}
        if expand:
            asked["expand"] = "1"
        seconds = str(round(time.time() - self._site.since))
        prometheus = f"http://{self._site.prometheus.address}"
        asked |= {"board": board, "theme": theme, "seconds": seconds, "prometheus": prometheus}
        open_dashboard(self.tab, self._site.url, {**asked, "var-datasource": "chosen"})

    def problems(self) -> Iterator[str]:
        """What is wrong with either dashboard, in either theme."""
        for theme in THEMES:
            for host, expected in HOSTS.items():
                self.open(HOST, theme, instance=f"{host}:10110")
                found = self._shown(HOST, expected, all_have_data=host == "failed")
                yield from (f"{host}, {theme}: {what}" for what in found)
            self.open(FLEET_FILE, theme)
            found = chain(self._shown(FLEET_FILE, FLEET, all_have_data=True), checks.linked(self.tab))
            yield from (f"fleet, {theme}: {what}" for what in found)
            self.open(FLEET_FILE, theme, strategy="cmr-subregion")
            found = checks.coloured(look(self.tab), STRATEGY_FLEET)
            yield from (f"fleet under cmr-subregion, {theme}: {what}" for what in found)
        yield from (f"the browser says: {line}" for line in self.tab.console())

    def _shown(self, board: str, expected: Sequence[Seen], *, all_have_data: bool) -> Iterator[str]:
        panels = look(self.tab)
        yield from checks.complete(DASHBOARDS[board], panels, all_have_data=all_have_data)
        yield from checks.coloured(panels, expected)
        if all_have_data:
            yield from checks.ordered(panels)

    def pictures(self, folder: Path) -> None:
        """Both dashboards in both themes; of the hosts that which failed."""
        folder.mkdir(exist_ok=True)
        for theme in THEMES:
            self.open(HOST, theme, expand=False, instance="failed:10110")
            picture(self.tab, folder / f"host-{theme}.webp")
            self.open(FLEET_FILE, theme)
            picture(self.tab, folder / f"fleet-{theme}.webp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and check.

    Returns:
        0: all is well. 1: a check failed. 69: the machine lacks something. 70: a step failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards", description=__doc__)
    parser.add_argument("--pictures", action="store_true", help="write the pictures of docs/dashboards anew")
    options = parser.parse_args(arguments)
    return exit_status("dashboard-test", lambda: _run(pictures=options.pictures))


def _run(*, pictures: bool) -> int:
    began = time.monotonic()
    install()
    with (
        tempfile.TemporaryDirectory(prefix="tdx-dashboards-") as name,
        site(Path(name) / "site", samples=60 if pictures else 5) as shown,
        browser(Path(name) / "profile") as tab,
    ):
        viewer = Viewer(tab, shown)
        failed = list(viewer.problems())
        if pictures:
            viewer.pictures(PICTURES)
    for line in failed:
        print(f"dashboard-test: FAILED: {line}", file=sys.stderr)
    drawn = len(THEMES) * (len(HOSTS) + 2)
    said = f"{drawn} dashboards drawn with @grafana/ui {GRAFANA}, {len(failed)} problems"
    print(f"dashboard-test: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
