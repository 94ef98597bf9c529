# SPDX-License-Identifier: Apache-2.0
"""What a test does on a machine that lacks something it needs."""

from __future__ import annotations

from typing import NoReturn

import pytest


def give_up(config: pytest.Config, reason: str) -> NoReturn:
    """Skip the test, saying what would bring what it needs; with ``--require-everything``, as in CI, fail."""
    if config.getoption("--require-everything"):
        pytest.fail(reason)
    pytest.skip(reason)
