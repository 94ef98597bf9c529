# SPDX-License-Identifier: Apache-2.0
"""Journals of a machine that was booted several times."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400
FIRST = 1_760_000_000


@dataclass(frozen=True)
class Boot:
    """One boot.

    Args:
        number: of it; its id and its day follow from that.
        holes: of a page each between memory from 1 MiB to 1 GiB.
        release: of the kernel.
        bios: version of the firmware.
        failed: whether TDX fails.
        line: of the kernel.
        began: when; None: its day.
    """

    number: int
    holes: int = 9
    release: str = "6.12.5"
    bios: str = "2.1"
    failed: bool = False
    line: str = "root=/dev/sda2 ro nohibernate"
    began: int | None = None

    @property
    def id(self) -> str:
        """As the journal has it."""
        return f"{self.number:032x}"

    @property
    def when(self) -> int:
        """Seconds since the epoch."""
        return FIRST + self.number * DAY if self.began is None else self.began

    def messages(self) -> list[str]:
        """What the kernel says."""
        starts = [1 << 20, *((32 << 20) * (i + 1) + 4096 for i in range(self.holes))]
        ends = [*(start - 4096 for start in starts[1:]), 1 << 30]
        rows = [f"  node   0: [mem {a:#018x}-{b - 1:#018x}]" for a, b in zip(starts, ends, strict=True)]
        limit = "TDMR [0x0, 0x40000000): reserved areas exhausted."
        failure = [
            f"virt/tdx: initialization failed: {limit}",
            "virt/tdx: module initialization failed (-28)",
        ]
        success = ["virt/tdx: 258560 KB allocated for PAMT", "virt/tdx: module initialized"]
        return [
            f"Linux version {self.release} (builder@host) (gcc) #1 SMP",
            f"Command line: {self.line}",
            f"DMI: Dell Inc. PowerEdge R760/0NH8MJ, BIOS {self.bios} 12/15/2025",
            "Early memory node ranges",
            *rows,
            "  node   0: [mem 0x0000000100000000-0x000000107fffffff]",
            "Initmem setup node 0 [mem 0x0000000000100000-0x000000107fffffff]",
            "virt/tdx: BIOS enabled: private KeyID range [64, 128)",
            *(failure if self.failed else success),
            "systemd[1]: Reached target multi-user.target.",
        ]

    def entries(self) -> list[dict[str, Any]]:
        """As ``journalctl --output=json`` has them."""
        return [self.entry(text, 1000 * i) for i, text in enumerate(self.messages())]

    def entry(self, text: str, time: int, facility: str = "0") -> dict[str, Any]:
        """One entry, so many microseconds after the boot."""
        return {
            "_TRANSPORT": "kernel",
            "MESSAGE": text,
            "PRIORITY": "6",
            "SYSLOG_FACILITY": facility,
            "_BOOT_ID": self.id,
            "_SOURCE_MONOTONIC_TIMESTAMP": str(time),
            "__REALTIME_TIMESTAMP": str(self.when * 10**6 + time),
            "__MONOTONIC_TIMESTAMP": str(time),
        }


def journal(entries: list[dict[str, Any]]) -> str:
    """The text that journalctl prints."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def of(*boots: Boot) -> str:
    """The journal of boots, one after the other."""
    return journal([entry for boot in boots for entry in boot.entries()])


def fake_journalctl(folder: Path, *boots: Boot, each: str = "") -> None:
    """A journalctl in this folder that knows these boots, the oldest first.

    Args:
        folder: for the PATH.
        boots: that it knows.
        each: what its shell does before it prints a boot, whose id is ``$id``.
    """
    for boot in boots:
        (folder / boot.id).write_text(of(boot))
    (folder / "ids").write_text("".join(f"{boot.id}\n" * 3 for boot in reversed(boots)))
    program = folder / "journalctl"
    program.write_text(
        f"""#!/bin/sh
case "$*" in
*--reverse*) exec /bin/cat {folder}/ids ;;
*_BOOT_ID=*) id=${{*##*_BOOT_ID=}}; {each or ":"}; exec /bin/cat {folder}/$id ;;
esac
exit 1
"""
    )
    program.chmod(0o755)
