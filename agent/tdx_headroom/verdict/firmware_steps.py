# SPDX-License-Identifier: Apache-2.0
"""What updates of its firmware have cost a host, by the boots before and after."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.verdict.history import beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts.boot_record import BootRecord


class Need(NamedTuple):
    """How many areas the fullest TDMR has needed in several boots.

    Args:
        boots: how many.
        least, median, most: areas; of two in the middle the lower one.
    """

    boots: int
    least: int
    median: int
    most: int


class FirmwareStep(NamedTuple):
    """One change of the firmware's version.

    Args:
        before, after: the versions.
        need_before, need_after: in boots that differ in nothing else that is known to matter.
        began: when the first boot with the newer version began, in seconds since the epoch; None: unknown.
    """

    before: str
    after: str
    need_before: Need
    need_after: Need
    began: float | None = None

    @property
    def areas(self) -> int:
        """How many more areas are needed; below 0: fewer."""
        return self.need_after.median - self.need_before.median

    @property
    def took(self) -> int:
        """How many more every boot since has needed than any before; 0 where the boots before explain it."""
        return max(0, self.need_after.least - self.need_before.most)


def need_of(needed: Sequence[int]) -> Need:
    """The need in boots of which each needed so many areas.

    Args:
        needed: at least one.
    """
    ordered = sorted(needed)
    return Need(len(ordered), ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1])


def firmware_steps(records: Iterable[BootRecord]) -> tuple[FirmwareStep, ...]:
    """The changes of the firmware's version, the oldest first.

    A step is left out where no boot before it had the command line and the memory of one after it. Kernels
    may differ: the areas of all these boots are those under the strategy of the newest. A boot whose version
    is unknown belongs to neither side.

    Args:
        records: of one host, the oldest first.
    """
    steps = (_step(before, after) for before, after in pairwise(_runs(records)))
    return tuple(step for step in steps if step is not None)


def newest_firmware_step(records: Iterable[BootRecord]) -> FirmwareStep | None:
    """The change to the present version; None where there is none, or it has no figures.

    Args:
        records: of one host, the oldest first.
    """
    runs = _runs(records)[-2:]
    return _step(*runs) if len(runs) == 2 else None


def _runs(records: Iterable[BootRecord]) -> list[list[BootRecord]]:
    """Boots in a row with the same version; what is unknown belongs to none."""
    known = [record for record in records if record.bios_version is not None]
    return [list(run) for _, run in groupby(known, key=lambda record: record.bios_version)]


def _step(before: Sequence[BootRecord], after: Sequence[BootRecord]) -> FirmwareStep | None:
    tried = set()
    for newest in reversed(after):
        # Boots that agree in these are alike to all others in the same way.
        model = newest.arguments, newest.memory, newest.strategy
        if model in tried:
            continue
        tried.add(model)
        old = _needed_like(before, newest)
        new = _needed_like(after, newest)
        if old and new:
            versions = (before[-1].bios_version or "", newest.bios_version or "")
            return FirmwareStep(*versions, need_of(old), need_of(new), after[0].began)
    return None


def _needed_like(records: Iterable[BootRecord], model: BootRecord) -> list[int]:
    """What boots with the model's command line and memory need under its strategy."""
    found = []
    for record in records:
        change = beside(record, model)
        fullest = record.of(model.strategy)
        if change.line is False and change.memory == 0 and fullest is not None:
            found.append(fullest.needed)
    return found
