# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's targets with their seeds, and with all that was ever found by fuzzing."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import FOUND, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """Every target takes its seeds, anything empty, and every input that once broke it."""
    inputs = list(TARGETS[name].inputs(name))
    assert inputs
    for data in [b"", b"\0", *inputs]:
        TARGETS[name].run(data)


def test_found_inputs_have_a_target() -> None:
    """No input that was found is left aside because its target has another name now."""
    assert {path.name for path in FOUND.iterdir() if path.is_dir()} <= set(TARGETS)
