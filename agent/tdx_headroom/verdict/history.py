# SPDX-License-Identifier: Apache-2.0
"""What differs between boots of one host, and how far what it needs spreads."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import MIB, PAGE, Range, align_down, align_up, union
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.facts.host_facts import MemoryRegion
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.observations import HolesBefore
from tdx_headroom.facts.sources import CmrSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan
    from tdx_headroom.verdict.assessment import Assessment

MARKS = ("kernel", "BIOS", "command line", "memory")
"""What may change beside the holes."""

MEMORY_STEP = 256 * MIB
"""The kernel keeps a little more or less for itself from boot to boot; a DIMM is more."""


def with_plans(record: BootRecord, assessment: Assessment) -> BootRecord:
    """A record of a boot with what its plans tell.

    Args:
        record: made of its facts.
        assessment: of these facts: no what-if.
    """
    areas = [
        StrategyAreas(str(strategy), areas_of(plan))
        for strategy, plan in assessment.plans.items()
        if plan is not None
    ]
    return replace(
        record,
        strategy=str(assessment.verdict.strategy),
        areas=tuple(found for found in areas if found.tdmrs),
    )


def bios_of(facts: HostFacts) -> str | None:
    """The firmware's version: of the DMI table, or else of the log."""
    log, platform = facts.kernel_log, facts.platform
    return (platform and platform.bios_version) or (log and log.bios_version) or None


def of_facts(
    facts: HostFacts,
    known_from: RecordFrom,
    boot_id: str | None = None,
    began: float | None = None,
    bios: str | None = None,
) -> BootRecord:
    """What is kept of a boot, without what a plan tells.

    Args:
        facts: of it.
        known_from: what tells of it.
        boot_id: where its facts do not tell it.
        began: when, where they do not.
        bios: version of the firmware, where they do not.
    """
    log, platform = facts.kernel_log, facts.platform
    own_id = platform.boot_id if platform is not None and platform.boot_id else boot_id
    return BootRecord(
        known_from,
        None if own_id is None else own_id.replace("-", ""),
        began=platform.boot_time if platform is not None and platform.boot_time else began,
        kernel_release=facts.kernel_release,
        arguments=facts.command_line,
        bios_version=bios_of(facts) or bios,
        regions=_regions(facts.memory_regions),
        cmrs=facts.cmrs if facts.cmr_source == CmrSource() else None,
        outcome=ModuleState.UNKNOWN if log is None else log.state,
        errno=None if log is None else log.errno,
        failed_tdmr=None if log is None else log.failed_tdmr,
        pamt_kib=None if log is None else log.pamt_kib,
        verified=log is not None and log.verified,
    )


def areas_of(plan: Plan) -> tuple[Areas, ...]:
    """What each TDMR of a plan needs; behind one that is too full the kernel looks at no other."""
    return tuple(
        Areas(t.base, t.size, t.needed, t.limit, t.needed_holes)
        for t in plan.tdmrs
        if t.needed is not None and t.needed_holes is not None
    )


def _regions(regions: Iterable[MemoryRegion] | None) -> tuple[MemoryRegion, ...] | None:
    if regions is None:
        return None
    return tuple(
        MemoryRegion(start, end, region.node)
        for region in regions
        if (start := max(MIB, align_up(region.start, PAGE))) < (end := align_down(region.end, PAGE))
    )


def tells(record: BootRecord) -> bool:
    """Whether a record says anything about memory or TDX."""
    return record.regions is not None or record.outcome is not ModuleState.UNKNOWN


def merged(records: Iterable[BootRecord]) -> tuple[BootRecord, ...]:
    """The records, one a boot, in the order in which they first come; what has no id is a boot of its own.

    The agent's own record counts most, and what it does not know is taken from the others.
    """
    by_id: dict[object, BootRecord] = {}
    for number, record in enumerate(records):
        key = number if record.boot_id is None else record.boot_id
        known = by_id.get(key)
        by_id[key] = record if known is None else _together(known, record)
    return tuple(by_id.values())


