# SPDX-License-Identifier: Apache-2.0
"""Sizes of PAMTs (``tdmr_get_pamt_sz()``; with Dynamic PAMT ``tdmr_get_pamt_bitmap_sz()``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.address import PAGE, align_up
from tdx_headroom.plan.model import Pamt

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import Limits


def pamt_for(tdmr_size: int, limits: Limits) -> Pamt:
    """The PAMT of a TDMR, without a place; each part is rounded up to whole pages on its own.

    With Dynamic PAMT the 4K part is a bitmap of ``pamt_page_bitmap_entry_bits`` per page.

    Args:
        tdmr_size: bytes.
        limits: of the TDX module.
    """
    entry = limits.pamt_entry_size
    bits = limits.pamt_page_bitmap_entry_bits
    pages = tdmr_size >> 12
    size_4k = pages * entry.size_4k if bits is None else (pages * bits + 7) // 8
    return Pamt(
        None,
        align_up(size_4k, PAGE),
        align_up((tdmr_size >> 21) * entry.size_2m, PAGE),
        align_up((tdmr_size >> 30) * entry.size_1g, PAGE),
    )
