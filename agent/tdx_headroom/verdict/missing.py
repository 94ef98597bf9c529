# SPDX-License-Identifier: Apache-2.0
"""What would make the answer surer, each with the command that tells it on the host itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.sources import RESERVED, MemorySource
from tdx_headroom.verdict.contradictions import UNFORGEABLE, contradictions_of
from tdx_headroom.verdict.kernels import look_up
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

EVERYTHING = "All of it at once, for others to look at: `sudo tdx-headroom capture -o host.tar.gz`"
_BOOT_LOG = "`journalctl -k -b`"


def missing(facts: HostFacts, plan: Plan | None, state: State) -> list[str]:
    """What no source tells and matters here; nothing for facts that were given without their sources."""
    if not facts.sources or state is State.NOT_TDX:
        return []
    found = [*_log(facts), *_memory(facts), *_cmrs(facts), *_placement(facts, plan), *_platform(facts)]
    return [*found, EVERYTHING] if found else []


def _log(facts: HostFacts) -> Iterator[str]:
    if contradictions_of(facts):
        yield UNFORGEABLE


def _memory(facts: HostFacts) -> Iterator[str]:
    failed = {source.source: source.error for source in facts.sources if not source.ok}
    if facts.memory_regions is None:
        cut = [failed[name] for name in MemorySource if name.from_log and failed.get(name)]
        why = f" ({'; '.join(text for text in cut if text)})" if cut else ""
        yield (
            f"The memory map{why}: the log from its beginning, {_BOOT_LOG}, or `sudo cat /proc/iomem`, or"
            " `grep . /sys/firmware/memmap/*/*`"
        )
        return
    if facts.memory_source is not None and not facts.memory_source.kernels_own:
        yield (
            f"The kernel's own memory regions, in place of {facts.memory_source}:"
            " `sudo cat /sys/kernel/debug/memblock/memory`"
        )
    if not facts.nodes_known:
        yield f"Which memory belongs to which NUMA node: the log from its beginning, {_BOOT_LOG}"


def _cmrs(facts: HostFacts) -> Iterator[str]:
    row = look_up(facts.kernel_release)
    if facts.cmrs is None and (row is None or row.prints_cmrs):
        whether = "" if row is not None else ", if this kernel prints them"
        yield f"The CMRs{whether}: the log since TDX was initialized, {_BOOT_LOG}"
    if facts.kernel_release is None:
        yield "Which kernel it is: `uname -r`"


def _placement(facts: HostFacts, plan: Plan | None) -> Iterator[str]:
    """Only where it matters where PAMTs land."""
    if plan is None or plan.headroom is None or plan.headroom == plan.headroom_worst:
        return
    files = []
    if not facts.zones:
        files.append("`cat /proc/zoneinfo`")
    if facts.placement_source is None or facts.placement_source.reserved != RESERVED:
        files.append("`sudo cat /sys/kernel/debug/memblock/reserved`")
    if files:
        yield f"Where PAMTs can land: {', '.join(files)}"


def _platform(facts: HostFacts) -> Iterator[str]:
    if facts.platform is None:
        yield (
            "CPU flags, whether the kernel can hibernate, and kvm_intel.tdx:"
            " `cat /proc/cpuinfo /sys/power/disk /sys/module/kvm_intel/parameters/tdx`"
        )
