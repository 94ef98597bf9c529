# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.kexec import read_kexec_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]


@pytest.mark.parametrize(
    ("files", "loaded"),
    [
        ({}, None),
        ({"sys/kernel/kexec_loaded": "0\n"}, False),
        ({"sys/kernel/kexec_loaded": "1\n"}, True),
        ({"sys/kernel/kexec/loaded": "1\n", "sys/kernel/kexec_loaded": "1\n"}, True),
        ({"sys/kernel/kexec/loaded": "1\n"}, True),
        ({"sys/kernel/kexec_crash_loaded": "1\n"}, None),
        ({"sys/kernel/kexec_loaded": "0\n", "sys/kernel/kexec_crash_loaded": "1\n"}, False),
        ({"sys/kernel/kexec_loaded": "yes\n"}, None),
    ],
)
def test_whether_a_kernel_waits_for_kexec(
    host_tree: HostTree, files: Mapping[str, str], *, loaded: bool | None
) -> None:
    """Either file tells it; a kernel for crashes is no next boot."""
    assert read_kexec_loaded(host_tree({"proc/x": "", **files})) is loaded
