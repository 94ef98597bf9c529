# SPDX-License-Identifier: Apache-2.0
"""Files that are made from the code: what differs, and the command that makes them anew."""

from __future__ import annotations

from difflib import unified_diff
from itertools import islice
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
_LINES = 30
_WIDTH = 160


def assert_current(path: Path, made: str, cure: str) -> None:
    """Fail where a file is not what the code makes, with what differs.

    Args:
        path: of the file.
        made: what the code makes now.
        cure: the command that writes it.
    """
    kept = path.read_text("utf-8") if path.exists() else ""
    if kept == made:
        return
    name = path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path
    differs = unified_diff(kept.splitlines(), made.splitlines(), "the file", "the code", n=1, lineterm="")
    shown = "\n".join(line[:_WIDTH] for line in islice(differs, _LINES))
    pytest.fail(f"{name} is not what the code says: run `{cure}`, and read its diff\n{shown}", pytrace=False)
