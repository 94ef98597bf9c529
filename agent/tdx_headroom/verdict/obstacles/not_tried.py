# SPDX-License-Identifier: Apache-2.0
"""A TDX host whose log shows no attempt at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import one_line
from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.command_line import asks_for_tdx, misspelt_tdx
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Remedy, RemedyKind, Signs
from tdx_headroom.verdict.kernels import look_up
from tdx_headroom.verdict.obstacles.log_limits import ends_early
from tdx_headroom.verdict.this_kernel import known_start

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

KINDS = (
    "not-tried-by-kernel",
    "not-tried-at-boot",
    "kvm-without-virtualization",
    "kvm-without-tdx",
    "not-tried",
)


def look(signs: Signs) -> Findings:
    """The first reason that is seen."""
    log = signs.facts.kernel_log
    if log is not None and log.state is ModuleState.NOT_ATTEMPTED and not signs.what_if:
        kind, remedy = _why(signs.facts)
        if kind == "not-tried" and ends_early(signs.facts):
            return
        yield Finding(kind, NOTE, remedy.text, remedies=(remedy,))


def _why(facts: HostFacts) -> tuple[str, Remedy]:
    platform = facts.platform
    row = look_up(facts.kernel_release)
    starts = known_start(facts).starts
    if starts is Starts.NEVER:
        name = "this kernel" if row is None else row.name
        text = f"TDX was not tried: {name} does not; boot 6.16 or later, or a vendor's TDX kernel."
        return "not-tried-by-kernel", Remedy(RemedyKind.CHANGE_KERNEL, text)
    if starts is Starts.BOOT:
        text = (
            "This kernel initializes TDX at boot, and the log shows no attempt: see that the SEAM loader"
            " is enabled in the BIOS, and look for what the kernel says of tdx (`journalctl -k -b`)."
        )
        return "not-tried-at-boot", Remedy(RemedyKind.FIRMWARE_SETTING, text)
    if platform is not None and platform.enable_virt_at_load is False:
        text = "TDX was not tried: KVM does not without kvm.enable_virt_at_load=1; take the 0 away."
        return "kvm-without-virtualization", Remedy(RemedyKind.LOAD_KVM, text)
    if platform is not None and platform.kvm_intel_tdx is False:
        text = (
            "TDX was not tried, or KVM gave up: load kvm_intel with tdx=1, and look for kvm lines in the log."
        )
        return "kvm-without-tdx", Remedy(RemedyKind.LOAD_KVM, text)
    arguments = facts.command_line or ()
    text = "TDX was not tried in this boot: load kvm_intel with tdx=1."
    if asks_for_tdx(arguments) is False:
        text = "TDX was not tried: the command line turns it off; the last kvm_intel.tdx= counts, make it 1."
    elif not asks_for_tdx(arguments) and (misspelt := misspelt_tdx(arguments)):
        text = f"TDX was not tried: no kernel knows {one_line(misspelt, 60)}; write kvm_intel.tdx=1."
    elif asks_for_tdx(arguments):
        text = (
            "kvm_intel.tdx=1 is given but nothing happened: see that kvm_intel is loaded, that"
            " virtualization and the SEAM loader are enabled in the BIOS, and that the BIOS leaves memory"
            " below 1 MiB out of the CMRs."
        )
    return "not-tried", Remedy(RemedyKind.LOAD_KVM, text)
