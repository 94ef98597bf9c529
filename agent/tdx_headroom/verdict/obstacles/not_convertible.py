# SPDX-License-Identifier: Apache-2.0
"""Memory outside every CMR: as the CMRs say or, where they are unknown, most likely by what it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tdx_headroom.address import intersect, show_size, total
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.observations import Origin
from tdx_headroom.plan import Outcome
from tdx_headroom.verdict.findings import NOTE, RISK, Certainty, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.remedies import keep_apart, keep_off, refused_regions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.address import Range
    from tdx_headroom.facts.host_facts import HostFacts

BY_NAME = "unlikely-convertible"
SEVERAL = "in-no-single-cmr"
_SPECIAL = "efi=nosoftreserve"
_WHAT = {
    Origin.KMEM: "that the driver kmem has added",
    Origin.VIRTIO_MEM: "that the driver virtio_mem has added",
    Origin.DRIVER: "that a driver has added",
    Origin.SOFT_RESERVED: "that the firmware calls Soft Reserved",
    Origin.PERSISTENT: "of persistent memory",
    Origin.HOTPLUG: "where the firmware (SRAT) has memory hot-plugged",
    Origin.ADDED: "that were added since the boot",
    Origin.NO_CPU: "in a NUMA node that has no CPU",
}
_NOT_ENOUGH = "memhp_default_state=offline is not enough: the kernel lists for TDX whatever is added"
_BLACKLIST = "modprobe.blacklist={} on the kernel's command line"
_NO_KMEM = _BLACKLIST.format("kmem")
_DEVDAX = "`daxctl reconfigure-device --mode=devdax --force`"
_MEMMAP = "or keep the kernel off it with memmap="
_REMEDIES = {
    Origin.KMEM: f"Keep kmem from adding memory before TDX is up: {_NO_KMEM}, or {_DEVDAX} for each device;"
    f" {_NOT_ENOUGH}.",
    Origin.VIRTIO_MEM: "Have virtio-mem add nothing before TDX is up:"
    f" {_BLACKLIST.format('virtio_mem')}, or a requested size of 0 in the hypervisor; {_NOT_ENOUGH}.",
    Origin.DRIVER: "Keep that driver from adding memory before TDX is up:"
    f" {_BLACKLIST.format('DRIVER')}, which `grep 'System RAM (' /proc/iomem` names; {_NOT_ENOUGH}.",
    Origin.SOFT_RESERVED: f"Leave Soft Reserved memory to its devices: {_DEVDAX}, {_NO_KMEM}, and no memmap="
    " that makes RAM of it.",
    Origin.PERSISTENT: f"Leave persistent memory a device: {_DEVDAX}, {_NO_KMEM}, and no memmap= that makes"
    " RAM of it.",
    Origin.HOTPLUG: "Ask the firmware's vendor whether what SRAT calls hot-plugged is convertible; if not,"
    f" plug it in after TDX is up, {_MEMMAP}.",
    Origin.ADDED: f"Add that memory after TDX is up, when the kernel refuses it, {_MEMMAP}; {_NOT_ENOUGH}.",
    Origin.NO_CPU: "See what memory a node without CPUs has (`numactl -H`, `cxl list`): have the BIOS set CXL"
    f" or high-bandwidth memory aside (Specific Purpose), {_MEMMAP}.",
}
_TAKE_AWAY = Remedy(
    RemedyKind.REMOVE_ARGUMENTS,
    f"Take {_SPECIAL} off the kernel's command line: it makes RAM of what the firmware has set aside, such as"
    " CXL or high-bandwidth memory.",
    (_SPECIAL,),
)


def look(signs: Signs) -> Findings:
    """How much no CMR covers, and what comes of it."""
    plan = signs.plan
    if plan is None or not plan.not_convertible_bytes:
        return
    size = plan.not_convertible_bytes
    rejected = plan.outcome is Outcome.REJECTED
    effect = "the TDX module rejects the plan" if rejected else "a guest that gets such a page fails later"
    text = f"{show_size(size)} of memory lie outside every CMR: {effect}."
    remedies: list[Remedy] = []
    # Where the plan fails, or the kernel may refuse such memory, they belong to that.
    if plan.outcome is Outcome.OK and signs.asks_what_to_do and not _may_be_refused(signs):
        remedies = _kept_off(signs, lambda: keep_off(signs.facts, plan.strategy))
    yield Finding("not-convertible", NOTE, text, {"not_convertible_bytes": size}, tuple(remedies))


def _may_be_refused(signs: Signs) -> list[Range]:
    return [] if _is_up(signs) else refused_regions(signs.facts, signs.strategy.strategy)


def _kept_off(signs: Signs, make: Callable[[], list[Remedy]]) -> list[Remedy]:
    return signs.guard.part("remedies (which memory to keep off)", make, list[Remedy]())


def refused_by_walk(signs: Signs) -> Findings:
    """Memory regions in no single CMR: some kernels that walk the CMRs give up on the first of them."""
    facts, plan = signs.facts, signs.plan
    if refused := _may_be_refused(signs):
        remedies: list[Remedy] = []
        if plan is not None and signs.asks_what_to_do:
            remedies = _kept_off(signs, lambda: keep_apart(facts, plan.strategy))
        text = f"{show_size(total(refused))} of memory lie in regions that no single CMR holds: by its image,"
        text += " this kernel may take none of these, and give up (errno -22)."
        yield Finding(SEVERAL, RISK, text, {"bytes": total(refused)}, tuple(remedies), Certainty.HOLES)


def by_name(signs: Signs) -> Findings:
    """Memory of kinds that firmware rarely makes convertible; CMRs, and a TDX that is up, know better."""
    facts = signs.facts
    if facts.memory_regions is None or facts.cmrs is not None or _is_up(signs):
        return
    sizes, devices = _in_use(facts)
    kinds = [f"{show_size(size)} {_WHAT[origin]}{devices[origin]}" for origin, size in sizes.items()]
    remedies = [Remedy(RemedyKind.CONVERTIBLE_MEMORY, _REMEDIES[origin]) for origin in sizes]
    if _asks_for_special(facts):
        remedies.append(_TAKE_AWAY)
        kinds = kinds or [f"an unknown amount, by {_SPECIAL}"]
    if kinds:
        text = f"Memory that is most likely not convertible is in use: {', '.join(kinds)}. The TDX module"
        text += " rejects a plan with such memory."
        figures = {f"{origin}_bytes": size for origin, size in sizes.items()}
        # More of the map mends it as little as too many holes.
        yield Finding(BY_NAME, RISK, text, figures, tuple(remedies), Certainty.HOLES)


def _is_up(signs: Signs) -> bool:
    """Whether the log of this boot shows that the module has taken this memory."""
    log = signs.facts.kernel_log
    return log is not None and log.state is ModuleState.INITIALIZED and not signs.what_if


def _in_use(facts: HostFacts) -> tuple[Counter[Origin], dict[Origin, str]]:
    """How much of each kind is in the memory regions, and whose it is."""
    regions = [(region.start, region.end) for region in facts.memory_regions or ()]
    sizes: Counter[Origin] = Counter()
    devices: dict[Origin, str] = {}
    for origin in {suspect.origin: None for suspect in facts.suspects}:
        own = [suspect for suspect in facts.suspects if suspect.origin is origin]
        if size := total(intersect(regions, ((s.start, s.end) for s in own))):
            sizes[origin] = size
            devices[origin] = f" ({own[0].device})" if own[0].device else ""
    return sizes, devices


def _asks_for_special(facts: HostFacts) -> bool:
    """Whether ``efi=`` makes RAM of memory that the firmware has set aside (EFI_MEMORY_SP)."""
    values = [
        arg.removeprefix("efi=").split(",") for arg in facts.command_line or () if arg.startswith("efi=")
    ]
    return any("nosoftreserve" in value for value in values)
