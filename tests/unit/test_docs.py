# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.tools.generated import assert_current
from tests.tools.make_docs import DOCS, PAGES

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    """Pages made from the code are up to date."""
    assert_current(DOCS / name, PAGES[name](), "make docs")


@pytest.mark.parametrize(
    "page", ["README.md", *(str(path.relative_to(CHECKOUT)) for path in sorted(DOCS.rglob("*.md")))]
)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link of a page leads to a file."""
    path = CHECKOUT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_pages_that_the_code_names_exist() -> None:
    """A docstring or comment sends nobody to a page that is not there."""
    files = [path for folder in ("agent", "packaging", "tests") for path in (CHECKOUT / folder).rglob("*.py")]
    assert files
    named = {
        (str(path.relative_to(CHECKOUT)), page)
        for path in files
        for page in re.findall(r"\bdocs/[a-z/-]+\.md\b", path.read_text("utf-8"))
    }
    assert not {(name, page) for name, page in named if not (CHECKOUT / page).exists()}
