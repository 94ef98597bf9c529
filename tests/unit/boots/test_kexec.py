# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.kexec import loaded_by_kexec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]


OLD, NEW = "sys/kernel/kexec_loaded", "sys/kernel/kexec/loaded"
CRASH = "sys/kernel/kexec_crash_loaded"


@pytest.mark.parametrize(
    ("files", "told_by"),
    [
        ({}, None),
        ({OLD: "0\n"}, None),
        ({OLD: "1\n"}, OLD),
        ({NEW: "1\n", OLD: "1\n"}, NEW),
        ({NEW: "1\n"}, NEW),
        ({NEW: "?\n", OLD: "1\n"}, OLD),
        ({CRASH: "1\n"}, None),
        ({OLD: "0\n", CRASH: "1\n"}, None),
        ({OLD: "yes\n"}, None),
    ],
)
def test_whether_a_kernel_waits_for_kexec(
    host_tree: HostTree, files: Mapping[str, str], told_by: str | None
) -> None:
    """The file that tells it is named; a kernel for crashes is no next boot."""
    assert loaded_by_kexec(host_tree({"proc/x": "", **files})) == told_by
