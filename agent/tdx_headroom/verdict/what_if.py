# SPDX-License-Identifier: Apache-2.0
"""What-if: facts as they would be after a change that an operator wants to try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdx_headroom.address import Range, intersect, subtract
from tdx_headroom.facts.command_line import map_edits
from tdx_headroom.facts.host_facts import FactsError, MemoryRegion
from tdx_headroom.facts.node_map import NodeMap
from tdx_headroom.facts.observations import NodeRange
from tdx_headroom.facts.sources import MemorySource
from tdx_headroom.sources.firmware_memmap import firmware_ram
from tdx_headroom.verdict.staged import facts_under, forget_this_boot
from tdx_headroom.verdict.this_boot import NOTHING, shown_by

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import KernelTraits
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Strategy
    from tdx_headroom.verdict.staged import Staged
    from tdx_headroom.verdict.this_boot import Shown


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Changes to try.

    Args:
        strategy: the hole strategy to assume for this kernel.
        kernel: another kernel release.
        command_line: another command line: the arguments of it that matter for TDX or memory.
        max_reserved, max_tdmrs: other limits of the TDX module.
        dynamic_pamt: whether to take the 4K PAMT to be a bitmap of one bit a page.
        holes: memory ranges to take away.
        without_memmap: whether to use the firmware's own map instead of what ``memmap=`` made of it.
    """

    strategy: Strategy | None = None
    kernel: str | None = None
    command_line: tuple[str, ...] | None = None
    max_reserved: int | None = None
    max_tdmrs: int | None = None
    dynamic_pamt: bool = False
    holes: tuple[Range, ...] = ()
    without_memmap: bool = False

    @property
    def changes_host(self) -> bool:
        """Whether anything but the operator's word on the strategy differs from the host as it is."""
        return replace(self, strategy=None) != UNCHANGED

    @property
    def changes_boot(self) -> bool:
        """Whether more than kernel and command line differ, so that this boot is no example of it."""
        return replace(self, kernel=None, command_line=None).changes_host


UNCHANGED = WhatIf()


def apply(what_if: WhatIf, facts: HostFacts) -> tuple[HostFacts, Staged | None]:
    """The facts after the changes, and what is open about a boot with another command line, if one is given.

    Raises:
        FactsError: a change makes no sense for these facts.
    """
    if what_if == UNCHANGED:
        return facts, None
    changed = facts
    staged = None
    if what_if.command_line is not None:
        release = what_if.kernel or facts.kernel_release
        shown = NOTHING if what_if.changes_boot else shown_by(facts)
        changed, staged = facts_under(
            changed, release, what_if.command_line, traits_of(facts, release), shown
        )
    elif what_if.changes_host:
        changed = forget_this_boot(changed, what_if.kernel)
    changed = _with_limits(what_if, changed)
    if what_if.without_memmap:
        changed = _without_memmap(changed)
    if what_if.holes:
        changed = _with_holes(changed, what_if.holes)
    return changed, staged


def facts_of_entry(
    what_if: WhatIf,
    facts: HostFacts,
    release: str | None,
    arguments: tuple[str, ...],
    traits: KernelTraits | None,
    shown: Shown,
) -> tuple[HostFacts, Staged]:
    """The facts of a boot entry after the changes, as far as they are about it, and what is open about it.

    The arguments are those of :func:`~.staged.facts_under`.
    """
    if what_if.without_memmap:
        arguments = tuple(argument for argument in arguments if not map_edits([argument]))
    changed, staged = facts_under(facts, release, arguments, traits, shown)
    changed = _with_limits(what_if, changed)
    known = what_if.holes and changed.memory_regions is not None
    return (_with_holes(changed, what_if.holes) if known else changed), staged


def without_effect(what_if: WhatIf, facts: HostFacts) -> tuple[Range, ...]:
    """The holes to try where there is no memory to take away, by the memory of this boot."""
    memory = [(region.start, region.end) for region in facts.memory_regions or ()]
    return tuple(hole for hole in what_if.holes if memory and not intersect(memory, [hole]))


def traits_of(facts: HostFacts, release: str | None) -> KernelTraits | None:
    """What is known of a kernel by its own files, if the host has them."""
    entries = () if facts.boots is None else facts.boots.entries
    return next((e.traits for e in entries if e.release == release and e.traits is not None), None)


def _with_limits(what_if: WhatIf, facts: HostFacts) -> HostFacts:
    """Other limits of the TDX module."""
    limits = facts.limits
    if what_if.max_reserved is not None:
        limits = limits._replace(max_reserved_per_tdmr=what_if.max_reserved)
    if what_if.max_tdmrs is not None:
        limits = limits._replace(max_tdmrs=what_if.max_tdmrs)
    if what_if.dynamic_pamt:
        limits = limits._replace(pamt_page_bitmap_entry_bits=1)
    return replace(facts, limits=limits)


def _without_memmap(facts: HostFacts) -> HostFacts:
    """Memory as the firmware gives it; nodes as the present regions have them."""
    if facts.firmware_map is None:
        raise FactsError("--without-memmap needs the firmware's memory map, which no source tells")
    if not map_edits(facts.command_line or ()):
        raise FactsError("--without-memmap: there is no memmap= or mem= on this host's command line")
    ram = firmware_ram(facts.firmware_map)
    if not ram:
        raise FactsError("--without-memmap: there is no System RAM in the firmware's memory map")
    known = [r for r in facts.memory_regions or () if r.node is not None]
    spans: list[NodeRange] = []
    for i, region in enumerate(known):
        # A gap in the present map belongs to the node below it: memmap= punched it out of that node.
        end = known[i + 1].start if i + 1 < len(known) else ram[-1].end
        spans.append(NodeRange(region.start, max(end, region.end), region.node or 0))
    source = MemorySource.FIRMWARE_MEMMAP
    regions = NodeMap(source, spans).split(ram)
    return replace(facts, memory_regions=tuple(regions), memory_source=source, zones=None)


def _with_holes(facts: HostFacts, holes: tuple[Range, ...]) -> HostFacts:
    if facts.memory_regions is None:
        raise FactsError("--add-hole: the memory regions are unknown")
    pieces = [
        MemoryRegion(piece.start, piece.end, region.node)
        for region in facts.memory_regions
        for piece in subtract([(region.start, region.end)], holes)
    ]
    return replace(facts, memory_regions=tuple(pieces))
