# SPDX-License-Identifier: Apache-2.0
"""What the running boot has shown of its kernel: the same kernel does it again, on whichever command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.boot_arguments import KVM_VIRTUALIZATION
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.command_line import asks_for_tdx, switch
from tdx_headroom.facts.kernel_report import KVM_REASONS, FailureReason, ModuleState
from tdx_headroom.plan import plans_of
from tdx_headroom.verdict.evidence import find_strategy
from tdx_headroom.verdict.findings import MAP_REASONS
from tdx_headroom.verdict.kernels import look_up
from tdx_headroom.verdict.late_memory import at_boot
from tdx_headroom.verdict.model import Basis
from tdx_headroom.verdict.this_kernel import likely_start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.kernel_report import KernelReport
    from tdx_headroom.verdict.model import StrategyFinding

_LATE_REASONS = (
    *MAP_REASONS,
    FailureReason.NO_MEMORY,
    FailureReason.NOT_CONVERTIBLE,
    FailureReason.RBP_BUG,
    FailureReason.METADATA,
    FailureReason.SEAMCALL,
)
"""Failures that a kernel comes to only after it has looked at hibernation."""


_SWITCHES = {
    FailureReason.KVM_EPT: ("kvm_intel.ept",),
    FailureReason.KVM_MMU: ("kvm.tdp_mmu", "kvm.mmio_caching", "kvm_intel.eptad", "kvm_intel.ept"),
    FailureReason.KVM_APICV: ("kvm_intel.enable_apicv",),
    FailureReason.KVM_VIRTUALIZATION: (KVM_VIRTUALIZATION,),
}
"""What may be off where KVM gives TDX up, by the reason that it names."""


class Shown(NamedTuple):
    """What a kernel has done in the running boot.

    Args:
        tried: whether it tried to initialize TDX, with whatever result.
        up: whether that succeeded.
        built: whether it has shown that it is built with TDX for hosts.
        past_hibernation: whether it came further than where others look at hibernation.
        strategy: how it looks for holes, by what happened; None where that tells nothing.
    """

    tried: bool = False
    up: bool = False
    built: bool = False
    past_hibernation: bool = False
    strategy: StrategyFinding | None = None


NOTHING = Shown()


def came_past_hibernation(log: KernelReport | None) -> bool:
    """Whether the kernel has come to what follows its look at hibernation, if it takes any."""
    return log is not None and (log.state is ModuleState.INITIALIZED or log.reason in _LATE_REASONS)


def is_up(facts: HostFacts) -> bool:
    """Whether TDX is up in the running boot, by sysfs or a log that nothing contradicts."""
    log, platform = facts.kernel_log, facts.platform
    if platform is not None and platform.tdx_module_version is not None:
        return True
    return log is not None and log.state is ModuleState.INITIALIZED and not log.contradictions


def shown_by(facts: HostFacts) -> Shown:
    """What the running boot has shown; makes the plans of its memory map where they matter.

    Args:
        facts: of the host as it runs.
    """
    log, up = facts.kernel_log, is_up(facts)
    failed = log is not None and log.state is ModuleState.FAILED and not log.contradictions
    if not (up or failed):
        return Shown(built=_is_built(facts))
    at = at_boot(facts)
    found = find_strategy(at, plans_of(at))
    return Shown(
        tried=True,
        up=up,
        built=True,
        past_hibernation=up or came_past_hibernation(log),
        strategy=found if found.basis in (Basis.EVIDENCE, Basis.SEVERAL) else None,
    )


def _is_built(facts: HostFacts) -> bool:
    """Whether the running kernel has TDX for hosts: it names the KeyIDs, or sets its flag."""
    log, platform = facts.kernel_log, facts.platform
    keyids = log is not None and log.keyids is not None and not log.contradictions
    return keyids or (platform is not None and bool(platform.tdx_host_platform))


def of_other_kernel(shown: Shown, facts: HostFacts, release: str | None) -> Shown:
    """What of that holds for another kernel, or for a new build of this one: how its vendor's kernels are.

    Args:
        shown: by the running boot.
        facts: of the host as it runs.
        release: of the other kernel.
    """
    row = look_up(release)
    kin = row is not None and not row.mainline and row == look_up(facts.kernel_release)
    return Shown(past_hibernation=kin and shown.past_hibernation)


def kvm_is_asked_elsewhere(facts: HostFacts, release: str | None) -> bool:
    """Whether something that is there in a boot of another kernel, too, has turned ``kvm_intel.tdx`` on.

    It is neither the running command line nor modprobe's configuration: a unit that loads the module, or the
    default of a vendor's kernel, which counts for that vendor's kernels alone.

    Args:
        facts: of the host as it runs.
        release: of the kernel in question.
    """
    platform, boots = facts.platform, facts.boots
    on = None if platform is None else platform.kvm_intel_tdx
    if on is None:
        on = is_up(facts) and likely_start(facts).starts is Starts.KVM_LOAD
    if not on or facts.command_line is None or asks_for_tdx(facts.command_line):
        return False
    if boots is not None and boots.kvm_intel_tdx:
        return False
    row = look_up(facts.kernel_release)
    return release == facts.kernel_release or (row is not None and (row.mainline or row == look_up(release)))


def refuses_again(facts: HostFacts, arguments: Sequence[str]) -> bool:
    """Whether what made KVM give TDX up in the running boot may be there under another command line.

    Where that line or modprobe's configuration turns it off, each tells so itself.

    Args:
        facts: of the host as it runs.
        arguments: of the other command line.
    """
    log = facts.kernel_log
    if log is None or log.reason not in KVM_REASONS:
        return True
    names = _SWITCHES[log.reason]
    options = () if facts.boots is None else facts.boots.kvm_loading.options
    known = any(switch(line, name) is False for line in (facts.command_line or (), options) for name in names)
    return not known and not all(switch(arguments, name) for name in names)
