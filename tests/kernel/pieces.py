# SPDX-License-Identifier: Apache-2.0
"""Pieces of memory maps: memmap= arguments, and holes at random places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kernel.guestmap import GIB, HIGH, KERNEL_END, KIB, LOW_TAIL, MIB

if TYPE_CHECKING:
    from random import Random

    from tests.kernel.guestmap import GuestMap

PAGE = 4 * KIB
KINDS = "$#!"
"""memmap= kinds: reserved, ACPI data, legacy persistent memory."""

Span = tuple[int, int]


def amount(value: int) -> str:
    """An amount or address as memmap= takes it, in the shortest unit that is exact."""
    for unit, letter in ((GIB, "G"), (MIB, "M"), (KIB, "K")):
        if value and value % unit == 0:
            return f"{value // unit}{letter}"
    return f"{value:#x}"


def piece(kind: str, start: int, size: int) -> str:
    """A ``memmap=`` argument: ``kind`` is ``@``, ``$``, ``#`` or ``!``; bytes."""
    return f"memmap={amount(size)}{kind}{amount(start)}"


def spans(guest: GuestMap) -> list[Span]:
    """Where holes can go without keeping the guest from booting."""
    low = (KERNEL_END, guest.low_end - LOW_TAIL)
    return [span for span in (low, (HIGH, guest.high_end)) if span[1] - span[0] >= MIB]


def some_memory(r: Random) -> int:
    """A guest of 512 MiB to 12 GiB; smaller ones more often, mostly no multiple of 1 GiB."""
    return max(512, int(2 ** r.uniform(9, 13.6))) * MIB


def apart(r: Random, span: Span, count: int, most: int = 8 * MIB) -> list[Span]:
    """``count`` page-aligned holes in the span, no two of them touching."""
    slot = (span[1] - span[0]) // count
    found = []
    for i in range(count):
        start = span[0] + i * slot
        size = r.randrange(PAGE, max(2 * PAGE, min(most, slot // 2)), PAGE)
        at = r.randrange(start + PAGE, max(start + 2 * PAGE, start + slot - size - PAGE), PAGE)
        found.append((at // PAGE * PAGE, size))
    return found


def scattered(r: Random, guest: GuestMap, count: int, most: int = 32 * MIB) -> tuple[str, ...]:
    """``count`` holes of all kinds anywhere, touching and overlapping as it happens."""
    arguments = []
    for _ in range(count):
        span = r.choice(spans(guest))
        size = int(2 ** r.uniform(12, most.bit_length() - 1)) // PAGE * PAGE
        at = r.randrange(span[0], max(span[0] + PAGE, span[1] - size), PAGE)
        arguments.append(piece(r.choice(KINDS), at, size))
    return tuple(arguments)
