# SPDX-License-Identifier: Apache-2.0
"""What the kernel says in its log while the service runs, and what others say who pretend to be it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.vm.guests import PREPARED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.guests import Guest, Samples

UNTRUSTED = "tdx_headroom_kernel_log_untrusted_records_total"
GIB = 1 << 30

SAID = """virt/tdx: CMR: [0x100000, 0x{end:x})
virt/tdx: CMR: [0x100000000, 0x140000000)
virt/tdx: 4242 KB allocated for PAMT
virt/tdx: module initialized
"""

# Runs in the guest: says the lines as the kernel, then scrapes until the metrics have them.
SAY = """
import re, time, urllib.request
began = time.monotonic()
with open("/sys/kernel/debug/vm_say", "wb", buffering=0) as say:
    say.write({lines!r}.encode())
while True:
    text = urllib.request.urlopen("http://127.0.0.1:10110/metrics").read().decode()
    took = time.monotonic() - began
    found = re.search(r"(?m)^tdx_pamt_allocated_bytes (\\S+)$", text)
    if took > 30 or found and float(found[1]) == {size}:
        break
print(round(took * 1000))
"""

CRASH = """
import ctypes
libc = ctypes.CDLL(None)
libc.prctl(15, b"virt/tdx: CMR: ", 0, 0, 0)
ctypes.string_at(0)
"""

PRETENDED = (
    "virt/tdx: CMR: [0x0, 0x8000000000)",
    "virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.",
    "virt/tdx: module initialization failed (-28)",
)


def steady(samples: Samples) -> Samples:
    """All that does not change by itself: what is known of the host."""
    return {
        key: value
        for key, value in samples.items()
        if key[0].startswith("tdx_") and not key[0].startswith("tdx_headroom_")
    }


@pytest.fixture(scope="module")
def talking_guest(guest: Guest) -> Guest:
    """A guest with the module that says lines as the kernel."""
    guest.machine.write("/opt/vm-test/vm_say.ko", PREPARED[0].modules["vm_say"].read_bytes())
    guest.run("insmod /opt/vm-test/vm_say.ko")
    return guest


def test_cmrs_that_a_vendor_kernel_prints(talking_guest: Guest, note: Callable[[str], None]) -> None:
    """CMRs that the kernel prints while the agent runs are in the metrics at once."""
    guest = talking_guest
    assert guest.value("tdx_cmrs") is None
    slowest = 0
    for kib in (4242, 4243, 4244):
        lines = SAID.format(end=GIB).replace("4242", str(kib))
        script = SAY.format(lines=lines, size=kib * 1024)
        guest.machine.write("/opt/vm-test/say.py", script.encode())
        slowest = max(slowest, int(guest.run("python3 /opt/vm-test/say.py")))
    note(f"from the kernel's line to the scrape that has it: {slowest} ms at most, under emulation")
    assert slowest < 5000
    assert guest.value("tdx_cmrs") == 2
    assert guest.value("tdx_cmr_bytes") == 2 * GIB - (1 << 20)
    assert guest.value("tdx_reserved_areas_headroom_min", strategy="cmr-walk") is not None


def test_user_space_cannot_say_it(talking_guest: Guest) -> None:
    """Lines that root writes to /dev/kmsg change nothing but the counter of untrusted records."""
    guest = talking_guest
    before = guest.samples()
    for line in PRETENDED:
        guest.run(f"echo '<6>{line}' > /dev/kmsg")
    wanted = before[UNTRUSTED, ()] + len(PRETENDED)
    guest.wait(lambda: guest.value(UNTRUSTED) == wanted, 20, f"{wanted:.0f} untrusted records")
    assert steady(guest.samples()) == steady(before)


def test_a_crash_cannot_say_it(talking_guest: Guest) -> None:
    """A process that is named like a TDX line and crashes has the kernel print it, and changes nothing."""
    guest = talking_guest
    before = guest.samples()
    guest.machine.write("/opt/vm-test/crash.py", CRASH.encode())
    assert guest.machine.status("setpriv --reuid=65534 --clear-groups python3 /opt/vm-test/crash.py") != 0
    said = guest.run("dmesg --raw | grep 'segfault at 0'")
    assert re.match(r"<6>\[[ 0-9.]+\] virt/tdx: CMR: \[[0-9]+\]: segfault at 0 ", said), said
    # A line that is waited for: when it is counted, the crash before it was read too.
    guest.run("echo '<6>virt/tdx: module initialized' > /dev/kmsg")
    guest.wait(lambda: guest.value(UNTRUSTED) == before[UNTRUSTED, ()] + 1, 20, "one untrusted record")
    assert steady(guest.samples()) == steady(before)
