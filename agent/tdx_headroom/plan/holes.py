# SPDX-License-Identifier: Apache-2.0
"""Holes in TDMRs, as each kernel looks for them (``tdmr_populate_rsvd_holes()``)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tdx_headroom.address import Containment, Range
from tdx_headroom.plan.model import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts.host_facts import MemoryRegion


def holes_of(
    strategy: Strategy,
    tdmrs: Sequence[Range],
    regions: Sequence[MemoryRegion],
    cmrs: Sequence[tuple[int, int]],
) -> list[list[Range]]:
    """The holes of every TDMR, in the order in which the kernel adds them.

    ``cmrs`` are ``(base, size)`` as the module reports them, empty entries included; they matter for the
    CMR strategies only.
    """
    if strategy is Strategy.CMR_WALK:
        return _walk_all(tdmrs, _trimmed(cmrs))
    holes = _walk_all(tdmrs, [Range(r.start, r.end) for r in regions])
    if strategy is Strategy.CMR_SUBREGION:
        # One CMR has to hold the whole hole: this kernel does not join touching CMRs.
        inside = Containment(_trimmed(cmrs))
        return [[hole for hole in of_tdmr if not inside.holds(*hole)] for of_tdmr in holes]
    return holes


def _trimmed(cmrs: Sequence[tuple[int, int]]) -> list[Range]:
    """The CMRs before the first empty entry: kernels that keep the list stop reading it there."""
    ranges = []
    for base, size in cmrs:
        if size == 0:
            break
        ranges.append(Range(base, base + size))
    return ranges


def _walk_all(tdmrs: Sequence[Range], entries: Sequence[Range]) -> list[list[Range]]:
    """Walk the entries for every TDMR.

    The kernel starts at the head of the list for each TDMR. TDMRs ascend, so an entry that ends below one is
    skipped for all that follow too: it is dropped, in whatever order the list is, and the walks are linear
    in the entries and in the TDMRs that each of them reaches.
    """
    found = []
    rest = deque(entries)
    for tdmr in tdmrs:
        reaching = []
        while rest and rest[0].start < tdmr.end:
            entry = rest.popleft()
            if entry.end >= tdmr.start:
                reaching.append(entry)
        found.append(_walk(tdmr, reaching))
        rest.extendleft(entry for entry in reversed(reaching) if entry.end >= tdmr.end)
    return found


def _walk(tdmr: Range, entries: Iterable[Range]) -> list[Range]:
    """The holes that the entries leave in one TDMR."""
    base, limit = tdmr
    holes = []
    prev = base
    for start, end in entries:
        if start >= limit:
            break
        if end < base:
            continue
        # An entry inside its predecessor moves prev backwards, in the kernel too.
        if start > prev:
            holes.append(Range(prev, start))
        prev = end
    if prev < limit:
        holes.append(Range(prev, limit))
    return holes
