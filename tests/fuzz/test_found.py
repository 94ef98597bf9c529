# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's targets with their seeds, and with all that was ever found by fuzzing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.kernels.image_marks import answer
from tdx_headroom.boots.kernels.marks import Mark
from tdx_headroom.boots.kernels.module import module_has_parameter
from tdx_headroom.output import boots_report
from tests.fuzz import boot_files
from tests.fuzz.targets import FOUND, LONGEST, TARGETS, TESTS

if TYPE_CHECKING:
    from tdx_headroom.output.terminal import Style
    from tdx_headroom.verdict.assessment import Assessment


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """Every target takes its seeds, anything empty, and every input that once broke it."""
    inputs = list(TARGETS[name].inputs(name))
    assert inputs
    for data in [b"", b"\0", *inputs]:
        TARGETS[name].run(data)


@pytest.mark.parametrize(
    "name", ["grub", "efi-variable", "kernel-image", "kernel-module", "boot-inventory", "boots", "host"]
)
def test_no_seed_that_is_a_whole_is_cut(name: str) -> None:
    """Cut they would hold nothing of what they are for."""
    assert max(map(len, TARGETS[name].inputs(name))) <= LONGEST


def test_seeds_reach_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each configuration boots are shown; marks are found in images, and the parameter in the module."""
    shown = []

    def boots_text(assessment: Assessment, style: Style) -> str:
        shown.append(assessment.facts.boots)
        return boots_report.boots_text(assessment, style)

    monkeypatch.setattr(boot_files, "boots_text", boots_text)
    for data in boot_files.layouts(TESTS):
        boot_files.boots(data)
    assert all(found is not None and found.configured for found in shown)
    assert sum(len(found.entries) > 1 for found in shown if found is not None) > 8
    assert module_has_parameter(next(boot_files.modules()))
    for data in boot_files.images():
        fd = os.memfd_create("image")
        os.write(fd, data)
        assert answer(fd, 0)["found"] == [Mark.MESSAGES]
        os.close(fd)


def test_found_inputs_have_a_target() -> None:
    """No input that was found is left aside because its target has another name now."""
    assert {path.name for path in FOUND.iterdir() if path.is_dir()} <= set(TARGETS)