def by_clock(records: Sequence[BootRecord]) -> tuple[BootRecord, ...]:
    """In the order in which they began; in their own where that is not known of each."""
    if any(record.began is None for record in records):
        return tuple(records)
    return tuple(sorted(records, key=lambda record: record.began or 0.0))


def _together(one: BootRecord, other: BootRecord) -> BootRecord:
    """What two sources tell of one boot."""
    better, worse = (other, one) if _rank(other) > _rank(one) else (one, other)
    filled = {
        f.name: getattr(worse, f.name) for f in fields(BootRecord) if getattr(better, f.name) in (None, ())
    }
    if better.outcome is ModuleState.UNKNOWN:
        filled |= {name: getattr(worse, name) for name in ("outcome", "errno", "failed_tdmr", "pamt_kib")}
    return replace(better, **filled)


def _rank(record: BootRecord) -> tuple[bool, bool]:
    return record.known_from is RecordFrom.AGENT, record.regions is not None


class HoleChange(NamedTuple):
    """One hole in two boots.

    Args:
        before, after: where it was and is; None: it came, or went.
    """

    before: Range | None
    after: Range | None


class BootChange(NamedTuple):
    """What is different in a boot from an earlier one.

    Args:
        kernel: whether the kernel is another one; None of these: unknown in one of the two.
        bios: whether the firmware is.
        line: whether what matters of the command line is.
        memory: bytes more or, below 0, fewer; 0 where it is too little for a DIMM.
        holes: that came, went, grew or shrank, by address.
        areas: how many more, or fewer, the fullest TDMR needs under the later kernel's strategy.
    """

    kernel: bool | None
    bios: bool | None
    line: bool | None
    memory: int | None
    holes: tuple[HoleChange, ...] | None
    areas: int | None

    @property
    def marks(self) -> tuple[str, ...]:
        """What changed beside the holes, a word each."""
        what = zip(MARKS, (self.kernel, self.bios, self.line, self.memory), strict=True)
        return tuple(name for name, changed in what if changed)


class Setting(NamedTuple):
    """What is different beside the holes; the fields are those of :class:`BootChange`."""

    kernel: bool | None
    bios: bool | None
    line: bool | None
    memory: int | None


def beside(before: BootRecord, after: BootRecord) -> Setting:
    """What is different in a boot from one before it, without a look at holes: there may be many."""
    memory = None if None in (before.memory, after.memory) else (after.memory or 0) - (before.memory or 0)
    return Setting(
        kernel=_differ(before.kernel_release, after.kernel_release),
        bios=_differ(before.bios_version, after.bios_version),
        line=_differ(before.arguments, after.arguments),
        memory=0 if memory is not None and abs(memory) < MEMORY_STEP else memory,
    )


def between(before: BootRecord, after: BootRecord) -> BootChange:
    """What is different in a boot from one before it."""
    old, new = before.of(after.strategy), after.fullest
    return BootChange(
        *beside(before, after),
        holes=_holes_changed(before.regions, after.regions),
        areas=None if old is None or new is None else new.needed - old.needed,
    )


def _differ(one: object, other: object) -> bool | None:
    return None if one is None or other is None else one != other


def holes_of(regions: Sequence[MemoryRegion]) -> list[Range]:
    """What lies between memory regions; a border between nodes is none."""
    memory = union((r.start, r.end) for r in regions)
    return [Range(one.end, other.start) for one, other in pairwise(memory)]


def _holes_changed(
    before: Sequence[MemoryRegion] | None, after: Sequence[MemoryRegion] | None
) -> tuple[HoleChange, ...] | None:
    if before is None or after is None:
        return None
    old, new = holes_of(before), holes_of(after)
    same = {*old} & {*new}
    old, new = [hole for hole in old if hole not in same], [hole for hole in new if hole not in same]
    found = []
    at = 0  # in the old ones, which are sorted and disjoint as the new ones are: each is passed once
    for hole in new:
        while at < len(old) and old[at].end <= hole.start:
            found.append(HoleChange(old[at], None))
            at += 1
        # A hole that swallows several is the first of them, grown; the others went.
        if at < len(old) and old[at].start < hole.end:
            found.append(HoleChange(old[at], hole))
            at += 1
        else:
            found.append(HoleChange(None, hole))
    found += [HoleChange(hole, None) for hole in old[at:]]
    return tuple(sorted(found, key=lambda c: c.after or c.before or Range(0, 0)))


