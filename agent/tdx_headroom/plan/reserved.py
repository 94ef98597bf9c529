# SPDX-License-Identifier: Apache-2.0
"""Reserved areas of TDMRs and the limits on them (``tdmr_populate_rsvd_areas()``)."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import PAGE, Range, show
from tdx_headroom.plan.model import AreaKind, Outcome, ReservedArea

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.plan.model import Pamt


class Failure(NamedTuple):
    """How and where the kernel gives up: the TDMR's index, and the line that it prints, if any."""

    outcome: Outcome
    tdmr: int
    message: str | None


def reserved_areas(
    tdmrs: Sequence[Range], holes: Sequence[Sequence[Range]], pamts: Sequence[Pamt]
) -> list[list[ReservedArea]]:
    """The areas of every TDMR in the order in which the kernel adds them: holes, then PAMTs.

    Every PAMT is tested against every TDMR and clipped to it (``tdmr_populate_rsvd_pamts()``); touching
    areas are never merged.
    """
    areas = [
        [ReservedArea(hole.start - tdmr.start, hole.size, AreaKind.HOLE) for hole in of_tdmr]
        for tdmr, of_tdmr in zip(tdmrs, holes, strict=True)
    ]
    ends = [tdmr.end for tdmr in tdmrs]
    for pamt in pamts:
        if pamt.base is None:
            continue
        pamt_end = pamt.base + pamt.size
        i = bisect_right(ends, pamt.base)
        while i < len(tdmrs) and tdmrs[i].start < pamt_end:
            start = max(pamt.base, tdmrs[i].start)
            end = min(pamt_end, tdmrs[i].end)
            areas[i].append(ReservedArea(start - tdmrs[i].start, end - start, AreaKind.PAMT))
            i += 1
    return areas


def first_failure(
    tdmrs: Sequence[Range], areas: Sequence[Sequence[ReservedArea]], limit: int
) -> Failure | None:
    """Where ``tdmr_add_rsvd_area()`` fails first, TDMR by TDMR and area by area.

    It looks at the alignment before it looks at the limit, and says nothing about the former.
    """
    for i, (tdmr, of_tdmr) in enumerate(zip(tdmrs, areas, strict=True)):
        for used, area in enumerate(of_tdmr):
            if (area.offset | area.size) % PAGE:
                return Failure(Outcome.MISALIGNED, i, None)
            if used >= limit:
                message = f"initialization failed: TDMR {show(*tdmr)}: reserved areas exhausted."
                return Failure(Outcome.RESERVED_AREAS, i, message)
    return None
