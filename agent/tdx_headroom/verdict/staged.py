# SPDX-License-Identifier: Apache-2.0
"""Facts as they will be in a boot with another kernel or command line, and what stays open about it."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.address import subtract
from tdx_headroom.boots.map_risks import MapRisk, argument_risks, placing_arguments, set_aside
from tdx_headroom.boots.memory_map import confirms, nodes_of_boot, simulate
from tdx_headroom.boots.movable import movable_starts
from tdx_headroom.facts.boot_arguments import cpu_limits, map_arguments, passed_over_modules
from tdx_headroom.facts.boots import KvmLoading
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.facts.observations import Platform
from tdx_headroom.facts.sources import PlacementSource
from tdx_headroom.plan.zones import zones_of
from tdx_headroom.verdict.decode import is_persistent
from tdx_headroom.verdict.hibernation_under import PastHibernation, failed_by_hibernation, hibernation_under
from tdx_headroom.verdict.this_boot import (
    NOTHING,
    Shown,
    is_up,
    kvm_is_asked_elsewhere,
    of_other_kernel,
    refuses_again,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.boots import KernelTraits
    from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
    from tdx_headroom.facts.observations import Zone


class MapFrom(StrEnum):
    """Where the memory map of a boot comes from."""

    THIS_BOOT = "this boot"
    SIMULATED = "simulated"
    UNKNOWN = "unknown"
    """Its arguments make another map, and the firmware's, to which they are applied, is not known."""


class Staged(NamedTuple):
    """What is open about a boot that is judged, beside its facts.

    Args:
        running: whether it is the very boot that runs, of which is known what happened.
        map_from: where its memory map comes from.
        reproduced: whether simulating the running boot gives the memory that it has.
        risks: what of its memory map cannot be told.
        cpus: how many CPUs the host has; None: unknown.
        up_with: limits to CPUs with which TDX is up in the running boot.
        firmware_update: the firmware that is staged, after which the memory map is another one.
        kvm_intel_tdx: what modprobe's configuration sets ``kvm_intel.tdx`` to; None: nothing, or unknown.
        modprobe_read: whether that configuration is known.
        kvm_loading: what else it says of KVM.
        kvm_comes: whether KVM was loaded in the running boot although its command line passes it over.
        kvm_asked: whether something beside command line and modprobe turns ``kvm_intel.tdx`` on.
        hibernation_open: whether it is hibernation's being off in this boot that may not hold in that one.
        shown: what its very kernel has done in the running boot.
    """

    running: bool = False
    map_from: MapFrom = MapFrom.THIS_BOOT
    reproduced: bool = True
    risks: tuple[MapRisk, ...] = ()
    cpus: int | None = None
    up_with: tuple[str, ...] = ()
    firmware_update: str | None = None
    kvm_intel_tdx: bool | None = None
    modprobe_read: bool = False
    kvm_loading: KvmLoading = KvmLoading()
    kvm_comes: bool = False
    kvm_asked: bool = False
    hibernation_open: bool = False
    shown: Shown = NOTHING


def as_it_runs(facts: HostFacts) -> Staged:
    """What is open about the running boot, should it come again."""
    boots = facts.boots
    cpus = None if facts.platform is None else facts.platform.cpus
    limits = cpu_limits(facts.command_line or ())
    # Those that are shown may be only what such an argument has left of them.
    limited = any(limit.cpus is None or limit.cpus <= (cpus or 0) for limit in limits)
    return Staged(
        running=True,
        cpus=None if limited else cpus,
        up_with=tuple(limit.argument for limit in limits) if is_up(facts) else (),
        firmware_update=None if boots is None else boots.firmware_update,
        kvm_intel_tdx=None if boots is None else boots.kvm_intel_tdx,
        modprobe_read=boots is not None and boots.modprobe_read,
        kvm_loading=KvmLoading() if boots is None else boots.kvm_loading,
        kvm_comes=_kvm_comes_all_the_same(facts),
        kvm_asked=kvm_is_asked_elsewhere(facts, facts.kernel_release),
    )


