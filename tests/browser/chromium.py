# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven through Debian's chromedriver."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.tools.npm import NpmPackages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AXE = NpmPackages("axe-core-4.14.1", ("axe-core@4.14.1",))
WIDE = (1280, 900)
NARROW = (360, 740)

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


class Browser:
    """One tab; each method is one thing that a reader could do or see."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def cdp(self, method: str, **parameters: Any) -> Any:  # noqa: ANN401  the protocol's JSON
        return self.driver.execute_cdp_cmd(method, parameters)

    def look(self, size: tuple[int, int] = WIDE, *, dark: bool = False, media: str = "screen") -> None:
        """The screen from now on."""
        width, height = size
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, url: str) -> None:
        self.driver.get(url)

    def run(self, expression: str, *, wait: bool = False) -> Any:  # noqa: ANN401  whatever JavaScript gives
        """What an expression gives; the page's CSP does not apply to the driver."""
        answer = self.cdp("Runtime.evaluate", expression=expression, awaitPromise=wait, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def violations(self, axe: str) -> list[str]:
        """What axe finds wrong, a line an element: WCAG 2 A and AA and its best practices."""
        self.run(axe)
        results = self.run("axe.run(document, {resultTypes: ['violations']})", wait=True)
        return [
            f"{rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in results["violations"]
            for node in rule["nodes"]
        ]

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.cdp(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **(text if kind == "keyDown" else {}),
            )

    def tab_order(self, selector: str) -> list[int]:
        """Which of the elements that a selector gives has the focus after each press of Tab."""
        self.run(f"window.places = [...document.querySelectorAll({json.dumps(selector)})]")
        reached: list[int] = []
        while len(reached) < 300:
            self.press("Tab")
            place = self.run("places.indexOf(document.activeElement)")
            if place == -1 or place in reached:
                break
            reached.append(place)
        return reached

    def texts(self) -> list[str]:
        """Every text as assistive technology gets it."""
        return [
            node["name"]["value"]
            for node in self._tree()
            if node.get("role", {}).get("value") == "StaticText"
        ]

    def images(self) -> list[tuple[str, str]]:
        """Name and description of every image, as assistive technology gets them."""
        return [
            (node["name"]["value"], node.get("description", {}).get("value", ""))
            for node in self._tree()
            if node.get("role", {}).get("value") in ("image", "img")
        ]

    def _tree(self) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = self.cdp("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def console(self) -> list[str]:
        """What the browser has logged since the last time."""
        return [f"{e['level']} {e['message']}" for e in self._log("browser")]

    def requests(self) -> list[str]:
        """The URLs that were asked for since the last time."""
        events = (json.loads(e["message"])["message"] for e in self._log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.execute("getLog", {"type": kind})["value"]
        return entries

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        shot = self.cdp("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole=whole))
        path.write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, *, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self) -> bytes:
        """The page on paper."""
        self.cdp("Emulation.setEmulatedMedia", media="", features=[])
        return base64.b64decode(self.cdp("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A fresh Chromium with its profile in an empty folder."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService("/usr/bin/chromedriver"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
