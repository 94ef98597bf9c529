# SPDX-License-Identifier: Apache-2.0
"""The page as a real browser has it: the real agent, Debian's Chromium, axe-core from npm."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import AXE, NARROW, WIDE, Browser, browser
from tests.browser.states import states
from tests.integration.agent import agent

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.program("chromium"), pytest.mark.program("chromedriver")]

HOSTS = Path(__file__).parents[1] / "hosts"
AGENTS = {
    "demo": ("demo", ()),
    "demo-full": ("demo", ("--web.full-addresses",)),
    "good-2-node": ("serve", ("--path.rootfs", str(HOSTS / "good-2-node"))),
    "no-tdx": ("serve", ("--path.rootfs", str(HOSTS / "no-tdx"))),
}
STATES = ("not-assessed", "stale", "at-risk", "cannot-tell", "crowded", "too-many-tdmrs")
FOCUSABLE = "a[href], summary, :not(details:not([open]) *)[tabindex]"


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Where each page is."""
    with ExitStack() as stack:
        found = {
            name: f"http://127.0.0.1:{stack.enter_context(agent(*arguments, command=command)).port}/"
            for name, (command, arguments) in AGENTS.items()
        }
        yield found | stack.enter_context(states())


@pytest.fixture(scope="module")
def axe() -> str:
    return AXE.need("axe-core/axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("name", [*AGENTS, *STATES])
def test_everybody_can_read_it(chrome: Browser, urls: dict[str, str], axe: str, name: str) -> None:
    """axe finds nothing wrong and nothing sticks out: light, dark, on a phone."""
    chrome.look()
    chrome.open(urls[name])
    for size, dark in ((WIDE, False), (WIDE, True), (NARROW, True)):
        chrome.look(size, dark=dark)
        assert chrome.violations(axe) == [], (size, dark)
        assert chrome.run("document.documentElement.scrollWidth") <= size[0]


def test_axe_would_find_something(chrome: Browser, urls: dict[str, str], axe: str) -> None:
    """axe does look: pale text and an unnamed picture do not pass."""
    chrome.look()
    chrome.open(urls["not-assessed"])
    chrome.run("document.querySelector('h1').style.color = 'silver'")
    chrome.run("document.querySelector('main').append(document.createElement('img'))")
    found = {violation.split(":")[0] for violation in chrome.violations(axe)}
    assert {"color-contrast", "image-alt"} <= found


@pytest.mark.parametrize("name", AGENTS)
def test_browser_has_nothing_to_say(chrome: Browser, urls: dict[str, str], name: str) -> None:
    """The console stays empty, and nothing but the page and its style is asked for."""
    chrome.look()
    chrome.console()
    chrome.requests()
    chrome.open(urls[name])
    assert chrome.console() == []
    asked = chrome.requests()
    assert {url.removeprefix(urls[name]) for url in asked} == {"", "style.css"}


@pytest.mark.parametrize("name", ["demo", "demo-full", "no-tdx"])
def test_tab_reaches_everything_in_order(chrome: Browser, urls: dict[str, str], name: str) -> None:
    """Tab goes through all links, folds and tables that scroll, in the order in which they are read."""
    chrome.look()
    chrome.open(urls[name])
    places = chrome.tab_order(FOCUSABLE)
    assert places == list(range(len(places)))
    assert len(places) == chrome.run(
        f"[...document.querySelectorAll('{FOCUSABLE}')].filter(e => e.checkVisibility()).length"
    )
    assert len(places) >= 8


def test_keyboard_unfolds_a_table(chrome: Browser, urls: dict[str, str]) -> None:
    """Enter on a fold shows the addresses behind it, and Tab goes into them."""
    chrome.look()
    chrome.open(urls["demo-full"])
    chrome.run("document.querySelector('article summary').focus()")
    chrome.press("Enter")
    assert chrome.run("document.querySelector('article details').open") is True
    chrome.press("Tab")
    assert chrome.run("document.activeElement.matches('details .scroll')") is True


def test_it_needs_no_script(chrome: Browser, urls: dict[str, str]) -> None:
    """With JavaScript off the page is the same, and it has none."""
    chrome.look()
    chrome.open(urls["demo"])
    before = chrome.texts()
    chrome.cdp("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chrome.open(urls["demo"])
        assert chrome.texts() == before
    finally:
        chrome.cdp("Emulation.setScriptExecutionDisabled", value=False)
    assert any("TDX is down, and will fail again" in text for text in before)
    assert chrome.run("document.scripts.length") == 0


def test_a_screen_reader_hears_the_pictures(chrome: Browser, urls: dict[str, str]) -> None:
    """Each map is one image that says of which TDMR, what is in it and where; each gauge how full it is."""
    chrome.look()
    chrome.open(urls["demo"])
    images = chrome.images()
    maps = {name: text for name, text in images if name.startswith("Map of TDMR")}
    assert len(maps) == 4
    text = maps["Map of TDMR [0x0, 0x80000000) under memory-regions"]
    assert re.fullmatch(
        r"By size: usable about 1\.7 GiB, reserved by the firmware .*, ACPI .*, RAM .*\."
        r" Reserved areas that begin in each quarter: 1, 0, 5, 11\.",
        text,
    )
    assert ("Gauge: 17 of 16 reserved areas", "") in images
    assert all(name for name, _ in images)


def test_full_addresses_are_to_scale(chrome: Browser, urls: dict[str, str]) -> None:
    """With full addresses a hole begins, to the pixel, where its address lies in the TDMR, and is named."""
    chrome.look()
    chrome.open(urls["demo-full"])
    part = chrome.run(
        """(() => {
            const map = document.querySelector('svg.map'), box = map.getBoundingClientRect()
            const hole = [...map.querySelectorAll('path')].filter(
                p => p.textContent.includes('[0x6f800000, '))
            return (hole.at(-1).getBoundingClientRect().left - box.left) / box.width
        })()"""
    )
    assert abs(part - 0x6F800000 / 0x80000000) < 1 / 1024


def test_coarse_pictures_have_64_steps(chrome: Browser, urls: dict[str, str]) -> None:
    """Over the network every edge in a map lies on 1/64 of the TDMR, and the caption says so."""
    chrome.look()
    chrome.open(urls["demo"])
    edges = chrome.run(
        """[...document.querySelectorAll('svg.map')].flatMap(map => {
            const box = map.getBoundingClientRect()
            return [...map.querySelectorAll('path[fill]')].flatMap(path => {
                const part = path.getBoundingClientRect()
                return [part.left, part.right].map(x => 64 * (x - box.left) / box.width)
            })
        })"""
    )
    assert len(edges) > 10
    assert all(abs(edge - round(edge)) < 0.01 for edge in edges)
    assert "cut into 64 steps" in chrome.run("document.querySelector('main').innerText")


def test_it_prints(chrome: Browser, urls: dict[str, str]) -> None:
    """On paper: a few sheets, all unfolded, nothing cut off, no links to elsewhere on the page."""
    chrome.look(WIDE, dark=True)
    chrome.open(urls["demo-full"])
    sheets = len(re.findall(rb"/Type\s*/Page\b", chrome.pdf()))
    assert 2 <= sheets <= 6
    chrome.look((720, 900), dark=True, media="print")
    assert chrome.run("document.documentElement.scrollWidth") <= 720
    assert chrome.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chrome.run("document.querySelector('nav').checkVisibility()") is False
    assert chrome.run("document.querySelector('details td').getBoundingClientRect().height") > 0


def test_many_boots_fit_on_paper(chrome: Browser, urls: dict[str, str]) -> None:
    """The chart of 65 boots is as wide as the sheet, not cut off at its edge."""
    chrome.look((720, 900), media="print")
    chrome.open(urls["history"])
    assert chrome.run("document.querySelectorAll('rect.boot').length") > 50
    assert chrome.run("document.documentElement.scrollWidth") <= 720
