# SPDX-License-Identifier: Apache-2.0
"""The TDX module's checks of a plan, in its order (TDH.SYS.CONFIG, TDX module 1.5).

For each TDMR in turn the module looks at the TDMR itself, its reserved areas, its PAMT, and at last at
whether all that is not reserved lies inside CMRs. Two of its checks cannot fail on a plan that the kernel
has built and are not repeated here: TDMRs ascend in whole GiB, and no PAMT reaches into memory that is
available in a TDMR, since the part of every PAMT inside a TDMR is one of its reserved areas.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from tdx_headroom.address import PAGE, Containment, Range
from tdx_headroom.plan.model import ModuleStatus, ModuleVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.plan.model import Pamt, ReservedArea, Tdmr

MAX_PHYSICAL_ADDRESS = 1 << 52
"""No x86 processor has more; the module compares with the processor's own width, unknown here."""

PAMT_ENTRY_SIZE = 16
"""``sizeof(pamt_entry_t)``, at every level; the 4K part may be a bitmap of one bit a page instead."""


def accepts_cmrs(cmrs: Sequence[tuple[int, int]]) -> bool:
    """Whether TDH.SYS.INIT takes the CMR table: page aligned, in order and disjoint; empty entries aside.

    Args:
        cmrs: ``(base, size)`` in table order.
    """
    end = 0
    for base, size in cmrs:
        if not size:
            continue
        if base < end or (base | size) % PAGE:
            return False
        end = base + size
    return True


def module_verdict(
    tdmrs: Sequence[Tdmr], cmrs: Sequence[tuple[int, int]], *, dynamic_pamt: bool
) -> ModuleVerdict:
    """What TDH.SYS.CONFIG returns for these TDMRs; ``cmrs`` are ``(base, size)`` in table order.

    A PAMT without a base is taken to lie in convertible memory outside every TDMR, apart from all others.
    """
    convertible = Containment(_joined(cmrs))
    placed: list[Range] = []
    for i, tdmr in enumerate(tdmrs):
        status = (
            _check_tdmr(tdmr)
            or _check_reserved(tdmr.reserved_areas)
            or _check_pamt(tdmr, placed, convertible, dynamic_pamt=dynamic_pamt)
            or _check_available(tdmr, convertible)
        )
        if status is not None:
            return ModuleVerdict(status, i)
        if tdmr.pamt.base is not None:
            insort(placed, Range(tdmr.pamt.base, tdmr.pamt.base + tdmr.pamt.size))
    return ModuleVerdict(ModuleStatus.SUCCESS, None)


def _joined(cmrs: Sequence[tuple[int, int]]) -> list[Range]:
    """The CMRs as the module compares with them: each that begins where the one before ends is joined to it.

    Empty entries are passed over; other than in the kernel they do not end the table.
    """
    joined: list[Range] = []
    for base, size in cmrs:
        if size == 0:
            continue
        start = joined[-1].start if joined and base == joined[-1].end else base
        joined.append(Range(start, base + size))
    return joined


def _check_tdmr(tdmr: Tdmr) -> ModuleStatus | None:
    return ModuleStatus.INVALID_TDMR if tdmr.end > MAX_PHYSICAL_ADDRESS else None


def _check_reserved(areas: Sequence[ReservedArea]) -> ModuleStatus | None:
    """Areas must ascend and must not overlap; the kernel has seen to their alignment and bounds."""
    end = 0
    for area in areas:
        if area.offset < end:
            return ModuleStatus.NON_ORDERED_RESERVED_IN_TDMR
        end = area.offset + area.size
    return None


def _check_pamt(
    tdmr: Tdmr, placed: Sequence[Range], convertible: Containment, *, dynamic_pamt: bool
) -> ModuleStatus | None:
    pamt = tdmr.pamt
    if not _pamt_is_valid(pamt, tdmr.size, dynamic_pamt=dynamic_pamt):
        return ModuleStatus.INVALID_PAMT
    if pamt.base is None:
        return None
    end = pamt.base + pamt.size
    # The blocks placed so far are disjoint, so only the neighbours can overlap this one.
    i = bisect_left(placed, (pamt.base, 0))
    if (i < len(placed) and placed[i].start < end) or (i > 0 and placed[i - 1].end > pamt.base):
        return ModuleStatus.PAMT_OVERLAP
    part_2m = pamt.base + pamt.size_4k
    part_1g = part_2m + pamt.size_2m
    parts = ((part_1g, end), (part_2m, part_1g), (pamt.base, part_2m))
    if not all(convertible.holds(*part) for part in parts):
        return ModuleStatus.PAMT_OUTSIDE_CMRS
    return None


def _pamt_is_valid(pamt: Pamt, tdmr_size: int, *, dynamic_pamt: bool) -> bool:
    """Whether the PAMT is page aligned, addressable, and large enough for its TDMR (all three parts)."""
    if pamt.base is not None and (pamt.base % PAGE or pamt.base + pamt.size > MAX_PHYSICAL_ADDRESS):
        return False
    pages = tdmr_size >> 12
    return (
        pamt.size_1g >= (tdmr_size >> 30) * PAMT_ENTRY_SIZE
        and pamt.size_2m >= (tdmr_size >> 21) * PAMT_ENTRY_SIZE
        and pamt.size_4k >= (pages // 8 if dynamic_pamt else pages * PAMT_ENTRY_SIZE)
    )


def _check_available(tdmr: Tdmr, convertible: Containment) -> ModuleStatus | None:
    """Everything between reserved areas must lie inside CMRs."""
    at = tdmr.base
    for area in tdmr.reserved_areas:
        start = tdmr.base + area.offset
        if start > at and not convertible.holds(at, start):
            return ModuleStatus.TDMR_OUTSIDE_CMRS
        at = start + area.size
    if at < tdmr.end and not convertible.holds(at, tdmr.end):
        return ModuleStatus.TDMR_OUTSIDE_CMRS
    return None
