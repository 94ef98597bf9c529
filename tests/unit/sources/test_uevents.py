# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.sources.uevents import is_memory_event, open_uevents

EVENT = b"add@/devices/system/memory/memory32\0ACTION=add\0SUBSYSTEM=memory\0"


@pytest.mark.parametrize(
    ("data", "port", "counts"),
    [
        (EVENT, 0, True),
        (EVENT.replace(b"add@", b"online@"), 0, True),
        (EVENT.replace(b"add@", b"remove@"), 0, True),
        (EVENT, 4711, False),
        (EVENT.replace(b"memory32", b"memory"), 0, False),
        (b"add@/devices/system/cpu/cpu3\0ACTION=add\0", 0, False),
        (b"libudev\0" + EVENT, 0, False),
        (b"", 0, False),
        (b"\xff" * 9000, 0, False),
    ],
)
def test_only_the_kernels_memory_events_count(*, data: bytes, port: int, counts: bool) -> None:
    """Sender port id 0 and a memory block; all else wakes nobody."""
    assert is_memory_event(data, port) is counts


def test_the_socket_can_be_had_without_privileges() -> None:
    """The kernel lets anybody listen."""
    opened = open_uevents()
    if opened is None:
        pytest.skip("this kernel or sandbox has no uevents")
    opened.close()
