# SPDX-License-Identifier: Apache-2.0
"""What happens to the two agents: a log is flooded, memory changes, files misbehave."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOSTS = Path(__file__).resolve().parents[1] / "hosts"
KMSG = Path("/dev/kmsg")
UEVENT = Path("/sys/devices/system/memory/memory0/uevent")
BURST = 10
"""Records at once in this machine's own log: as many as the kernel takes of one writer."""

FLOOD, FLOODED = 500, 5000
"""Records at once in the captured log, and how many there may be before it is as it was again."""

FORGED = b"<5>virt/tdx: initialization failed: TDMRs exhausted."
NOISE = b"<7>tdx-headroom soak: one of many records"


@dataclass
class Live:
    """This machine: real records and, where the kernel takes the request, real uevents of a memory block."""

    records: int = 0
    uevents: int = 0

    def burst(self) -> None:
        fd = os.open(KMSG, os.O_WRONLY)
        try:
            for i in range(BURST):
                os.write(fd, NOISE if i else FORGED)
        finally:
            os.close(fd)
        self.records += BURST

    def uevent(self) -> None:
        if UEVENT.exists():
            UEVENT.write_text("change")
            self.uevents += 1


@dataclass
class Captured:
    """A tree that mirrors a host, and what goes wrong with it in turns."""

    root: Path
    turns: int = 0
    records: int = 0
    _faults: Iterator[Callable[[], None]] = field(init=False)

    def __post_init__(self) -> None:
        shutil.copytree(HOSTS / "emerald-rapids", self.root)
        self.root.chmod(0o755)
        self._iomem = self.root / "proc/iomem"
        self._text = self._iomem.read_text()
        self._kmsg = self.root / "dev/kmsg"
        self._log = self._kmsg.read_text()
        self._flood = 0
        faults = [
            self._hotplug,
            self._missing,
            self._garbage,
            self._empty,
            self._fifo,
            self._loop,
            self._huge,
        ]
        if os.geteuid() == 0:
            faults.append(self._eio)
        self._faults = itertools.cycle(step for fault in faults for step in (fault, self.heal))

    def turn(self) -> None:
        """The next fault, or the end of the last one."""
        next(self._faults)()
        self.turns += 1

    def flood(self) -> None:
        """More records in the log, the kernel's and others', some of which look like TDX lines."""
        if self._flood >= FLOODED:
            self._kmsg.write_text(self._log)
            self._flood = 0
        with self._kmsg.open("a") as file:
            for i in range(self._flood, self._flood + FLOOD):
                priority, text = (13, FORGED[3:].decode()) if i % 10 == 0 else (6, "usb 1-1: one of many")
                file.write(f"{priority},{100_000 + i},{10**9 + i},-;{text}\n")
        self._flood += FLOOD
        self.records += FLOOD

    def heal(self) -> None:
        subprocess.run(["umount", str(self._iomem)], stderr=subprocess.DEVNULL)
        self._iomem.unlink(missing_ok=True)
        self._iomem.write_text(self._text)

    def _hotplug(self) -> None:
        last = int(self._text.splitlines()[-1].split("-")[1].split()[0], 16)
        start = (last + (1 << 32)) >> 30 << 30
        self._iomem.write_text(f"{self._text}{start:x}-{start + (1 << 30) - 1:x} : System RAM\n")

    def _missing(self) -> None:
        self._iomem.unlink()

    def _garbage(self) -> None:
        self._iomem.write_bytes(b"\xff\xfe nothing like it\n")

    def _empty(self) -> None:
        self._iomem.write_text("")

    def _fifo(self) -> None:
        self._iomem.unlink()
        os.mkfifo(self._iomem)

    def _loop(self) -> None:
        self._iomem.unlink()
        self._iomem.symlink_to(self._iomem.name)

    def _huge(self) -> None:
        with self._iomem.open("wb") as file:
            file.truncate(20 << 20)

    def _eio(self) -> None:
        # Reading another process's memory at address 0 gives EIO, from whichever file it is mounted on.
        subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", str(self._iomem)], check=True)
