# SPDX-License-Identifier: Apache-2.0
"""What would make the answer surer, each with the command that tells it on the host itself."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tdx_headroom.facts.sources import RESERVED, MemorySource
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.kernels import look_up
from tdx_headroom.verdict.obstacles.contradictions import UNFORGEABLE, contradicts_hardware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.plan import Plan

KINDS = (
    "log-forgeable",
    "memory-map-unknown",
    "memory-map-second-hand",
    "nodes-unknown",
    "cmrs-unknown",
    "kernel-unknown",
    "pamt-places-unknown",
    "platform-unknown",
)
EVERYTHING = "All of it at once, for others to look at: `sudo tdx-headroom capture -o host.tar.gz`"
_BOOT_LOG = "`journalctl -k -b`"


def look(signs: Signs) -> Findings:
    """What no source tells and matters here; nothing for facts that were given without their sources."""
    facts, plan = signs.facts, signs.plan
    if facts.sources:
        given = (_log(facts), _memory(facts), _cmrs(facts), _placement(facts, plan), _platform(facts))
        for kind, text in chain(*given):
            yield Finding(kind, NOTE, text)


def _log(facts: HostFacts) -> Iterator[tuple[str, str]]:
    if (facts.kernel_log is not None and facts.kernel_log.contradictions) or contradicts_hardware(facts):
        yield "log-forgeable", UNFORGEABLE


def _memory(facts: HostFacts) -> Iterator[tuple[str, str]]:
    failed = {source.source: source.error for source in facts.sources if not source.ok}
    if facts.memory_regions is None:
        cut = [failed[name] for name in MemorySource if name.from_log and failed.get(name)]
        why = f" ({'; '.join(text for text in cut if text)})" if cut else ""
        elsewhere = "`sudo cat /proc/iomem`, or `grep . /sys/firmware/memmap/*/*`"
        text = f"The memory map{why}: the log from its beginning, {_BOOT_LOG}, or {elsewhere}"
        yield "memory-map-unknown", text
        return
    if facts.memory_source is not None and not facts.memory_source.kernels_own:
        where = "`sudo cat /sys/kernel/debug/memblock/memory`"
        text = f"The kernel's own memory regions, in place of {facts.memory_source}: {where}"
        yield "memory-map-second-hand", text
    if not facts.nodes_known:
        text = f"Which memory belongs to which NUMA node: the log from its beginning, {_BOOT_LOG}"
        yield "nodes-unknown", text


def _cmrs(facts: HostFacts) -> Iterator[tuple[str, str]]:
    row = look_up(facts.kernel_release)
    if facts.cmrs is None and (row is None or row.prints_cmrs):
        whether = "" if row is not None else ", if this kernel prints them"
        yield "cmrs-unknown", f"The CMRs{whether}: the log since TDX was initialized, {_BOOT_LOG}"
    if facts.kernel_release is None:
        yield "kernel-unknown", "Which kernel it is: `uname -r`"


def _placement(facts: HostFacts, plan: Plan | None) -> Iterator[tuple[str, str]]:
    """Only where it matters where PAMTs land."""
    if plan is None or plan.headroom is None or plan.headroom == plan.headroom_worst:
        return
    files = []
    if not facts.zones:
        files.append("`cat /proc/zoneinfo`")
    if facts.placement_source is None or facts.placement_source.reserved != RESERVED:
        files.append("`sudo cat /sys/kernel/debug/memblock/reserved`")
    if files:
        yield "pamt-places-unknown", f"Where PAMTs can land: {', '.join(files)}"


def _platform(facts: HostFacts) -> Iterator[tuple[str, str]]:
    if facts.platform is None:
        files = "/proc/cpuinfo /sys/power/disk /sys/module/kvm_intel/parameters/tdx"
        text = f"CPU flags, whether the kernel can hibernate, and kvm_intel.tdx: `cat {files}`"
        yield "platform-unknown", text
