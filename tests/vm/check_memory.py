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

# Runs in the guest: how long after the memory is in /proc/iomem a scrape has it.
WATCH = """
import re, time, urllib.request
iomem = open("/proc/iomem", "rb", buffering=0)
def ram():
    iomem.seek(0)
    text = b"".join(iter(lambda: iomem.read(65536), b"")).decode()
    ranges = re.findall(r"(?m)^([0-9a-f]+)-([0-9a-f]+) : System RAM", text)
    return sum(int(end, 16) - int(start, 16) + 1 for start, end in ranges)
def planned():
    text = urllib.request.urlopen("http://127.0.0.1:10110/metrics").read().decode()
    return float(re.search(r"(?m)^tdx_memory_bytes (\\S+)$", text)[1])
end = time.monotonic() + 120
before, had = ram(), planned()
print("watching", flush=True)
while ram() == before and time.monotonic() < end:
    time.sleep(0.005)
came = time.monotonic()
while planned() < had + (1 << 30) and time.monotonic() < end:
    pass
print("seconds", time.monotonic() - came, flush=True)
"""


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


def test_how_soon_added_memory_is_in_the_plan(growing_guest: Guest, note: Callable[[str], None]) -> None:
    """Counted from when it is in /proc/iomem, under emulation and with the scrape included."""
    guest = growing_guest
    guest.machine.write("/opt/vm-test/watch.py", WATCH.encode())
    guest.run("systemd-run --quiet --unit=watch --property=StandardOutput=file:/run/watched"
              " python3 /opt/vm-test/watch.py")  # fmt: skip
    guest.wait(lambda: "watching" in guest.run("cat /run/watched || true"), 60, "the watch")
    guest.machine.add_memory(1024)
    guest.wait(lambda: "seconds" in guest.run("cat /run/watched"), 120, "the memory in the plan")
    seconds = float(guest.run("cat /run/watched").split()[-1])
    note(f"in a scrape {seconds * 1000:.0f} ms after it is in /proc/iomem, under emulation")
    assert seconds < 10


def test_a_failed_initialization_is_told(growing_guest: Guest) -> None:
    """The guest's TDX init failed: the log that is read without a privilege says so."""
    assert growing_guest.value("tdx_module_state", state="failed") == 1
