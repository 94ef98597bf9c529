# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tdx_headroom.output.addresses import coarse


@pytest.mark.parametrize(
    "text",
    [
        "TDMR [0x0, 0x80000000) needs 17",
        "memmap=1G$498G",
        "memmap=1G%0x40000000-1+2",
        "mem=64G",
        "keep the kernel off the rest with memmap=.",
        "memmap=SIZE$START",
        "memmap=64K$640K",
        "field 0x9100000100000008",
        "errno -28, 1050644 KiB, 17 of 16",
    ],
)
def test_what_is_no_fine_address_stays(text: str) -> None:
    """Whole GiB, the first MiB, sizes, counts and what no address can be are shown."""
    assert coarse(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[0x64158000, 0x80000000)", "[0x…, 0x80000000)"),
        ("memmap=4K$0x64158000 there", "memmap=… there"),
        ("memmap=64K$1639264K", "memmap=…"),
        ("memmap=64K$1682980864", "memmap=…"),
        ("memmap=64k#1600m", "memmap=…"),
        ("memmap=64K$0x600M", "memmap=…"),
        ("memmap=64K$0X600m", "memmap=…"),
        ("memmap=64K$014413000000", "memmap=…"),
        ("memmap=1G!1537M", "memmap=…"),
        ("memmap=2%5T,0x100000@0x123456000", "memmap=…"),
        ("memmap=4K%0x64158000-1+2", "memmap=…"),
        ("memmap=4K$0x40000000", "memmap=…"),
        ("memmap=1679130624", "memmap=…"),
        ("mem=1639776K", "mem=…"),
        ("4K$0X64158000, 64K$014413000000", "4K$0x…, 64K$0x…"),
        ("4K$089", "4K$0x…"),
    ],
)
def test_a_fine_address_is_left_out_in_every_notation(text: str, shown: str) -> None:
    """An argument of the command line may give it in decimal or octal, and with a unit."""
    assert coarse(text) == shown
