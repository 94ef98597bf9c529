# SPDX-License-Identifier: Apache-2.0
"""A guest that its own firmware and boot loader boot; and what came of a boot."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.kernel.truth import KERNEL, Truth, read_truth, split_log
from tests.reboots.places import FIRMWARE
from tests.vm.machine import GuestError, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.reboots.disk import Disk

PORT = 10110
MEMORY = 3072
"""MiB: QEMU's q35 puts 2 GiB below 4 GiB, and the rest, with the PAMTs, above."""

LOOK = """
import json, os
log, records = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK), []
try:
    while record := os.read(log, 8192):
        records.append(record.decode("utf-8", "replace"))
except BlockingIOError:
    pass
print(json.dumps({
    "release": os.uname().release,
    "line": open("/proc/cmdline").read().strip(),
    "boot": open("/proc/sys/kernel/random/boot_id").read().strip(),
    "log": "".join(records),
}))
"""


@dataclass(frozen=True, slots=True)
class Came:
    """What a boot was.

    Args:
        boot: its id.
        release: of the kernel.
        line: the kernel's command line, what is built in included.
        truth: what the kernel did about TDX.
    """

    boot: str
    release: str
    line: str
    truth: Truth

    @property
    def up(self) -> bool:
        """Whether TDX came up."""
        return self.truth.initialized


@dataclass
class Guest:
    """A booted guest.

    Args:
        machine: its machine.
    """

    machine: Machine

    def run(self, command: str) -> str:
        """Run a shell command as root; what it wrote.

        Raises:
            GuestError: it fails.
        """
        return self.machine.run(command).strip()

    def look(self) -> Came:
        """What this boot is."""
        self.machine.write("/run/look.py", LOOK.encode())
        seen = json.loads(self.run("python3 -E -S /run/look.py"))
        return Came(seen["boot"], seen["release"], seen["line"], _truth(seen["log"]))

    def ask(self) -> dict[str, Any]:
        """What the agent's command foretells of the next boot, as root.

        Raises:
            GuestError: it gives no JSON.
        """
        said = self.machine.run("tdx-headroom boots --format json 2>/run/said", check=False)
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            raise GuestError(f"tdx-headroom boots: {said[-500:]} {self.run('cat /run/said')}") from None
        return answer

    def keep(self) -> bytes:
        """What decides about the next boot but the kernels: the loader's files, EFI variables; a tar.gz."""
        what = (
            "boot/grub/*.cfg boot/grub/grubenv boot/efi/loader etc/default/grub etc/kernel"
            " sys/firmware/efi/efivars/Boot* sys/firmware/efi/efivars/Loader* run/boot-files"
        )
        self.run(
            f"cd / && ls -lR boot >/run/boot-files; tar -czf /run/boot.tar.gz {what} 2>/dev/null || true"
        )
        return base64.b64decode(self.run("base64 /run/boot.tar.gz"))

    def reboot(self) -> float:
        """Reboot as an operator does; the seconds until it takes commands again."""
        started = time.monotonic()
        self.machine.reboot()
        return time.monotonic() - started


def _truth(kmsg: str) -> Truth:
    kept, standin = split_log(kmsg)
    if standin:
        return read_truth(kept, standin)
    # A kernel without the stand-in, or one that never called it.
    texts = (line.partition(";")[2] for line in kmsg.splitlines() if not line.startswith(" "))
    lines = tuple(text.removeprefix(KERNEL) for text in texts if text.startswith(KERNEL))
    return Truth((), None, None, lines)


def _firmware(disk: Disk, packages: Path) -> list[str]:
    return [
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={disk.variables}"),
        *("-drive", f"file={packages},format=raw,if=virtio,readonly=on"),
    ]


@contextmanager
def boot_kernel(disk: Disk, packages: Path, kernel: Path) -> Iterator[Guest]:
    """Boot a kernel without a loader, to install one; the guest is switched off in the end."""
    more = _firmware(disk, packages)
    with Machine(
        kernel, disk.path, port=PORT, memory=MEMORY, append="root=/dev/vda2", keep=True, more=more
    ) as machine:
        yield Guest(machine)
        machine.power_off()


@contextmanager
def boot_disk(disk: Disk, packages: Path) -> Iterator[Guest]:
    """Boot what firmware and loader choose."""
    more = _firmware(disk, packages)
    with Machine(None, disk.path, port=PORT, memory=MEMORY, keep=True, more=more) as machine:
        yield Guest(machine)
