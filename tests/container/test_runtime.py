# SPDX-License-Identifier: Apache-2.0
"""What stands between docker and runc on a machine that lacks capabilities."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.container import runtime

if TYPE_CHECKING:
    from pathlib import Path

ALL = (1 << 41) - 1
WITHOUT_RESOURCE = ALL & ~(1 << 24)


@pytest.fixture
def process() -> dict[str, Any]:
    """A container's, as docker describes it."""
    return {
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "inheritable": ["CAP_SYS_RESOURCE"]},
        "oomScoreAdj": -998,
        "args": ["/pause"],
    }


def this(folder: Path, bounding: int) -> Path:
    (folder / "status").write_text(f"CapEff:\t{0:016x}\nCapBnd:\t{bounding:016x}\nCapAmb:\t{0:016x}\n")
    (folder / "oom_score_adj").write_text("0\n")
    return folder


def test_what_the_machine_lacks_is_left_out(process: dict[str, Any], tmp_path: Path) -> None:
    """The capability goes from every set, and the OOM killer may look at the process."""
    runtime.mend(process, this(tmp_path, WITHOUT_RESOURCE))
    assert process == {
        "capabilities": {"bounding": ["CAP_CHOWN"], "inheritable": []},
        "oomScoreAdj": 0,
        "args": ["/pause"],
    }


def test_where_nothing_is_lacking_nothing_changes(process: dict[str, Any], tmp_path: Path) -> None:
    """With all capabilities the container is what docker has described."""
    before = {**process, "capabilities": {**process["capabilities"]}}
    runtime.mend(process, this(tmp_path, ALL))
    assert process == before


def test_the_numbers_are_the_kernels() -> None:
    """Names stand at the numbers that linux/capability.h gives them, and docker can run the script."""
    names = runtime.CAPABILITIES.split()
    assert (names[0], names[21], names[24], names[34]) == ("CHOWN", "SYS_ADMIN", "SYS_RESOURCE", "SYSLOG")
    assert len(names) == len({*names})
    assert os.access(runtime.__file__, os.X_OK)
