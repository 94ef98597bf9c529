# SPDX-License-Identifier: Apache-2.0
"""Takes the picture of the page that is in docs/: `python -m tests.browser`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.browser.chromium import browser
from tests.integration.agent import agent

PAGE = Path(__file__).parents[2] / "docs" / "page.png"
SIZE = (1200, 1870)

if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as profile,
        agent(command="demo") as running,
        browser(Path(profile)) as chrome,
    ):
        chrome.look(SIZE)
        chrome.open(f"http://127.0.0.1:{running.port}/")
        chrome.screenshot(PAGE)
    print(PAGE)
