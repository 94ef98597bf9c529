# SPDX-License-Identifier: Apache-2.0
"""Hosts that boot another copy of their system next, which their boot loader's files do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tools.staged import staged_host
from tests.unit.boots.test_inventory import assessed, packed

from tdx_headroom.boots.watched import changed_since, state_of_files
from tdx_headroom.hostfs.root import Root
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "6.14.0-1009-intel"


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ([], True),
        (["booted"], True),
        (["staged-deployment"], False),
        (["staged-deployment", "staged-deployment-locked"], True),
    ],
)
def test_a_deployment_of_ostree(names: list[str], known: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A staged one gets its entry at the shutdown; the entries that are there are listed all the same."""
    folder = staged_host(tmp_path / "host", GOOD)
    (folder / "run/ostree").mkdir(parents=True)
    for name in names:
        (folder / "run/ostree" / name).write_bytes(b"\0\1")
    for files in (Root(folder), packed(folder)):
        assessment = assessed(files)
        assert assessment.next_boot is (State.WILL_INITIALIZE if known else None)
        assert GOOD in [boot.entry.release for boot in assessment.boots or ()]
        assert known or str(assessment.boots_unknown).startswith("run/ostree/staged-deployment: ")


def test_a_deployment_is_noticed(tmp_path: Path) -> None:
    """What root has written down does not count any more when one is staged."""
    (tmp_path / "run/ostree").mkdir(parents=True)
    before = state_of_files(Root(tmp_path))
    (tmp_path / "run/ostree/staged-deployment").write_bytes(b"x")
    assert changed_since(Root(tmp_path), before) == "run/ostree"
