# SPDX-License-Identifier: Apache-2.0
"""What docs/dev shows of the code is in the code."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs/dev/adding.md"
SHOWN = re.findall(r"(?ms)^ *```python\n *# (\S+)\n(.*?)^ *```$", PAGE.read_text("utf-8"))


def squeezed(text: str) -> str:
    """A text without indentation and line breaks, as ruff may set it anew."""
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize(("name", "code"), SHOWN, ids=[name for name, _ in SHOWN])
def test_the_code_is_as_shown(name: str, code: str) -> None:
    """Each block is in the file that its first line names."""
    shown = squeezed(dedent(code)).strip()
    kept = squeezed((CHECKOUT / name).read_text("utf-8"))
    assert shown in kept, f"docs/dev/adding.md shows what {name} no longer has: mend the page"


def test_every_block_names_its_file() -> None:
    """No block of code escapes the comparison."""
    assert len(SHOWN) == PAGE.read_text("utf-8").count("```python") >= 12
