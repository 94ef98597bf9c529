# SPDX-License-Identifier: Apache-2.0
"""What is kept of a boot: all that decided about TDX in it, and what became of it; values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tdx_headroom.address import Range, total
from tdx_headroom.facts.host_facts import MemoryRegion  # noqa: TC001  the codec reads the annotation
from tdx_headroom.facts.kernel_report import ModuleState


class RecordFrom(StrEnum):
    """What tells of a boot."""

    AGENT = "agent"
    """This agent ran in it."""
    JOURNAL = "journal"
    LOG = "log"
    """A log that somebody gave, or a captured host."""


class Areas(NamedTuple):
    """Reserved areas of one TDMR, as planned: with the PAMTs where they are expected.

    Args:
        base, size: of the TDMR, in bytes.
        needed: how many it takes.
        limit: how many the module allows.
        holes: how many of them are holes; the others are PAMTs, whose places are only expected.
    """

    base: int
    size: int
    needed: int
    limit: int
    holes: int

    @property
    def left(self) -> int:
        """How many are left; below 0 it is too full."""
        return self.limit - self.needed


@dataclass(frozen=True, slots=True)
class StrategyAreas:
    """The TDMRs of one strategy.

    Args:
        strategy: how the kernel looks for holes.
        tdmrs: in address order.
    """

    strategy: str
    tdmrs: tuple[Areas, ...]

    @property
    def fullest(self) -> Areas | None:
        """The TDMR with the fewest areas left, the lowest of several."""
        return min(self.tdmrs, key=lambda tdmr: tdmr.left, default=None)


@dataclass(frozen=True, slots=True)
class BootRecord:
    """One boot. Unknown is None, never empty or zero.

    Args:
        known_from: what tells of it.
        boot_id: the kernel's id of it, without dashes.
        began: when, in seconds since the epoch, by the clock that the machine had.
        kernel_release: ``uname -r``.
        arguments: of the command line, those that matter for TDX or memory.
        bios_version: of the DMI table.
        regions: memory regions, in whole pages from 1 MiB on.
        cmrs: ``(base, size)``, where the log shows the whole list.
        strategy: that of its kernel.
        areas: what each strategy needs.
        outcome: how far TDX got.
        errno: of the failure, where the log proves it.
        failed_tdmr: whose reserved areas ran out.
        pamt_kib: KiB that the kernel allocated for PAMTs.
        verified: whether all of this is from records that only the kernel can write.
    """

    known_from: RecordFrom
    boot_id: str | None = None
    began: float | None = None
    kernel_release: str | None = None
    arguments: tuple[str, ...] | None = None
    bios_version: str | None = None
    regions: tuple[MemoryRegion, ...] | None = None
    cmrs: tuple[tuple[int, int], ...] | None = None
    strategy: str | None = None
    areas: tuple[StrategyAreas, ...] = ()
    outcome: ModuleState = ModuleState.UNKNOWN
    errno: int | None = None
    failed_tdmr: Range | None = None
    pamt_kib: int | None = None
    verified: bool = False

    @property
    def memory(self) -> int | None:
        """Bytes of memory."""
        return None if self.regions is None else total((r.start, r.end) for r in self.regions)

    def of(self, strategy: str | None) -> Areas | None:
        """The fullest TDMR under a strategy; None where that is unknown."""
        return next((areas.fullest for areas in self.areas if areas.strategy == strategy), None)

    @property
    def fullest(self) -> Areas | None:
        """The fullest TDMR under its own kernel's strategy; None where that is unknown."""
        return self.of(self.strategy)
