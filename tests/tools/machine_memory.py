# SPDX-License-Identifier: Apache-2.0
"""What this machine has, to compare with what an agent in a container says."""

from __future__ import annotations

from pathlib import Path


def memory_bytes() -> int:
    """System RAM from 1 MiB on, in whole pages, by ``/proc/iomem``; root sees its addresses."""
    total = 0
    for line in Path("/proc/iomem").read_text().splitlines():
        span, _, name = line.partition(" : ")
        if not line.startswith(" ") and name.startswith("System RAM"):
            start, end = (int(number, 16) for number in span.split("-"))
            total += max(0, (end + 1) // 4096 * 4096 - max(-(-start // 4096) * 4096, 1 << 20))
    return total
