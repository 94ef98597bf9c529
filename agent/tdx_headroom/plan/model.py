# SPDX-License-Identifier: Apache-2.0
"""What a plan consists of. Sizes and addresses are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import Placement


class Strategy(StrEnum):
    """How a kernel looks for holes in a TDMR (``tdmr_populate_rsvd_holes()``)."""

    MEMORY_REGIONS = "memory-regions"
    """What no memory region covers. All of mainline, 6.8 to 7.3."""
    CMR_SUBREGION = "cmr-subregion"
    """The same, but a hole that lies inside one CMR is left out (patch of June 2024)."""
    CMR_WALK = "cmr-walk"
    """What no CMR covers (patches of July 2024 and later)."""

    @property
    def needs_cmrs(self) -> bool:
        """Whether this strategy cannot be planned without the CMRs."""
        return self is not Strategy.MEMORY_REGIONS


class AreaKind(StrEnum):
    """Why an area is reserved."""

    HOLE = "hole"
    PAMT = "pamt"


class ReservedArea(NamedTuple):
    """One reserved area, by its offset from the TDMR's base."""

    offset: int
    size: int
    kind: AreaKind


class Pamt(NamedTuple):
    """The PAMT of one TDMR: one block, laid out 4K, 2M, 1G part.

    ``base`` is None when the block is taken to lie outside every TDMR; sizes are 0 when the kernel gave
    up before it set up PAMTs.
    """

    base: int | None
    size_4k: int
    size_2m: int
    size_1g: int

    @property
    def size(self) -> int:
        """Bytes of the whole block."""
        return self.size_4k + self.size_2m + self.size_1g


NO_PAMT = Pamt(None, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Tdmr:
    """One TD Memory Region with all the reserved areas that it needs, past the limit too.

    ``needed*`` are None, and ``reserved_areas`` empty, when the kernel gives up before it looks for
    holes; ``node`` is None then, and where no source tells the memory's node. ``needed_worst`` counts every
    PAMT that could land in this TDMR, where ``needed`` counts those that are predicted or given to.
    """

    base: int
    size: int
    limit: int
    node: int | None = None
    pamt: Pamt = NO_PAMT
    reserved_areas: tuple[ReservedArea, ...] = ()
    needed_holes: int | None = None
    needed_pamts: int | None = None
    needed_worst: int | None = None

    @property
    def end(self) -> int:
        """First address after the TDMR."""
        return self.base + self.size

    @property
    def needed(self) -> int | None:
        """Reserved areas of both kinds."""
        if self.needed_holes is None or self.needed_pamts is None:
            return None
        return self.needed_holes + self.needed_pamts

    @property
    def headroom(self) -> int | None:
        """Areas left over; negative: the TDX initialisation fails here."""
        needed = self.needed
        return None if needed is None else self.limit - needed

    @property
    def headroom_worst(self) -> int | None:
        """Areas left over when every PAMT that could land here does."""
        return None if self.needed_worst is None else self.limit - self.needed_worst


class Outcome(StrEnum):
    """How an initialisation under a plan ends, by the kernel's and the module's checks."""

    OK = "ok"
    RESERVED_AREAS = "reserved-areas-exhausted"
    TDMRS = "tdmrs-exhausted"
    NO_MEMORY = "no-memory"
    MISALIGNED = "misaligned-area"
    REJECTED = "rejected-by-module"

    @property
    def errno(self) -> int:
        """What the kernel's construction of TDMRs returns; what the module rejects was constructed."""
        return _ERRNOS.get(self, 0)


_ERRNOS = {
    Outcome.RESERVED_AREAS: -28,
    Outcome.TDMRS: -28,
    Outcome.NO_MEMORY: -12,
    Outcome.MISALIGNED: -22,
}


class ModuleStatus(StrEnum):
    """What TDH.SYS.CONFIG returns for a plan."""

    SUCCESS = "TDX_SUCCESS"
    INVALID_TDMR = "TDX_INVALID_TDMR"
    NON_ORDERED_TDMR = "TDX_NON_ORDERED_TDMR"
    TDMR_OUTSIDE_CMRS = "TDX_TDMR_OUTSIDE_CMRS"
    INVALID_PAMT = "TDX_INVALID_PAMT"
    PAMT_OUTSIDE_CMRS = "TDX_PAMT_OUTSIDE_CMRS"
    PAMT_OVERLAP = "TDX_PAMT_OVERLAP"
    INVALID_RESERVED_IN_TDMR = "TDX_INVALID_RESERVED_IN_TDMR"
    NON_ORDERED_RESERVED_IN_TDMR = "TDX_NON_ORDERED_RESERVED_IN_TDMR"


class ModuleVerdict(NamedTuple):
    """The TDX module's answer: its status and the index of the TDMR that it names, if any."""

    status: ModuleStatus
    tdmr: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one hole strategy makes of one host.

    ``outcome`` is that of no memory also when there is no room for a predicted PAMT.
    ``messages`` are the kernel's lines without their prefix, in print order.
    ``failed_tdmr`` is the index of the TDMR whose reserved areas ran out. ``module`` is None when the
    kernel itself gives up or the CMRs are unknown; ``not_convertible_bytes`` when the CMRs are unknown.
    ``placement`` tells where the PAMTs' places come from.
    """

    strategy: Strategy
    outcome: Outcome
    messages: tuple[str, ...]
    failed_tdmr: int | None
    tdmrs_needed: int
    tdmrs: tuple[Tdmr, ...]
    module: ModuleVerdict | None
    not_convertible_bytes: int | None
    placement: Placement

    @property
    def errno(self) -> int:
        """0, or the negative errno with which the kernel gives up."""
        return self.outcome.errno

    @property
    def pamt_kib(self) -> int | None:
        """What the kernel prints as ``KB allocated for PAMT``; None unless the plan succeeds."""
        return self.pamt_bytes // 1024 if self.errno == 0 else None

    @property
    def pamt_bytes(self) -> int:
        """Bytes of all PAMTs."""
        return sum(tdmr.pamt.size for tdmr in self.tdmrs)

    @property
    def headroom(self) -> int | None:
        """Headroom of the worst TDMR; None when the kernel gives up before it looks for holes."""
        known = [tdmr.headroom for tdmr in self.tdmrs if tdmr.headroom is not None]
        return min(known) if known else None

    @property
    def headroom_worst(self) -> int | None:
        """Headroom of the worst TDMR when every PAMT that could land in it does."""
        known = [tdmr.headroom_worst for tdmr in self.tdmrs if tdmr.headroom_worst is not None]
        return min(known) if known else None