def _kvm_comes_all_the_same(facts: HostFacts) -> bool:
    """Whether something loads KVM by its name, of which ``modprobe.blacklist=`` does not keep it."""
    platform = facts.platform
    loaded = platform is not None and platform.kvm_intel_tdx is not None
    return loaded and "kvm_intel" in passed_over_modules(facts.command_line or ())


def facts_under(
    facts: HostFacts,
    release: str | None,
    arguments: tuple[str, ...],
    traits: KernelTraits | None = None,
    shown: Shown = NOTHING,
) -> tuple[HostFacts, Staged]:
    """The facts as they will be in a boot with a kernel and a command line, and what is open about that.

    Args:
        facts: of the host as it runs.
        release: of the kernel.
        arguments: of the command line, those that matter for TDX or memory.
        traits: of the kernel, by its own files; None: those of the running one, if it is that.
        shown: what the running boot has shown of its kernel; it counts only for that one.
    """
    same = release == facts.kernel_release
    traits = traits or (facts.traits if same else None)
    running = shown.past_hibernation
    shown = shown if same and traits == facts.traits else of_other_kernel(shown, facts, release)
    if traits is not None:
        arguments = traits.built_in if traits.overrides else (*traits.built_in, *arguments)
    changed, staged = _with_command_line(facts, arguments)
    past = PastHibernation(running, shown.past_hibernation)
    can = hibernation_under(facts, release, arguments, traits, past)
    off_now = facts.platform is not None and facts.platform.hibernation is False
    staged = staged._replace(
        kvm_asked=kvm_is_asked_elsewhere(facts, release),
        hibernation_open=can is None and off_now,
        shown=shown,
    )
    changed = forget_this_boot(changed, kernel=None if same else release)
    if not same and not (traits is not None and traits.dynamic_pamt):
        changed = _without_dynamic_pamt(changed)
    mended = failed_by_hibernation(changed) or not refuses_again(facts, arguments)
    if mended and changed.kernel_log is not None:
        # Another line or kernel may mend it, of which its own facts tell.
        changed = replace(changed, kernel_log=replace(changed.kernel_log, reason=None))
    platform = changed.platform
    if platform is None and can:
        platform = Platform()
    if platform is not None:
        platform = replace(platform, hibernation=can, command_line=arguments)
    return replace(changed, traits=traits, platform=platform), staged


def movable_zones(regions: Sequence[MemoryRegion], arguments: Sequence[str]) -> tuple[Zone, ...] | None:
    """The zones of a boot with movable memory; None where its command line makes none, or it cannot be told.

    Args:
        regions: memory regions at boot.
        arguments: of the command line.
    """
    starts = movable_starts(regions, arguments)
    return tuple(zones_of(regions, movable=starts)) if starts else None


