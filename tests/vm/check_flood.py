# SPDX-License-Identifier: Apache-2.0
"""Floods: forged TDX lines in the kernel's log, a log that runs over unread, clients that do not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vm.guests import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.guests import Guest, Samples

FORGED = 100_000
LOST = "tdx_headroom_kernel_log_records_lost_total"
UNTRUSTED = "tdx_headroom_kernel_log_untrusted_records_total"
FLOOD = """
import os
log = os.open("/dev/kmsg", os.O_WRONLY)
lines = (b"virt/tdx: module initialized", b"virt/tdx: CMR: [0x100000, 0x6f800000)",
         b"<0>virt/tdx: initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.",
         b"virt/tdx: 4 KB allocated for PAMT", b"Early memory node ranges")
for i in range({number}):
    os.write(log, lines[i % len(lines)])
"""
UNREAD = """
import socket, time
clients = []
for _ in range(600):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.connect(("127.0.0.1", 10110))
    clients.append(client)
    try:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 100)
    except OSError:
        pass  # it is one of too many
print("asked", flush=True)
time.sleep(3600)
"""


def flood(guest: Guest, number: int) -> None:
    """So many forged lines, as fast as the guest can; the kernel would let only ten in five seconds pass."""
    guest.run("sysctl -q -w kernel.printk_devkmsg=on")
    guest.machine.write("/opt/vm-test/flood.py", FLOOD.format(number=number).encode())
    guest.machine.run("python3 /opt/vm-test/flood.py", timeout=400)


def about_the_host(samples: Samples) -> Samples:
    """What the metrics say about the host, and not about the agent's own life."""
    return {
        key: value
        for key, value in samples.items()
        if key[0].startswith("tdx_") and not key[0].startswith("tdx_headroom_")
    }


def counted(guest: Guest) -> float:
    """Records that were refused or lost: forged ones are either."""
    return (guest.value(UNTRUSTED) or 0) + (guest.value(LOST) or 0)


def test_a_flood_of_forged_lines_changes_nothing(guest: Guest, note: Callable[[str], None]) -> None:
    """A hundred thousand lines of user space that look like the kernel's are counted, and that is all."""
    before, start = guest.samples(), counted(guest)
    flood(guest, FORGED)
    # One line in five is no TDX line, and refused without being counted.
    took = guest.wait(lambda: counted(guest) - start >= FORGED * 4 // 5, 300, "the forged lines are counted")
    note(f"{FORGED} forged lines counted {took:.1f} s after the last was written")
    assert about_the_host(guest.samples()) == about_the_host(before)
    assert guest.prop("NRestarts") == "0"
    peak = guest.run(f"grep VmHWM /proc/{guest.prop('MainPID')}/status")
    assert int(peak.split()[1]) < 200 << 10


def test_a_log_that_runs_over(guest: Guest) -> None:
    """Records that were overwritten while the agent was stopped are counted; what was known stays known."""
    before, lost = guest.samples(), guest.value(LOST) or 0
    pid = guest.prop("MainPID")
    guest.run(f"kill -STOP {pid}")
    flood(guest, 20_000)
    guest.run(f"kill -CONT {pid}")
    guest.wait(lambda: (guest.value(LOST) or 0) > lost, 60, "lost records are counted")
    assert about_the_host(guest.samples()) == about_the_host(before)
    guest.run(f"systemctl restart {SERVICE}")
    assert about_the_host(guest.samples()) == about_the_host(before)


def test_clients_that_do_not_read(guest: Guest, note: Callable[[str], None]) -> None:
    """The kernel's buffers for them are charged to the service, which stays far below its limit.

    Its MemoryMax= is 256 MiB. Whoever reads is answered meanwhile, and nothing is left afterwards.
    """
    group = f"/sys/fs/cgroup{guest.prop('ControlGroup')}"

    def sockets() -> int:
        return int(guest.run(f"sed -n 's/^sock //p' {group}/memory.stat"))

    def events() -> dict[str, int]:
        rows = (line.split() for line in guest.run(f"cat {group}/memory.events").splitlines())
        return {name: int(count) for name, count in rows}

    assert guest.prop("MemoryMax") == str(256 << 20)
    before = events()
    guest.machine.write("/opt/vm-test/unread.py", UNREAD.encode())
    guest.run("systemd-run --quiet --unit=unread --property=StandardOutput=file:/run/unread"
              " --property=LimitNOFILE=4096 python3 /opt/vm-test/unread.py")  # fmt: skip
    try:
        guest.wait(lambda: "asked" in guest.run("cat /run/unread || true"), 120, "the requests")
        most = 0

        def all_dropped() -> bool:
            nonlocal most
            most = max(most, sockets())
            return (guest.value("tdx_headroom_http_connections") or 0) < 10

        took = guest.wait(all_dropped, 120, "all of them are dropped")
        guest.wait(lambda: sockets() < 1 << 20, 60, "the kernel holds nothing for them")
    finally:
        guest.run("systemctl stop unread")
    peak = int(guest.run(f"cat {group}/memory.peak"))
    note(
        f"600 clients that read nothing: dropped in {took:.0f} s, {most >> 20} MiB of sockets at most,"
        f" {peak >> 20} MiB in all"
    )
    assert most < 96 << 20
    assert peak < 224 << 20
    assert events() == before
    assert guest.prop("NRestarts") == "0"