class Spread(NamedTuple):
    """How many areas a TDMR has needed, in boots that are alike.

    Only its holes are counted in each: where PAMTs lie is expected, and what it is expected from differs. The
    present boot's are added.

    Args:
        boots: how many there are.
        least, most: areas needed.
        limit: of the module.
        base, size: of the TDMR, in bytes.
    """

    boots: int
    least: int
    most: int
    limit: int
    base: int
    size: int

    @property
    def next_does_not_fit(self) -> bool:
        """Whether one more step does not fit, as large as that from the least to the most."""
        return self.most > self.least and self.most_after_a_step > self.limit

    @property
    def most_after_a_step(self) -> int:
        """The most, and the difference to the least once more."""
        return 2 * self.most - self.least


def spread(records: Sequence[BootRecord]) -> Spread | None:
    """How far the need spreads under the present firmware, kernel, command line and memory.

    Args:
        records: the newest last; that is the present boot.
    """
    if not records:
        return None
    present = records[-1]
    own = next((areas.tdmrs for areas in present.areas if areas.strategy == present.strategy), ())
    return spread_of(own, holes_before(records[:-1], present), present.strategy)


def spread_of(now: Iterable[Areas], before: Iterable[HolesBefore], strategy: str | None) -> Spread | None:
    """That of the TDMR which comes nearest to its limit after one more step; as :func:`spreads_of`."""
    return max(spreads_of(now, before, strategy), key=lambda s: s.most_after_a_step - s.limit, default=None)


def spreads_of(now: Iterable[Areas], before: Iterable[HolesBefore], strategy: str | None) -> list[Spread]:
    """How far the need of each TDMR spreads, by address.

    Args:
        now: what the TDMRs of the present boot need.
        before: what they have needed.
        strategy: that counts.
    """
    earlier = {(h.base, h.size): h for h in before if h.strategy == strategy}
    found = []
    for areas in now:
        pamts = areas.needed - areas.holes
        known = earlier.get((areas.base, areas.size))
        holes = [areas.holes] if known is None else [areas.holes, known.least, known.most]
        boots = 1 if known is None else known.boots + 1
        least, most = min(holes) + pamts, max(holes) + pamts
        found.append(Spread(boots, least, most, areas.limit, areas.base, areas.size))
    return found


def holes_before(records: Iterable[BootRecord], present: BootRecord) -> tuple[HolesBefore, ...]:
    """How many holes each TDMR has had in the boots that are like the present one."""
    counted: dict[tuple[str, int, int], list[int]] = {}
    for record in records:
        if _alike(record, present):
            for areas in record.areas:
                for tdmr in areas.tdmrs:
                    counted.setdefault((areas.strategy, tdmr.base, tdmr.size), []).append(tdmr.holes)
    return tuple(HolesBefore(*key, len(holes), min(holes), max(holes)) for key, holes in counted.items())


def headroom_range(records: Iterable[BootRecord]) -> tuple[tuple[str, int, int], ...]:
    """For each strategy the areas left in the fullest TDMR, in the boots with the fewest and the most."""
    left: dict[str, list[int]] = {}
    for record in records:
        for areas in record.areas:
            if areas.fullest is not None:
                left.setdefault(areas.strategy, []).append(areas.fullest.left)
    return tuple((strategy, min(found), max(found)) for strategy, found in left.items())


def _alike(record: BootRecord, present: BootRecord) -> bool:
    """Whether nothing is known to be different but the map; what is unknown is not alike."""
    found = beside(record, present)
    same = (found.kernel, found.line, found.memory)
    return all(part is not None and not part for part in same) and record.bios_version == present.bios_version