def _with_command_line(facts: HostFacts, arguments: tuple[str, ...]) -> tuple[HostFacts, Staged]:
    """The facts under another command line.

    The memory map is this boot's where nothing about it differs, and simulated from the firmware's otherwise.

    Args:
        facts: of the host as it runs.
        arguments: those that matter for TDX or memory.
    """
    now = facts.command_line or ()
    staged = as_it_runs(facts)._replace(running=False)
    changed = replace(facts, command_line=arguments)
    new = tuple(argument_risks(arguments))
    # Where this boot's line is unknown, its map may be of any.
    known = facts.command_line is not None or facts.firmware_map is None
    if known and map_arguments(arguments) == map_arguments(now):
        if placing_arguments(arguments) == placing_arguments(now):
            return changed, staged
        moved = replace(
            changed,
            zones=movable_zones(facts.memory_regions or (), arguments),
            hugetlb_bytes=set_aside(arguments),
            placement_source=PlacementSource(),
        )
        return moved, staged._replace(risks=new)
    if facts.firmware_map is None:
        gone = replace(changed, memory_regions=None, zones=None, reserved=None)
        return gone, staged._replace(map_from=MapFrom.UNKNOWN)
    srat = facts.node_ranges
    nodes = nodes_of_boot(facts.memory_regions or (), now, srat=srat)
    found = simulate(facts.firmware_map, arguments, nodes, srat=srat is not None, running=now)
    changed = replace(
        changed,
        memory_regions=found.regions,
        memory_source=None,
        reserved=None,
        zones=movable_zones(found.regions, arguments),
        hugetlb_bytes=set_aside(arguments),
        placement_source=PlacementSource(),
        suspects=(),
    )
    added = () if facts.firmware_map_certain else (MapRisk.HOT_ADDED,)
    return changed, staged._replace(
        map_from=MapFrom.SIMULATED, risks=(*found.risks, *added), reproduced=_reproduced(facts)
    )


def _without_dynamic_pamt(facts: HostFacts) -> HostFacts:
    """The facts without the small PAMT that the running kernel's log tells of."""
    log = facts.kernel_log
    if log is None or not log.dynamic_pamt:
        return facts
    limits = facts.limits._replace(pamt_page_bitmap_entry_bits=None)
    return replace(facts, limits=limits, kernel_log=replace(log, dynamic_pamt=None))


def _reproduced(facts: HostFacts) -> bool:
    """Whether simulating the running boot gives its memory: its EFI map may have had more to say."""
    if facts.firmware_map is None or facts.memory_regions is None:
        return True
    if facts.memory_source is None or not facts.memory_source.exact:
        return True
    late = [(suspect.start, suspect.end) for suspect in facts.suspects if suspect.late]
    at_boot = [
        (start, end, region.node)
        for region in facts.memory_regions
        for start, end in subtract([(region.start, region.end)], late)
    ]
    return confirms(simulate(facts.firmware_map, facts.command_line or (), None), at_boot)


def forget_this_boot(facts: HostFacts, kernel: str | None = None) -> HostFacts:
    """The facts without what happened in this boot, CMRs apart: it says nothing about another one.

    Args:
        facts: of the host as it runs.
        kernel: another kernel to boot.
    """
    changed = facts
    if kernel is not None:
        changed = replace(facts, kernel_release=kernel, traits=None)
    if kernel is not None and changed.platform is not None and not changed.platform.tdx_host_platform:
        # The flag is the present kernel's word: one without INTEL_TDX_HOST never sets it, nor names KeyIDs.
        # That nothing showed TDX stays so.
        log = changed.kernel_log or (KernelReport() if changed.platform.tdx_host_platform is False else None)
        changed = replace(changed, platform=replace(changed.platform, tdx_host_platform=None), kernel_log=log)
    if kernel is not None and changed.log_health is not None:
        changed = replace(changed, log_health=replace(changed.log_health, whole_start=False))
    return replace(changed, kernel_log=_without_outcome(changed))


def _without_outcome(facts: HostFacts) -> KernelReport | None:
    log = facts.kernel_log
    if log is None or log.state in (ModuleState.UNSUPPORTED, ModuleState.UNKNOWN):
        return log
    # A module that is too old, or not there, stays so whatever the memory map.
    lasting = log.state is ModuleState.FAILED and is_persistent(log)
    return KernelReport(
        state=ModuleState.NOT_ATTEMPTED if log.keyids else ModuleState.UNKNOWN,
        reason=log.reason if lasting else None,
        seamcall=log.seamcall if lasting else None,
        keyids=log.keyids,
        module_version=log.module_version,
        module_build=log.module_build,
        cmrs=log.cmrs,
        cmrs_complete=log.cmrs_complete,
        dynamic_pamt=log.dynamic_pamt,
        verified=log.verified,
        bios_version=log.bios_version,
    )
