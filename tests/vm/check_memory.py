# SPDX-License-Identifier: Apache-2.0
"""Memory that comes while the service runs without a privilege and without a network."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tests.vm.guests import SERVICE
from tests.vm.install import drop_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.guests import Guest

GIB = 1 << 30


def _has(guest: Guest, size: int) -> bool:
    return guest.value("tdx_memory_bytes") == size


def test_added_memory_is_in_the_plan(growing_guest: Guest, note: Callable[[str], None]) -> None:
    """Before and after, the plan has root's real addresses; the kernel's uevents say when.

    The timer is set to an hour: only an event can make the agent look. So uevents do arrive in a network
    namespace of the service's own.
    """
    guest = growing_guest
    drop_in(guest.machine, SERVICE, "zz-check.conf", b'[Service]\nEnvironment="ARGS=--refresh-interval 1h"\n')
    guest.run(f"systemctl restart {SERVICE}")
    before = guest.memory()
    assert guest.value("tdx_memory_bytes") == before > GIB // 2
    tdmrs = guest.value("tdx_tdmrs", strategy="memory-regions") or 0
    for added in (1, 2):
        guest.machine.add_memory(1024)
        started = time.monotonic()
        wanted = before + added * GIB
        guest.wait(partial(_has, guest, wanted), 20, f"{wanted} bytes in the plan")
        note(f"GiB {added} in the plan after {time.monotonic() - started:.1f} s, with a network of its own")
        assert guest.memory() == wanted
    assert (guest.value("tdx_tdmrs", strategy="memory-regions") or 0) > tdmrs
    pid = guest.prop("MainPID")
    assert guest.run(f"readlink /proc/{pid}/ns/net") != guest.run("readlink /proc/1/ns/net")
    assert guest.prop("NRestarts") == "0"


def test_a_failed_initialization_is_told(growing_guest: Guest) -> None:
    """The guest's TDX init failed: the log that is read without a privilege says so."""
    assert growing_guest.value("tdx_module_state", state="failed") == 1
